"""A model directory is whole, or it is refused with the reason."""

import json

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.model import Normalisation, finish_model, open_model
from pycaffe_tools.nets.netgraph import NetGraph

COUNTS = {"c1": 2, "c2": 2, "c3": 2, "fc4": 2}


@pytest.fixture
def folder(tmp_path):
    text = paper.deploy_prototxt(COUNTS, "tiny")
    (tmp_path / "deploy.prototxt").write_text(text)
    net = NetGraph(parse_prototxt(text))
    blobs = {layer.name: [np.ones(shape, np.float32) for shape in net.parameter_shapes(layer)] for layer in net.layers}
    write_weights(tmp_path / "weights.caffemodel", net, blobs)
    finish_model(tmp_path, name="tiny", normalisation={"mean": 100.0, "std": 20.0}, patch_size=32,
                 pixel_size_nm=[None, 4.0, 5.0], counts=COUNTS, threshold=0.7, provenance={})
    return tmp_path


def test_what_was_written_is_read(folder):
    model = open_model(folder)
    assert (model.name, model.threshold, model.patch_size, model.counts) == ("tiny", 0.7, 32, COUNTS)
    assert model.pixel_size_nm == [None, 4.0, 5.0]
    assert model.net().parameter_count() == sum(
        blob.size for blobs in model.load_weights().values() for blob in blobs)


def test_normalisation_is_that_of_the_docstring():
    grey = np.array([[60, 100, 140]], np.uint8)
    result = Normalisation(100.0, 20.0).apply(grey)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[-2, 0, 2]])


def test_a_changed_weights_file_is_refused(folder):
    with open(folder / "weights.caffemodel", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(UserError, match="weights.caffemodel: is missing or not the file"):
        open_model(folder)


def test_an_unfinished_or_absent_model_is_refused(folder):
    (folder / "model.json").unlink()
    with pytest.raises(UserError, match="not a whole model directory"):
        open_model(folder)
    with pytest.raises(UserError, match="no such model directory"):
        open_model(folder / "absent")


def test_a_model_json_without_a_field_is_refused_by_name(folder):
    info = json.loads((folder / "model.json").read_text())
    del info["threshold"]
    (folder / "model.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="lacks the field threshold"):
        open_model(folder)


def change(folder, edit):
    info = json.loads((folder / "model.json").read_text())
    edit(info)
    (folder / "model.json").write_text(json.dumps(info))


@pytest.mark.parametrize("field, value, sentence", [
    ("name", "", "its field name is '', where a text is needed"),
    ("name", ["N"], "its field name is .'N'., where a text"),
    ("format", 2, "is of format 2, and this program reads format 1"),
    ("normalisation", {"mean": 1.0, "std": 0}, "its field normalisation.std is 0, where a number above 0 is needed"),
    ("normalisation", {"mean": 1.0, "std": -1}, "its field normalisation.std is -1"),
    ("normalisation", {"mean": "100", "std": 1}, "its field normalisation.mean is '100', where a number"),
    ("normalisation", {"mean": 100}, "lacks the field normalisation.std"),
    ("normalisation", {"by": "slice"}, "its field normalisation.by is 'slice', where stack is needed"),
    ("normalisation", {"by": "stack", "stacks": [{"sha256": "0", "mean": 1, "std": 0}]},
     r"its field normalisation.stacks.0..std is 0, where a number above 0"),
    ("normalisation", 3, "its field normalisation is 3, where an object"),
    ("patch_size", "x", "its field patch_size is 'x', where a whole number from 1 on"),
    ("patch_size", True, "its field patch_size is True"),
    ("pixel_size_nm", "abc", "its field pixel_size_nm is 'abc', where a list of 3"),
    ("pixel_size_nm", False, "its field pixel_size_nm is False"),
    ("pixel_size_nm", [1, 2, -3], r"its field pixel_size_nm.2. is -3, where a number above 0"),
    ("counts", [1], r"its field counts is .1., where an object"),
    ("counts", {"c1": 0}, "its field counts.c1 is 0, where a whole number from 1 on"),
    ("threshold", -1, "its field threshold is -1, where a number from 0 on"),
    ("threshold", None, "its field threshold is null, where a number"),
    ("files", {"deploy.prototxt": 3}, "its field files.deploy.prototxt is 3, where a text"),
])
def test_a_field_that_cannot_be_is_refused_by_name(folder, field, value, sentence):
    change(folder, lambda info: info.update({field: value}))
    with pytest.raises(UserError, match=f"model.json: {sentence}"):
        open_model(folder)


def test_a_model_json_of_another_network_is_refused(folder):
    change(folder, lambda info: info.update(patch_size=33))
    with pytest.raises(UserError, match="says that patches have 33 pixels a side, but deploy.prototxt takes 32x32"):
        open_model(folder).net()
    change(folder, lambda info: info.update(patch_size=32, counts={**COUNTS, "c2": 3}))
    with pytest.raises(UserError, match="says that layer c2 has 3 features, but in deploy.prototxt it has 2"):
        open_model(folder).net()


def test_an_accuracy_may_be_missing_but_not_nonsense(folder):
    assert open_model(folder).validation_accuracy is None
    change(folder, lambda info: info.update(validation={"accuracy": 0.9}))
    assert open_model(folder).validation_accuracy == 0.9
    change(folder, lambda info: info.update(validation={"accuracy": "good"}))
    with pytest.raises(UserError, match="model.json: its field validation.accuracy is 'good', where a number from 0 to 1"):
        open_model(folder).validation_accuracy  # noqa: B018


def test_a_model_normalised_by_stack_knows_its_stacks(folder):
    change(folder, lambda info: info.update(normalisation={"by": "stack", "stacks": [
        {"sha256": "aa", "dataset": None, "mean": 1, "std": 2}, {"sha256": "bb", "dataset": "/raw", "mean": 3, "std": 4}]}))
    model = open_model(folder)
    assert model.normalised_by_stack
    assert model.normalisation_of_training_stack("aa") == Normalisation(1, 2)
    assert model.normalisation_of_training_stack("bb", "/raw") == Normalisation(3, 4)
    assert model.normalisation_of_training_stack("bb") is None
    with pytest.raises(UserError, match="was trained with --normalise stack"):
        model.normalisation  # noqa: B018

"""A model directory is whole, or it is refused with the reason."""

import json

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.caffemodel import write_weights
from pycaffe_tools.nets.model import Normalisation, finish_model, open_model
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.nets.schema import parse_prototxt

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

"""A model of stacks that were normalised one by one is applied to a volume with the volume's own normalisation."""

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import read_json, sha256, write_json
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.segment.segmentation import Segmentation
from pycaffe_tools.volumes.opening import open_volume

from .cases import GREY, MEAN, STD, make_model, needs_an_engine, request, write_volume

pytestmark = needs_an_engine


def normalised(folder, normalisation):
    """A model with this entry in its model.json."""
    directory = make_model(folder)
    info = read_json(directory / "model.json")
    write_json(directory / "model.json", {**info, "normalisation": normalisation})
    return directory


def read_all(path):
    with open_volume(path) as volume:
        return np.stack([volume.read(z) for z in range(volume.shape[0])])


@pytest.fixture(scope="module")
def by_stack(tmp_path_factory):
    return normalised(tmp_path_factory.mktemp("by_stack") / "model", {"by": "stack", "stacks": []})


def test_a_new_volume_has_the_normalisation_of_its_own_grey_values(by_stack, whole, tmp_path):
    wide = np.round(GREY * 100.0 + 3000).astype(np.uint16)       # another camera, the same picture
    out = tmp_path / "p.tif"
    segment(request(write_volume(tmp_path / "wide.tif", wide), out, by_stack))
    expected = normalised(tmp_path / "fixed", {"mean": float(wide.mean()), "std": float(wide.std())})
    segment(request(tmp_path / "wide.tif", tmp_path / "e.tif", expected))
    np.testing.assert_allclose(read_all(out), read_all(tmp_path / "e.tif"), atol=1e-6)
    own = normalised(tmp_path / "narrow", {"mean": float(GREY.mean()), "std": float(GREY.std())})
    segment(request(write_volume(tmp_path / "raw.tif", GREY), tmp_path / "n.tif", own))
    np.testing.assert_allclose(read_all(out), read_all(tmp_path / "n.tif"), atol=1e-4)
    assert np.abs(read_all(out) - read_all(whole)).max() > 1e-3


def test_parts_and_crops_are_normalised_as_the_whole(by_stack, raw, tmp_path):
    segment(request(raw, tmp_path / "whole.tif", by_stack))
    segment(request(raw, tmp_path / "part.tif", by_stack, slices="1:2", crop="5:30,10:40"))
    np.testing.assert_allclose(read_all(tmp_path / "part.tif"), read_all(tmp_path / "whole.tif")[1:2, 5:30, 10:40], atol=1e-6)


def test_a_stack_of_the_training_has_the_normalisation_of_the_training(raw, whole, tmp_path):
    model = normalised(tmp_path / "model", {"by": "stack", "stacks": [
        {"sha256": "0", "dataset": None, "mean": 1, "std": 1}, {"sha256": sha256(raw), "dataset": None, "mean": MEAN, "std": STD}]})
    segment(request(raw, tmp_path / "p.tif", model))
    np.testing.assert_array_equal(read_all(tmp_path / "p.tif"), read_all(whole))


def test_the_record_names_the_normalisation_and_no_warning_compares_grey_values(by_stack, tmp_path):
    dim = write_volume(tmp_path / "dim.tif", GREY // 8)
    work = Segmentation(request(dim, tmp_path / "p.tif", by_stack))
    held = work.manifest["model"]["normalisation"]
    np.testing.assert_allclose((held["mean"], held["std"]), ((GREY // 8).mean(), (GREY // 8).std()), rtol=1e-12)
    assert work.warnings == []
    work.close()


def test_who_needs_one_normalisation_is_told_that_there_is_none(by_stack):
    with pytest.raises(UserError, match="--normalise stack") as error:
        tuple(open_model(by_stack).normalisation)
    assert "\n" not in str(error.value)

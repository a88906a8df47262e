"""A model, a volume and its segmentation, for all tests of this folder."""

import pytest

from pycaffe_tools.segment.__main__ import segment

from .cases import GREY, make_model, request, write_volume


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("segment") / "model")


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("segment") / "raw.tif", GREY)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, model, raw):
    """Probabilities of the whole volume."""
    out = tmp_path_factory.mktemp("segment") / "p.tif"
    segment(request(raw, out, model))
    return out

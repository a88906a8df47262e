"""Two models and a folder that is filled, for all tests of this folder."""

import pytest

from ..segment.cases import make_model

THRESHOLD = 0.26
"""At which about half of the pixels are membrane."""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("watch") / "model", threshold=THRESHOLD)


@pytest.fixture(scope="session")
def fast(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("watch") / "fast", seed=2, threshold=0.3)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    return folder

"""The stack that most tests of patches draw from."""

import pytest

from .cases import membrane, numbered, saved


@pytest.fixture
def pair(tmp_path):
    """Pixel numbers as grey values, and labels of which a fifth is membrane."""
    return saved(tmp_path, numbered(), membrane())

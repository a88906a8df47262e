"""Volumes, labels and databases that the tests of patches share.

The raw volume of most tests holds its own pixel numbers as grey values, so
that a patch says where it comes from.
"""

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.patches.making import make_database
from pycaffe_tools.patches.shards import read_rows
from pycaffe_tools.patches.sources import LabelledStack

SHAPE = (8, 40, 50)


def numbered(shape=SHAPE, start=0):
    """Grey values that are pixel numbers; exact in float32."""
    return (start + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def membrane(shape=SHAPE, seed=0):
    """Labels of which a fifth is membrane, at random pixels, so that no two neighbours tell of each other."""
    return np.where(np.random.default_rng(seed).random(shape) < 0.2, 255, 0).astype(np.uint8)


def saved(folder, raw, labels, name=""):
    raw_path, labels_path = folder / f"{name}raw.tif", folder / f"{name}labels.tif"
    tifffile.imwrite(raw_path, raw, photometric="minisblack", metadata={"pixel_size_nm": {"z": 50, "y": 4, "x": 5}})
    tifffile.imwrite(labels_path, labels, photometric="minisblack")
    return LabelledStack(str(raw_path), str(labels_path))


def make(stacks, out, train=600, val=200, labels_are="membrane", **options):
    return make_database([stacks] if isinstance(stacks, LabelledStack) else stacks, out, labels_are, train=train, val=val, **options)


def grey_and_label(database, split):
    """All patches of a split in grey values, and their labels."""
    shards = getattr(database, split)
    data, label = read_rows(shards, np.arange(getattr(database, f"{split}_count")))
    mean, std = database.normalisation
    return data[:, 0].astype(np.float64) * std + mean, label


def pixels(database, split):
    """Number of the pixel on which each patch is centred, and its label."""
    grey, label = grey_and_label(database, split)
    return np.rint(grey[:, 16, 16]).astype(np.int64), label


def check_refused(tmp_path, stacks, said, **options):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=said) as error:
        make(stacks, tmp_path / "db", **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before, "something was left behind"


def changed(tmp_path, raw=None, labels=None):
    return saved(tmp_path, numbered() if raw is None else raw, membrane() if labels is None else labels)

"""Excluded pixels count nowhere: in no class, no statistics, no check."""

import numpy as np
import pytest
import tifffile

from pycaffe_tools.patches.shards import read_pixels, read_rows

from .cases import SHAPE, check_refused, make, membrane, numbered, pixels, saved


def test_excluded_pixels_are_of_no_class(tmp_path, pair):
    mask = (np.random.default_rng(5).random(SHAPE) < 0.3).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    database = make(pair._replace(exclude=str(tmp_path / "mask.tif")), tmp_path / "db", train=2000)
    numbers, _ = pixels(database, "train")
    assert not mask.ravel()[numbers].any()
    counts = database.info["train"]["pixels"]
    assert counts["excluded"] == mask[:6].sum() and sum(counts.values()) == mask[:6].size


def test_class_balance_is_that_of_the_validation_slices(tmp_path, pair):
    assert make(pair, tmp_path / "db").info["class_balance"] == (membrane()[6:] == 255).mean()


@pytest.fixture
def framed(tmp_path):
    """A stack in an empty frame, the mask that excludes it, and the stack by itself."""
    inner = (numbered((8, 24, 28)) % 97).astype(np.uint8) + 100
    grey, marks, mask = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)
    place = np.s_[:, 8:32, 10:38]
    grey[place], marks[place], mask[place] = inner, membrane((8, 24, 28)), 0
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    return saved(tmp_path, grey, marks)._replace(exclude=str(tmp_path / "mask.tif")), inner, marks


def test_the_normalisation_leaves_excluded_pixels_out(tmp_path, framed):
    stack, inner, _ = framed
    database = make(stack, tmp_path / "db")
    np.testing.assert_allclose(database.normalisation, (inner[:6].mean(), inner[:6].std()), rtol=1e-12)
    assert database.info["normalisation_leaves_out"] == "excluded pixels"
    assert "normalisation_leaves_out" not in make(stack._replace(exclude=None), tmp_path / "all").info


def test_nan_under_the_mask_is_fine_and_becomes_the_mean_in_patches(tmp_path, framed):
    stack, inner, marks = framed
    first = make(stack, tmp_path / "one")
    grey = tifffile.imread(stack.raw).astype(np.float32)
    mask = tifffile.imread(stack.exclude)
    grey[mask > 0] = np.nan
    tifffile.imwrite(stack.raw, grey)
    second = make(stack, tmp_path / "two")
    np.testing.assert_allclose(first.normalisation, second.normalisation, rtol=1e-12)
    patches, _ = read_rows(second.train, range(second.train_count))
    _, z, y, x = read_pixels(second.train).T
    filled = np.where(mask > 0, 0, (grey - second.normalisation.mean) / second.normalisation.std)
    for patch, at, row, column in zip(patches[:50, 0], z, y, x):
        expected = np.pad(filled[at], (16, 15), "reflect")[row:row + 32, column:column + 32]
        np.testing.assert_allclose(patch, expected, atol=1e-4)
    check_refused(tmp_path, stack._replace(exclude=None), "NaN.*--exclude")


def test_excluded_pixels_do_not_hide_inverted_labels(tmp_path, framed):
    stack, _, marks = framed
    mask = tifffile.imread(stack.exclude)
    tifffile.imwrite(stack.labels, np.where(mask > 0, 0, 255 - marks), photometric="minisblack")
    check_refused(tmp_path, stack, "80 % .*|[78][0-9] % of the pixels are marked.*--membrane-value 0")


def test_a_mask_of_everything_leaves_no_pixel(tmp_path, framed):
    stack, _, _ = framed
    tifffile.imwrite(stack.exclude, np.ones(SHAPE, np.uint8))
    check_refused(tmp_path, stack, "no membrane pixel.*masks")


def test_a_mask_may_be_of_any_integer_type(tmp_path, framed):
    stack, inner, _ = framed
    tifffile.imwrite(stack.exclude, tifffile.imread(stack.exclude).astype(np.int64))
    np.testing.assert_allclose(make(stack, tmp_path / "db").normalisation, (inner[:6].mean(), inner[:6].std()), rtol=1e-12)

"""What the values of labels mean: membrane, filled mitochondria, instances, values to ignore, of any integer type."""

import numpy as np
import pytest
import tifffile

from pycaffe_tools.patches.labels import rim_inside

from .cases import SHAPE, check_refused, make, membrane, numbered, pixels, saved


def test_rim_is_the_outline_inside_the_mask():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((6, 7)) < 0.6, np.ones((9, 9), bool))
    for width in (1, 2.5, 4):
        expected = np.zeros_like(mask)
        outside = np.argwhere(~mask)
        for y, x in np.argwhere(mask):
            expected[y, x] = np.hypot(*(outside - (y, x)).T).min() <= width
        np.testing.assert_array_equal(rim_inside(mask, width), expected)
    assert not rim_inside(np.ones((9, 9), bool), 3).any()      # the image's border is no outline
    touching = np.zeros((9, 9), bool)
    touching[:, :5] = True
    np.testing.assert_array_equal(np.flatnonzero(rim_inside(touching, 2)[4]), [3, 4])


def test_filled_mitochondria_train_on_their_outline(tmp_path):
    masks = np.zeros(SHAPE, np.uint8)
    masks[:, 8:30, 10:35] = 255
    pair = saved(tmp_path, numbered(), masks)
    numbers, label = pixels(make(pair, tmp_path / "db", labels_are="mitochondria", rim=3), "train")
    _, y, x = np.unravel_index(numbers, SHAPE)
    depth = np.minimum(np.minimum(y - 7, 30 - y), np.minimum(x - 9, 35 - x))
    np.testing.assert_array_equal(label == 1, (depth >= 1) & (depth <= 3))
    assert np.any(depth[label == 0] > 3)        # the inside is not membrane


def test_added_labels_are_membrane_as_well(tmp_path, pair):
    other = membrane(seed=9)
    tifffile.imwrite(tmp_path / "other.tif", other)
    database = make(pair._replace(add_labels=str(tmp_path / "other.tif")), tmp_path / "db", train=2000)
    both = (membrane() == 255) | (other == 255)
    numbers, label = pixels(database, "train")
    np.testing.assert_array_equal(label == 1, both.ravel()[numbers])
    assert database.info["train"]["pixels"]["positive"] == both[:6].sum()


@pytest.mark.parametrize("coding, value", [
    (lambda m: 255 - m, 0), (lambda m: m // 255, 255), (lambda m: m > 0, 255), (lambda m: m.astype(np.uint16) * 257, 255)])
def test_codings_of_the_same_labels_give_the_same_patches(tmp_path, pair, coding, value):
    first = make(pair, tmp_path / "one")
    second = make(saved(tmp_path, numbered(), coding(membrane())), tmp_path / "two", membrane_value=value)
    for split in ("train", "val"):
        for one, two in zip(pixels(first, split), pixels(second, split)):
            np.testing.assert_array_equal(one, two)


# Values as people have them

@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64, np.float64])
def test_labels_may_be_of_any_type(tmp_path, pair, dtype):
    first = make(pair, tmp_path / "one")
    coded = saved(tmp_path, numbered(), (membrane() > 0).astype(dtype))
    np.testing.assert_array_equal(pixels(first, "train"), pixels(make(coded, tmp_path / "two"), "train"))


def test_one_and_two_need_the_value_that_is_membrane(tmp_path, pair):
    first = make(pair, tmp_path / "one")
    coded = saved(tmp_path, numbered(), np.where(membrane() > 0, 2, 1).astype(np.uint8))
    check_refused(tmp_path, coded, "values 1 and 2 .up to slice 0., and it is not clear.*--membrane-value 1 or --membrane-value 2")
    check_refused(tmp_path, coded, "values 1 and 2 .*, and not --membrane-value 3", membrane_value=3)
    second = make(coded, tmp_path / "two", membrane_value=2)
    np.testing.assert_array_equal(pixels(first, "train"), pixels(second, "train"))
    assert second.info["membrane_value"] == 2
    check_refused(tmp_path, coded, "try --membrane-value 2", membrane_value=1)


@pytest.mark.parametrize("ignored, dtype", [(255, np.uint8), (-1, np.int16), (2 ** 64 - 1, np.uint64), (7, np.float32)])
def test_a_value_to_ignore_is_of_no_class(tmp_path, ignored, dtype):
    out = np.random.default_rng(2).random(SHAPE) < 0.1
    labels = np.where(out, np.array(ignored, dtype), (membrane() > 0).astype(dtype))
    stack = saved(tmp_path, numbered(), labels)
    check_refused(tmp_path, stack, "holds the values (-1, 0 and 1|0, 1 and [0-9]+) .*--ignore-value.*--labels-are instances")
    database = make(stack, tmp_path / "db", ignore_values=[ignored], train=1200)
    numbers, label = pixels(database, "train")
    assert not out.ravel()[numbers].any()
    np.testing.assert_array_equal(label == 1, membrane().ravel()[numbers] > 0)
    assert database.info["train"]["pixels"]["excluded"] == out[:6].sum()
    assert database.info["ignore_values"] == [ignored]


def test_several_values_to_ignore_and_one_that_is_not_there(tmp_path):
    labels = membrane() // 255
    labels[:, :4], labels[:, 4:8] = 100, 200
    stack = saved(tmp_path, numbered(), labels)
    assert "warnings" not in make(stack, tmp_path / "one", ignore_values=[100, 200]).info
    clean = saved(tmp_path, numbered(), membrane(), "b_")
    said = make(clean, tmp_path / "two", ignore_values=[254]).info["warnings"]
    assert "holds no pixel of --ignore-value 254, only of 0 and 255; check" in said[0] and len(said) == 1
    check_refused(tmp_path, clean, "--ignore-value 255: is the --membrane-value", membrane_value=255, ignore_values=[255])


def numbered_cells():
    """Cells of 9 x 9 pixels with a number each, and walls of one pixel of value 0 between them."""
    y, x = np.indices(SHAPE[1:])
    cells = 1 + y // 10 * 5 + x // 10
    cells[(y % 10 == 9) | (x % 10 == 9)] = 0
    return np.stack([np.where(cells, cells + 100 * z, 0) for z in range(SHAPE[0])])


def test_numbered_cells_with_membrane_of_0_between_them(tmp_path):
    cells = numbered_cells().astype(np.uint16)
    stack = saved(tmp_path, numbered(), cells)
    check_refused(tmp_path, stack, "the values 0, 1, 2, 3, 4 and 16 more.*--labels-are instances")
    check_refused(tmp_path, stack, "--labels-are instances", membrane_value=0)
    database = make(stack, tmp_path / "db", labels_are="instances")
    numbers, label = pixels(database, "train")
    np.testing.assert_array_equal(label == 1, cells.ravel()[numbers] == 0)
    assert database.info["membrane_value"] == 0 and "warnings" not in database.info


def test_numbered_cells_that_touch_are_told_and_those_without_membrane_refused(tmp_path):
    cells = numbered_cells()
    cells[:, :, 9::10] = cells[:, :, 8::10]       # no wall to the right
    said = make(saved(tmp_path, numbered(), cells.astype(np.int32)), tmp_path / "one", labels_are="instances").info["warnings"]
    assert "cells touch each other" in said[0] and "value 0" in said[0]
    dense = np.maximum(cells, 1).astype(np.int32)
    check_refused(tmp_path, saved(tmp_path, numbered(), dense, "b_"), "no membrane pixel .*values 1, 2", labels_are="instances")


def test_cells_numbered_from_another_value_than_the_membranes(tmp_path):
    cells = numbered_cells().astype(np.int32) - 1
    cells[0, 0] = 5_000
    database = make(saved(tmp_path, numbered(), cells), tmp_path / "db", labels_are="instances", membrane_value=-1,
                    ignore_values=[5_000])
    numbers, label = pixels(database, "train")
    np.testing.assert_array_equal(label == 1, cells.ravel()[numbers] == -1)


def test_mitochondria_with_numbers_have_an_outline_each(tmp_path):
    masks = np.zeros(SHAPE, np.uint16)
    masks[:, 8:30, 10:20], masks[:, 8:30, 20:35] = 7, 300       # two that touch
    stack = saved(tmp_path, numbered(), masks)
    check_refused(tmp_path, stack, "0, 7 and 300.*--labels-are numbered-mitochondria", labels_are="mitochondria")
    numbers, label = pixels(make(stack, tmp_path / "db", labels_are="numbered-mitochondria", rim=2, train=2000), "train")
    _, y, x = np.unravel_index(numbers, SHAPE)
    side = np.minimum.reduce([abs(x - 9.5), abs(x - 19.5), abs(x - 34.5)]) + 0.5
    depth = np.minimum(np.minimum(y - 7, 30 - y), side)
    inside = (x >= 10) & (x < 35) & (y >= 8) & (y < 30)
    np.testing.assert_array_equal(label == 1, inside & (depth <= 2))
    check_refused(tmp_path, stack, "no meaning for numbered", labels_are="numbered-mitochondria", membrane_value=0)


def test_the_edge_of_ignored_pixels_is_no_outline():
    mask, unknown = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    mask[:, 3:8], unknown[:, 8:] = True, True
    np.testing.assert_array_equal(np.flatnonzero(rim_inside(mask, 2, unknown)[5]), [3, 4])


def test_labels_that_are_not_numbers_or_unknown_are_refused(tmp_path):
    labels = (membrane() > 0).astype(np.float32)
    labels[3, 4, 5] = np.nan
    check_refused(tmp_path, saved(tmp_path, numbered(), labels), "slice 3 of the labels holds NaN")
    check_refused(tmp_path, saved(tmp_path, numbered(), membrane()), "--labels-are cells: is not known", labels_are="cells")


def test_a_second_label_file_that_is_inverted_is_refused(tmp_path, pair):
    tifffile.imwrite(tmp_path / "other.tif", 255 - membrane(seed=9))
    check_refused(tmp_path, pair._replace(add_labels=str(tmp_path / "other.tif")), "other.tif: 80 % of the pixels are marked")

"""Several stacks in one database, and whether they and their labels belong together."""

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.patches.greys import GreyStatistics, own_normalisation
from pycaffe_tools.patches.shards import read_pixels, read_rows
from pycaffe_tools.patches.sources import LabelledStack
from pycaffe_tools.volumes.opening import open_volume

from .cases import SHAPE, check_refused, make, membrane, numbered, pixels, saved


def test_normalisation_is_of_the_training_slices_alone(tmp_path, pair):
    database = make(pair, tmp_path / "db")
    training = numbered()[:6].astype(np.float64)
    np.testing.assert_allclose(database.normalisation, (training.mean(), training.std()), rtol=1e-12)


def test_grey_statistics_keep_their_digits_far_from_zero():
    values = np.random.default_rng(0).normal(60_000, 1, (4, 50, 50)).astype(np.float32)
    statistics = GreyStatistics()
    for image in values:
        statistics.add(GreyStatistics.of(image))
    np.testing.assert_allclose((statistics.mean, statistics.std),
                               (values.mean(dtype=np.float64), values.std(dtype=np.float64)), rtol=1e-11)


def test_several_stacks_in_one_database(tmp_path, pair):
    size = int(np.prod(SHAPE))
    second = saved(tmp_path, numbered(start=size), membrane(seed=3), "b")
    database = make([pair, second], tmp_path / "db", train=2000, val=600, force=True)
    both = np.concatenate([membrane().ravel(), membrane(seed=3).ravel()])
    for split, slices in (("train", range(6)), ("val", (6, 7))):
        numbers, label = pixels(database, split)
        np.testing.assert_array_equal(label == 1, both[numbers] == 255)
        assert set(numbers // (SHAPE[1] * SHAPE[2])) == {z + 8 * stack for z in slices for stack in (0, 1)}


def test_one_stack_may_train_and_another_validate(tmp_path, pair):
    second = saved(tmp_path, numbered((3, 30, 30), start=16_000), membrane((3, 30, 30), 3), "b")
    database = make([pair._replace(val_slices="none"), second._replace(val_slices=":")], tmp_path / "db", force=True)
    assert pixels(database, "train")[0].max() < 16_000 <= pixels(database, "val")[0].min()


def test_pixel_size_is_kept_only_where_all_stacks_agree(tmp_path, pair):
    assert make(pair, tmp_path / "one").pixel_size_nm == [50, 4, 5]
    second = saved(tmp_path, numbered(start=16_000), membrane(seed=3), "b")
    tifffile.imwrite(second.raw, numbered(start=16_000), metadata={"pixel_size_nm": {"z": 30, "y": 4.001, "x": 5}})
    database = make([pair, second], tmp_path / "two", force=True)
    assert database.pixel_size_nm == [None, 4, 5]
    assert "along z is 30 nm" in database.info["warnings"][0] and "50 nm" in database.info["warnings"][0]


# Grey values that belong together

def grey_stack(folder, name, grey, mark, **options):
    """A stack of the grey values ``grey`` of membrane and of the rest, and its labels."""
    tifffile.imwrite(folder / f"{name}.tif", grey, photometric="minisblack")
    tifffile.imwrite(folder / f"{name}_labels.tif", mark, photometric="minisblack")
    return LabelledStack(str(folder / f"{name}.tif"), str(folder / f"{name}_labels.tif"), **options)


@pytest.fixture
def em():
    """Grey values of 8 bits with dark membranes, and labels."""
    mark = membrane()
    noise = np.random.default_rng(4).normal(0, 12, SHAPE)
    return (np.where(mark > 0, 90, 160) + noise).clip(0, 255).astype(np.uint8), mark


def test_stacks_of_two_bit_depths_are_refused_with_both_numbers(tmp_path, em):
    grey, mark = em
    first = grey_stack(tmp_path, "a", grey, mark)
    second = grey_stack(tmp_path, "b", grey[:, ::-1].astype(np.uint16) * 257, mark[:, ::-1])
    numbers = (f"b.tif: its grey values .uint16. have mean {grey[:6].mean() * 257:.1f} .*/a.tif .uint8. "
               f"{grey[:6].mean():.1f} .*--normalise stack")
    check_refused(tmp_path, [first, second], numbers)
    # The same values in two data types are two bit depths as well; the user may insist.
    third = grey_stack(tmp_path, "c", grey[:, ::-1].astype(np.uint16), mark[:, ::-1])
    check_refused(tmp_path, [first, third], "uint16")
    assert "uint16" in make([first, third], tmp_path / "forced", force=True).info["warnings"][0]


def test_stacks_with_far_apart_grey_values_are_refused_and_near_ones_are_not(tmp_path, em):
    grey, mark = em
    first = grey_stack(tmp_path, "a", grey, mark)
    check_refused(tmp_path, [first, grey_stack(tmp_path, "b", grey[:, ::-1] // 3, mark[:, ::-1])], "--normalise stack")
    near = grey_stack(tmp_path, "c", grey[:, ::-1] - np.uint8(10), mark[:, ::-1])
    database = make([first, near], tmp_path / "db")
    both = np.concatenate([grey[:6], grey[:6] - np.uint8(10)])
    np.testing.assert_allclose(database.normalisation, (both.mean(), both.std()), rtol=1e-12)


def test_stack_by_stack_each_has_mean_0_and_deviation_1_of_its_own(tmp_path, em):
    grey, mark = em
    first = grey_stack(tmp_path, "a", grey, mark)
    second = grey_stack(tmp_path, "b", grey[:, ::-1].astype(np.uint16) * 257, mark[:, ::-1])
    database = make([first, second], tmp_path / "db", normalise="stack", train=2000)
    assert database.normalisation is None and database.info["normalisation"] == {"by": "stack"}
    mean, std = grey[:6].mean(), grey[:6].std()
    for source, factor in zip(database.info["sources"], (1, 257)):
        np.testing.assert_allclose((source["normalisation"]["mean"], source["normalisation"]["std"]),
                                   (factor * mean, factor * std), rtol=1e-12)
    patches, _ = read_rows(database.train, range(2000))
    stack, z, y, x = read_pixels(database.train).T
    for number, raw in enumerate((grey, grey[:, ::-1])):
        own = stack == number
        np.testing.assert_allclose(patches[own, 0, 16, 16], (raw[z[own], y[own], x[own]] - mean) / std, atol=1e-4)
    held = database.model_normalisation()
    assert held["by"] == "stack" and [round(each["mean"] / mean) for each in held["stacks"]] == [1, 257]


def test_a_stack_that_only_validates_has_the_normalisation_of_its_own_slices(tmp_path, em):
    grey, mark = em
    first = grey_stack(tmp_path, "a", grey, mark, val_slices="none")
    second = grey_stack(tmp_path, "b", grey[:, ::-1] // 3, mark[:, ::-1], val_slices="2:4")
    own = make([first, second._replace(slices="2:4")], tmp_path / "db", normalise="stack").info["sources"][1]["normalisation"]
    expected = (grey[2:4] // 3).mean(), (grey[2:4] // 3).std()
    np.testing.assert_allclose((own["mean"], own["std"]), expected, rtol=1e-12)


@pytest.mark.parametrize("normalise", ["all", "stack"])
def test_a_stack_whose_membranes_are_bright_does_not_go_with_one_whose_membranes_are_dark(tmp_path, em, normalise):
    grey, mark = em
    grey = grey - np.uint8(20)          # mean near 127, so that inversion keeps it
    check_refused(tmp_path, [grey_stack(tmp_path, "a", grey, mark), grey_stack(tmp_path, "b", 255 - grey, mark)],
                  "b.tif: membrane is brighter .* darker in .*a.tif.*invert", normalise=normalise)


def test_the_normalisation_of_a_new_volume_is_its_own(tmp_path, em):
    grey, mark = em
    with open_volume(grey_stack(tmp_path, "a", grey, mark).raw) as volume:
        np.testing.assert_allclose(own_normalisation(volume), (grey.mean(), grey.std()), rtol=1e-12)
    with_nan = grey.astype(np.float32)
    with_nan[2, :20] = np.nan
    with open_volume(grey_stack(tmp_path, "b", with_nan, mark).raw) as volume:
        np.testing.assert_allclose(own_normalisation(volume), (np.nanmean(with_nan.astype(float)), np.nanstd(with_nan.astype(float))))
    with open_volume(grey_stack(tmp_path, "c", grey * 0, mark).raw) as volume, pytest.raises(UserError, match="c.tif.*no two"):
        own_normalisation(volume)

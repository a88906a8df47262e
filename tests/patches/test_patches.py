"""Patches: centred on their pixel, balanced, drawn fairly, split by slices, streamed, whole or not there.

The raw volume of most tests holds its own pixel numbers as grey values, so
that a patch says where it comes from.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.command import run
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.patches import database as patch_database
from pycaffe_tools.patches.__main__ import cli
from pycaffe_tools.patches.database import lists, open_database, read_pixels, read_rows
from pycaffe_tools.patches.making import make_database
from pycaffe_tools.patches.sampling import GreyStatistics, draw
from pycaffe_tools.patches.sources import Pair, outline
from pycaffe_tools.patches.window import extract_patches, reflect_pad

from ..conftest import ROOT

SHAPE = (8, 40, 50)


def numbered(shape=SHAPE, start=0):
    """Grey values that are pixel numbers; exact in float32."""
    return (start + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def membrane(shape=SHAPE, seed=0):
    """Labels of which a fifth is membrane, at random pixels, so that no two neighbours tell of each other."""
    return np.where(np.random.default_rng(seed).random(shape) < 0.2, 255, 0).astype(np.uint8)


@pytest.fixture
def pair(tmp_path):
    return saved(tmp_path, numbered(), membrane())


def saved(folder, raw, labels, name=""):
    raw_path, labels_path = folder / f"{name}raw.tif", folder / f"{name}labels.tif"
    tifffile.imwrite(raw_path, raw, photometric="minisblack", metadata={"pixel_size_nm": {"z": 50, "y": 4, "x": 5}})
    tifffile.imwrite(labels_path, labels, photometric="minisblack")
    return Pair(str(raw_path), str(labels_path))


def make(pairs, out, train=600, val=200, labels_are="membrane", **options):
    return make_database([pairs] if isinstance(pairs, Pair) else pairs, out, labels_are, train=train, val=val, **options)


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


# What a patch is

def test_classified_pixel_is_element_16_16_and_borders_are_mirrored():
    image = numbered((40, 50))
    ys, xs = np.divmod(np.arange(image.size), 50)
    cut = extract_patches(image, ys, xs)
    np.testing.assert_array_equal(cut[:, 16, 16], image[ys, xs])
    inside = extract_patches(image, np.array([20]), np.array([30]))[0]
    np.testing.assert_array_equal(inside, image[4:36, 14:46])
    # Mirrored without repeating the border pixel: row -1 is row 1.
    reflected = [[abs(y) if y < 40 else 78 - y for y in range(Y - 16, Y + 16)] for Y in ys]
    mirrored = [[abs(x) if x < 50 else 98 - x for x in range(X - 16, X + 16)] for X in xs]
    expected = image[np.array(reflected)[:, :, np.newaxis], np.array(mirrored)[:, np.newaxis, :]]
    np.testing.assert_array_equal(cut, expected)


def test_slices_smaller_than_the_border_are_mirrored_repeatedly():
    line = reflect_pad(np.array([[0, 1, 2]] * 3), 5, 4)[0]
    assert line.tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]


@pytest.mark.parametrize("size", [5, 8, 32])
def test_patches_of_other_sizes_follow_the_same_convention(size):
    image = numbered((40, 50))
    cut = extract_patches(image, np.array([20]), np.array([25]), size)[0]
    assert cut.shape == (size, size) and cut[size // 2, size // 2] == image[20, 25]


# What is drawn

def test_every_patch_is_its_pixels_surroundings_and_has_its_class(tmp_path, pair):
    database = make(pair, tmp_path / "db")
    raw, labels = numbered(), membrane()
    for split in ("train", "val"):
        grey, label = grey_and_label(database, split)
        numbers = np.rint(grey[:, 16, 16]).astype(int)
        np.testing.assert_array_equal(label, labels.ravel()[numbers] == 255)
        for patch, number in zip(grey[:60], numbers[:60]):
            z, y, x = np.unravel_index(number, SHAPE)
            np.testing.assert_allclose(patch, np.pad(raw[z], (16, 15), "reflect")[y:y + 32, x:x + 32], atol=0.01)


def test_classes_are_balanced_and_no_pixel_comes_twice(tmp_path, pair):
    database = make(pair, tmp_path / "db")
    for split, wanted in (("train", 600), ("val", 200)):
        numbers, label = pixels(database, split)
        assert label.tolist().count(1) == label.tolist().count(0) == wanted // 2
        assert len(set(numbers)) == wanted


def test_all_pixels_of_a_class_can_be_asked_for(tmp_path, pair):
    labels = membrane()
    wanted = 2 * int((labels[:6] == 255).sum())
    numbers, label = pixels(make(pair, tmp_path / "db", train=wanted), "train")
    assert sorted(numbers[label == 1]) == np.flatnonzero(labels[:6] == 255).tolist()


def test_training_and_validation_share_no_slice(tmp_path, pair):
    database = make(pair._replace(val_slices="0,3:5"), tmp_path / "db")
    slice_size = SHAPE[1] * SHAPE[2]
    drawn = {split: set(pixels(database, split)[0] // slice_size) for split in ("train", "val")}
    assert drawn == {"val": {0, 3, 4}, "train": {1, 2, 5, 6, 7}}
    source = database.info["sources"][0]
    assert source["val_slices"] == [0, 3, 4] and source["train_slices"] == [1, 2, 5, 6, 7]


def test_last_quarter_validates_by_default_and_slices_may_be_left_out(tmp_path, pair):
    def chosen(**options):
        source = make(pair._replace(**options), tmp_path / "db", force=True).info["sources"][0]
        return source["train_slices"], source["val_slices"]

    assert chosen() == ([0, 1, 2, 3, 4, 5], [6, 7])
    assert chosen(slices="0:5") == ([0, 1, 2, 3], [4])
    assert chosen(slices="0:3", val_slices="6:8") == ([0, 1, 2], [6, 7])


def test_rows_are_shuffled_already(tmp_path, pair):
    numbers, label = pixels(make(pair, tmp_path / "db", train=2000), "train")
    halves = label[:1000].sum()
    assert 440 < halves < 560       # five standard deviations
    assert abs(np.corrcoef(np.arange(2000), numbers)[0, 1]) < 0.1
    assert np.any(np.diff(label[:20]) != 0)


def test_normalisation_is_of_the_training_slices_alone(tmp_path, pair):
    database = make(pair, tmp_path / "db")
    training = numbered()[:6].astype(np.float64)
    np.testing.assert_allclose(database.normalisation, (training.mean(), training.std()), rtol=1e-12)


def test_grey_statistics_keep_their_digits_far_from_zero():
    values = np.random.default_rng(0).normal(60_000, 1, (4, 50, 50)).astype(np.float32)
    statistics = GreyStatistics()
    for image in values:
        statistics.add(image)
    np.testing.assert_allclose((statistics.mean, statistics.std),
                               (values.mean(dtype=np.float64), values.std(dtype=np.float64)), rtol=1e-11)


def test_draw_gives_each_pixel_the_same_chance():
    counts, times = [3, 0, 5, 12], 20_000
    hits = np.zeros(20)
    rng = np.random.default_rng(0)
    for _ in range(times):
        parts = draw(rng, counts, 7)
        drawn = np.concatenate([part + start for part, start in zip(parts, (0, 3, 3, 8))])
        assert len(set(drawn)) == 7
        hits[drawn] += 1
    expected = times * 7 / 20
    assert np.all(np.abs(hits - expected) < 5 * np.sqrt(expected))
    assert [part.tolist() for part in draw(rng, [2, 0, 1], 3)] == [[0, 1], [], [0]]


# Seeds

def test_equal_seeds_give_equal_arrays_and_other_seeds_others(tmp_path, pair):
    arrays = {}
    for name, options in {"a": {}, "b": {}, "c": {"seed": 1}, "d": {"shard_patches": 77}, "e": {"train": 100}}.items():
        database = make(pair, tmp_path / name, **options)
        arrays[name] = [*grey_and_label(database, "train"), *grey_and_label(database, "val")]
    for first, second in zip(arrays["a"], arrays["b"]):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(arrays["a"], arrays["d"]):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(arrays["a"][0], arrays["c"][0])
    np.testing.assert_array_equal(arrays["a"][2], arrays["e"][2])   # validation does not depend on --train


def test_storage_of_the_sources_does_not_matter(tmp_path, pair):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle.create_dataset("raw", data=numbered(), chunks=(3, 16, 16))
        handle.create_dataset("labels", data=membrane(), chunks=(8, 7, 9))
    first = make(pair, tmp_path / "one")
    second = make(Pair(f"{tmp_path}/a.h5:/raw", f"{tmp_path}/a.h5:/labels"), tmp_path / "two")
    for shards in ("train", "val"):
        for one, two in zip(grey_and_label(first, shards), grey_and_label(second, shards)):
            np.testing.assert_array_equal(one, two)


# Labels

def test_rim_is_the_outline_inside_the_mask():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((6, 7)) < 0.6, np.ones((9, 9), bool))
    for width in (1, 2.5, 4):
        expected = np.zeros_like(mask)
        outside = np.argwhere(~mask)
        for y, x in np.argwhere(mask):
            expected[y, x] = np.hypot(*(outside - (y, x)).T).min() <= width
        np.testing.assert_array_equal(outline(mask, width), expected)
    assert not outline(np.ones((9, 9), bool), 3).any()      # the image's border is no outline
    touching = np.zeros((9, 9), bool)
    touching[:, :5] = True
    np.testing.assert_array_equal(np.flatnonzero(outline(touching, 2)[4]), [3, 4])


def test_filled_mitochondria_train_on_their_outline(tmp_path):
    masks = np.zeros(SHAPE, np.uint8)
    masks[:, 8:30, 10:35] = 255
    pair = saved(tmp_path, numbered(), masks)
    numbers, label = pixels(make(pair, tmp_path / "db", labels_are="mitochondria", rim=3), "train")
    _, y, x = np.unravel_index(numbers, SHAPE)
    depth = np.minimum(np.minimum(y - 7, 30 - y), np.minimum(x - 9, 35 - x))
    np.testing.assert_array_equal(label == 1, (depth >= 1) & (depth <= 3))
    assert np.any(depth[label == 0] > 3)        # the inside is not membrane


def test_excluded_pixels_are_of_no_class(tmp_path, pair):
    mask = (np.random.default_rng(5).random(SHAPE) < 0.3).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    database = make(pair._replace(exclude=str(tmp_path / "mask.tif")), tmp_path / "db", train=2000)
    numbers, _ = pixels(database, "train")
    assert not mask.ravel()[numbers].any()
    counts = database.info["train"]["pixels"]
    assert counts["excluded"] == mask[:6].sum() and sum(counts.values()) == mask[:6].size


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


def test_class_balance_is_that_of_the_validation_slices(tmp_path, pair):
    assert make(pair, tmp_path / "db").info["class_balance"] == (membrane()[6:] == 255).mean()


# Several stacks

def test_several_stacks_in_one_database(tmp_path, pair):
    size = int(np.prod(SHAPE))
    second = saved(tmp_path, numbered(start=size), membrane(seed=3), "b")
    database = make([pair, second], tmp_path / "db", train=2000, val=600)
    both = np.concatenate([membrane().ravel(), membrane(seed=3).ravel()])
    for split, slices in (("train", range(6)), ("val", (6, 7))):
        numbers, label = pixels(database, split)
        np.testing.assert_array_equal(label == 1, both[numbers] == 255)
        assert set(numbers // (SHAPE[1] * SHAPE[2])) == {z + 8 * stack for z in slices for stack in (0, 1)}


def test_one_stack_may_train_and_another_validate(tmp_path, pair):
    second = saved(tmp_path, numbered((3, 30, 30), start=16_000), membrane((3, 30, 30), 3), "b")
    database = make([pair._replace(val_slices="none"), second._replace(val_slices=":")], tmp_path / "db")
    assert pixels(database, "train")[0].max() < 16_000 <= pixels(database, "val")[0].min()


def test_pixel_size_is_kept_only_where_all_stacks_agree(tmp_path, pair):
    assert make(pair, tmp_path / "one").pixel_size_nm == [50, 4, 5]
    second = saved(tmp_path, numbered(start=16_000), membrane(seed=3), "b")
    tifffile.imwrite(second.raw, numbered(start=16_000), metadata={"pixel_size_nm": {"z": 30, "y": 4.001, "x": 5}})
    assert make([pair, second], tmp_path / "two").pixel_size_nm == [None, 4, 5]


# Refusals

def check_refused(tmp_path, pairs, said, **options):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=said) as error:
        make(pairs, tmp_path / "db", **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before, "something was left behind"


def changed(tmp_path, raw=None, labels=None):
    return saved(tmp_path, numbered() if raw is None else raw, membrane() if labels is None else labels)


def test_shapes_that_differ(tmp_path):
    check_refused(tmp_path, changed(tmp_path, labels=membrane()[:, :-1]), r"\(8, 39, 50\).*\(8, 40, 50\)")


def test_no_membrane_pixel(tmp_path):
    check_refused(tmp_path, changed(tmp_path, labels=0 * membrane()), "no membrane pixel in the 6 training slices")
    labels = membrane()
    labels[6:] = 0
    check_refused(tmp_path, changed(tmp_path, labels=labels), "no membrane pixel in the 2 validation slices")


def test_fewer_pixels_than_asked(tmp_path, pair):
    found = int((membrane()[:6] == 255).sum())
    check_refused(tmp_path, pair, f"{found} membrane pixels in the training slices .* --train {2 * found}", train=10 ** 5)


def test_nan(tmp_path):
    for value, z in ((np.nan, 2), (np.inf, 7)):
        raw = numbered()
        raw[z, 3, 3] = value
        check_refused(tmp_path, changed(tmp_path, raw=raw), f"slice {z} holds NaN")


def test_rgb(tmp_path, pair):
    tifffile.imwrite(pair.raw, np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    check_refused(tmp_path, pair, "RGB")


@pytest.mark.parametrize("kept", [0, 10, 300, 0.5, 0.99])
def test_truncated_tiff(tmp_path, pair, kept):
    for name in (pair.raw, pair.labels):
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[:kept if kept >= 1 or kept == 0 else int(kept * len(whole))])
        check_refused(tmp_path, pair, Path(name).name)
        Path(name).write_bytes(whole)


def test_more_than_half_membrane_hints_at_the_wrong_value_unless_forced(tmp_path, pair):
    check_refused(tmp_path, pair, "--membrane-value 255", membrane_value=0)
    assert make(pair, tmp_path / "db", membrane_value=0, force=True).info["class_balance"] > 0.5


def test_filled_mitochondria_marked_with_the_wrong_value(tmp_path):
    masks = np.zeros(SHAPE, np.uint8)
    masks[:, 8:20, 10:25] = 255
    check_refused(tmp_path, changed(tmp_path, labels=masks), "--membrane-value", labels_are="mitochondria", membrane_value=0)


def test_labels_with_grey_values(tmp_path):
    labels = membrane()
    labels[4, 5, 6] = 37
    check_refused(tmp_path, changed(tmp_path, labels=labels), "37")


def test_constant_image(tmp_path):
    check_refused(tmp_path, changed(tmp_path, raw=np.full(SHAPE, 7, np.uint8)), "all grey values")


def test_odd_totals_slices_and_stacks_that_make_no_sense(tmp_path, pair):
    check_refused(tmp_path, pair, "even", train=101)
    check_refused(tmp_path, pair, "even", val=0)
    check_refused(tmp_path, pair._replace(val_slices="6:9"), "--val-slices 6:9")
    check_refused(tmp_path, pair._replace(val_slices=":"), "no slice for training")
    check_refused(tmp_path, pair._replace(val_slices="none"), "no slice for validation")
    check_refused(tmp_path, [pair, pair], "same stack")
    check_refused(tmp_path, saved(tmp_path, numbered()[0], membrane()[0], "b"), "one usable slice")
    check_refused(tmp_path, pair._replace(raw=str(tmp_path / "none.tif")), "no such file")


def test_existing_output_is_refused_and_kept_unless_forced(tmp_path, pair):
    make(pair, tmp_path / "db")
    before = (tmp_path / "db" / "train_000.h5").read_bytes()
    check_refused(tmp_path, pair, "exists already", seed=1)
    assert (tmp_path / "db" / "train_000.h5").read_bytes() == before
    make(pair, tmp_path / "db", seed=1, force=True)
    assert (tmp_path / "db" / "train_000.h5").read_bytes() != before


# The files

def test_each_patch_says_from_which_pixel_it_came(tmp_path):
    shape = (3, 40, 50)
    pairs = [saved(tmp_path, numbered(shape), membrane(shape), "a_")._replace(val_slices="2:3"),
             saved(tmp_path, numbered(shape, start=6000), membrane(shape, 1), "b_")._replace(val_slices="1:2")]
    database = make(pairs, tmp_path / "db", shard_patches=70)
    for split in ("train", "val"):
        stack, z, y, x = read_pixels(getattr(database, split)).T
        np.testing.assert_array_equal(stack * 6000 + z * 2000 + y * 50 + x, pixels(database, split)[0])
    assert {(int(a), int(b)) for a, b, _, _ in read_pixels(database.val)} == {(0, 2), (1, 1)}


def test_a_database_without_pixels_is_refused_where_they_are_asked_for(tmp_path, pair):
    database = make(pair, tmp_path / "db")
    with h5py.File(database.val[0], "r+") as handle:
        del handle["pixel"]
    with pytest.raises(UserError, match="does not say from which pixel"):
        read_pixels(database.val)


def test_shards_hold_what_caffe_expects(tmp_path, pair):
    database = make(pair, tmp_path / "db", shard_patches=250)
    assert [shard["patches"] for shard in database.info["train"]["shards"]] == [200, 200, 200]
    for shard in database.train:
        with h5py.File(shard, "r") as handle:
            assert handle["data"].shape == (200, 1, 32, 32) and handle["data"].dtype == np.float32
            assert handle["label"].shape == (200,) and handle["label"].dtype == np.float32
            assert set(handle["label"][:]) == {0, 1}
    listed = (tmp_path / "db" / "train.txt").read_text().split()
    assert listed == [str(shard) for shard in database.train] and all(os.path.isabs(path) for path in listed)


def test_read_rows_in_any_order_with_repeats(tmp_path, pair):
    database = make(pair, tmp_path / "db", train=3000, shard_patches=1100)
    whole = [h5py.File(shard, "r") for shard in database.train]
    data = np.concatenate([handle["data"][:] for handle in whole])
    label = np.concatenate([handle["label"][:] for handle in whole])
    for rows in ([2999, 0, 5, 5, 1500, 999, 1000], np.random.default_rng(0).integers(0, 3000, 5000), [],
                 range(10, 2990)):
        found_data, found_label = read_rows(database.train, rows)
        index = np.asarray(list(rows), int)
        np.testing.assert_array_equal(found_data, data[index])
        np.testing.assert_array_equal(found_label, label[index])
    for wrong in (-1, 3000):
        with pytest.raises(IndexError):
            read_rows(database.train, [0, wrong])


def test_database_may_be_moved(tmp_path, pair):
    make(pair, tmp_path / "db")
    shutil.move(str(tmp_path / "db"), tmp_path / "elsewhere")
    database = open_database(tmp_path / "elsewhere")
    train, val = lists(database, tmp_path)
    assert train.read_text() == f"{tmp_path}/elsewhere/train_000.h5\n"
    assert val.read_text() == f"{tmp_path}/elsewhere/val_000.h5\n"
    assert read_rows(database.train, [0])[0].shape == (1, 1, 32, 32)


def test_incomplete_database_is_not_opened(tmp_path, pair):
    database = make(pair, tmp_path / "db")
    with pytest.raises(UserError, match="patches.json"):
        open_database(tmp_path)
    with open(database.val[0], "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(UserError, match="val_000.h5"):
        open_database(tmp_path / "db")
    database.val[0].unlink()
    with pytest.raises(UserError, match="val_000.h5"):
        open_database(tmp_path / "db")


def test_list_for_caffe_refuses_a_path_with_a_space(tmp_path, pair):
    with pytest.raises(UserError, match="space"):
        lists(make(pair, tmp_path / "a b"), tmp_path)


def test_description_holds_hashes_and_choices(tmp_path, pair):
    import hashlib

    info = make(pair, tmp_path / "db", seed=5).info
    for kind in ("raw", "labels"):
        content = Path(getattr(pair, kind)).read_bytes()
        assert info["sources"][0][kind]["sha256"] == hashlib.sha256(content).hexdigest()
    assert info["seed"] == 5 and info["train"]["patches"] == 600 and info["centre"] == [16, 16]


def test_caffe_reads_the_patches_in_this_order(tmp_path, pair):
    caffe = pytest.importorskip("caffe")
    database = make(pair, tmp_path / "db", shard_patches=250)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "HDF5Data" top: "data" top: "label" '
        f'hdf5_data_param {{ source: "{lists(database, tmp_path)[0]}" batch_size: 150 }} }}')
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    seen = [net.forward() and (net.blobs["data"].data.copy(), net.blobs["label"].data.copy()) for _ in range(4)]
    data, label = read_rows(database.train, range(600))
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in seen]), data)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in seen]), label)


# Streaming and interruption

def test_memory_grows_only_with_the_coordinates(tmp_path):
    pair = saved(tmp_path, numbered((4, 300, 300)), membrane((4, 300, 300)))

    def peak(train):
        tracemalloc.start()
        make(pair, tmp_path / str(train), train=train)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10)        # imports
    small, large = peak(16_000), peak(60_000)
    assert large - small < (60_000 - 16_000) * 400        # a patch itself has 4096 bytes


def test_full_disk_leaves_nothing_behind(tmp_path, pair, monkeypatch):
    def full(*arguments):
        raise OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")

    monkeypatch.setattr(patch_database.ShardWriter, "write", full)
    check_refused(tmp_path, pair, "the disk is full")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_process_leaves_no_database_and_the_next_one_clears_up(tmp_path):
    pair = saved(tmp_path, numbered((4, 300, 300)), membrane((4, 300, 300)))
    command = [sys.executable, "-m", "pycaffe_tools.patches", pair.raw, pair.labels, str(tmp_path / "db"),
               "--labels-are", "membrane", "--train", "60000", "--val", "200"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".db.partial-*/train_000.h5")):
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "db").exists() and list(tmp_path.glob(".db.partial-*"))
    make(pair, tmp_path / "db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "labels.tif", "raw.tif"]


# The command

def test_command_line(tmp_path, pair, capsys):
    def exit_code(*arguments):
        with pytest.raises(SystemExit) as stop:
            run(cli, "patches", [str(argument) for argument in arguments])
        return stop.value.code

    sizes = ("--labels-are", "membrane", "--train", 100, "--val", 40)
    assert exit_code(pair.raw, pair.labels, tmp_path / "db", *sizes, "--val-slices", "0:2") == 0
    assert "100 training and 40 validation patches" in capsys.readouterr().out
    assert open_database(tmp_path / "db").info["sources"][0]["val_slices"] == [0, 1]

    assert exit_code(pair.raw, pair.labels, tmp_path / "db", *sizes) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1

    second = saved(tmp_path, numbered(start=16_000), membrane(seed=3), "b")
    assert exit_code(tmp_path / "two", *sizes, "--pair", *pair[:2], "--pair", *second[:2],
                     "--val-slices", "none", "--val-slices", ":", "--exclude", "-", "--exclude", pair.labels) == 0
    sources = open_database(tmp_path / "two").info["sources"]
    assert [source["val_slices"] for source in sources] == [[], list(range(8))]
    assert [source["exclude"] is None for source in sources] == [True, False]

    assert exit_code(pair.raw, tmp_path / "three", *sizes) == 2
    assert exit_code(pair.raw, pair.labels, tmp_path / "three", "--train", 10) == 2
    assert exit_code(tmp_path / "three", *sizes, "--pair", *pair[:2], "--pair", *second[:2],
                     "--exclude", pair.labels) == 2

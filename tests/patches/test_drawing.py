"""Patches are drawn fairly, balanced and shuffled, from slices of their own for each split, and equal seeds draw the same."""

import h5py
import numpy as np

from pycaffe_tools.patches.sampling import draw
from pycaffe_tools.patches.sources import LabelledStack

from .cases import SHAPE, grey_and_label, make, membrane, numbered, pixels


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
    second = make(LabelledStack(f"{tmp_path}/a.h5:/raw", f"{tmp_path}/a.h5:/labels"), tmp_path / "two")
    for shards in ("train", "val"):
        for one, two in zip(grey_and_label(first, shards), grey_and_label(second, shards)):
            np.testing.assert_array_equal(one, two)

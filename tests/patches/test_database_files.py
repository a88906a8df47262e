"""A database is whole or not there, can be moved, and is what Caffe reads."""

import hashlib
import json
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

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.patches import shards
from pycaffe_tools.patches.database import lists, open_database
from pycaffe_tools.patches.shards import read_pixels, read_rows

from ..conftest import ROOT
from .cases import check_refused, make, membrane, numbered, pixels, saved


def test_each_patch_says_from_which_pixel_it_came(tmp_path):
    shape = (3, 40, 50)
    pairs = [saved(tmp_path, numbered(shape), membrane(shape), "a_")._replace(val_slices="2:3"),
             saved(tmp_path, numbered(shape, start=6000), membrane(shape, 1), "b_")._replace(val_slices="1:2")]
    database = make(pairs, tmp_path / "db", shard_patches=70, force=True)
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


@pytest.mark.parametrize("size, centre", [(40, 20), (48, 24), (33, 16), (1, 0)])
def test_patches_may_have_another_size_around_the_same_pixels(tmp_path, pair, size, centre):
    usual, other = make(pair, tmp_path / "usual"), make(pair, tmp_path / "other", patch_size=size)
    assert (other.patch_size, other.info["patch_size"], other.info["centre"]) == (size, size, [centre, centre])
    assert (usual.patch_size, usual.info["centre"]) == (32, [16, 16])
    data, label = read_rows(other.train, range(600), size)
    assert data.shape == (600, 1, size, size)
    around, same_label = read_rows(usual.train, range(600))
    np.testing.assert_array_equal(label, same_label)
    np.testing.assert_array_equal(read_pixels(other.train, size), read_pixels(usual.train))
    before, after = min(centre, 16), min(size - centre, 16)         # what both sizes hold around the pixel
    np.testing.assert_array_equal(data[:, 0, centre - before:centre + after, centre - before:centre + after],
                                  around[:, 0, 16 - before:16 + after, 16 - before:16 + after])
    with pytest.raises(UserError, match=r"train_000.h5: is not a shard of patches, .* 1 x 32 x 32"):
        read_rows(other.train, [0])


def test_a_shard_of_larger_patches_takes_no_more_memory(tmp_path, pair):
    assert make(pair, tmp_path / "32").info["shard_patches"] == 32_768
    assert make(pair, tmp_path / "64", patch_size=64).info["shard_patches"] == 32_768 // 4
    for size, said in ((0, "--patch-size 0: .* 1 to 46340 pixels"), (50_000, "--patch-size 50000")):
        with pytest.raises(UserError, match=said):
            make(pair, tmp_path / "none", patch_size=size)
    with pytest.raises(UserError, match="a shard of 1400000 patches of 40 x 40 pixels: Caffe takes 1 to 1342177 of them"):
        make(pair, tmp_path / "none", patch_size=40, shard_patches=1_400_000)
    assert not (tmp_path / "none").exists()


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
        with pytest.raises(UserError, match="hold 3000 patches"):
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

    monkeypatch.setattr(shards.ShardWriter, "write", full)
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


def _set(name, value):
    def change(path):
        with h5py.File(path, "r+") as handle:
            handle[name][3] = value
    return change


def _replace(name, array):
    def change(path):
        with h5py.File(path, "r+") as handle:
            del handle[name]
            handle[name] = array
    return change


@pytest.mark.parametrize("damage, said", [
    (_set("label", 2), "labels other than 0 and 1"), (_set("label", np.nan), "labels other than 0 and 1"),
    (_set("data", np.inf), "values that are no numbers"),
    (_replace("data", np.zeros((200, 1, 30, 30), np.float32)), "is not a shard of patches"),
    (_replace("label", np.zeros(200, np.int32)), "is not a shard of patches"),
    (lambda path: path.write_bytes(b"x" * 100 + path.read_bytes()[100:]), "is damaged")])
def test_a_damaged_shard_is_named_by_whoever_reads_it(tmp_path, pair, damage, said):
    database = make(pair, tmp_path / "db")
    damage(database.val[0])
    for read in (lambda: read_rows(database.val, np.arange(200)), lambda: shards.check_shards(database.val)):
        with pytest.raises(UserError, match=f"val_000.h5: .*{said}"):
            read()


@pytest.mark.parametrize("change, said", [
    (lambda info: info["normalisation"].pop("mean"), "normalisation.mean"), (lambda info: info.pop("val"), "lacks the field val"),
    (lambda info: info["val"].update(shards=3), "val.shards"), (lambda info: info["val"]["shards"][0].update(file=1), "file"),
    (lambda info: info["train"].update(patches=5), "another number"), (lambda info: info.update(pixel_size_nm="abc"), "pixel_size_nm"),
    (lambda info: info.update(class_balance=2), "class_balance"),
    (lambda info: info.pop("patch_size"), "lacks the field patch_size"), (lambda info: info.update(patch_size="32"), "patch_size"),
    (lambda info: info.update(patch_size=10 ** 6), "1000000 x 1000000 pixels, but train_000.h5 is too small"),
    (lambda info: info["normalisation"].update(std=0), "std")])
def test_a_patches_json_that_cannot_be_is_named_with_its_field(tmp_path, pair, change, said):
    database = make(pair, tmp_path / "db")
    info = json.loads((database.directory / "patches.json").read_text())
    change(info)
    (database.directory / "patches.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=f"patches.json: .*{said}"):
        open_database(database.directory)

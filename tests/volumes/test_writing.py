"""What is written is whole, is read back with its pixel size, and is refused before the work where it cannot be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.creating import check_output, create_volume
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.pixel_size import PixelSize
from pycaffe_tools.volumes.storage import Storage
from pycaffe_tools.volumes.tiff import writing as tiff_writing

from .cases import SHAPE, UNKNOWN, pixel_size_of, slices_of, stack, written

SIZES = [PixelSize(50, 4.6, 4.7), PixelSize(None, 4.6, 4.7), UNKNOWN, PixelSize(50, None, None),
         PixelSize(None, 3, None), PixelSize(1, 1, 1)]


KINDS = ["a.tif", "a.h5", "a.h5:/some/where", "a.zarr", "bigtiff"]


def kind_of_output(kind, monkeypatch):
    if kind == "a.zarr":
        pytest.importorskip("zarr")
    if kind == "bigtiff":
        monkeypatch.setattr(tiff_writing, "CLASSIC_TIFF_LIMIT", 1)
        return "a.tif"
    return kind


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back_with_its_pixel_size(tmp_path, monkeypatch, kind, dtype):
    name = kind_of_output(kind, monkeypatch)
    for number, size in enumerate(SIZES):
        path = written(tmp_path / str(number) / name, stack(dtype), size, description="made in a test <&")
        with open_volume(path) as volume:
            assert volume.dtype == dtype
            assert volume.pixel_size == size
        np.testing.assert_array_equal(slices_of(path), stack(dtype))
        assert not list((tmp_path / str(number)).glob(".*"))


def test_tiff_is_what_imagej_reads_below_4_gb_and_ome_above(tmp_path, monkeypatch):
    path = written(tmp_path / "a.tif", stack("float32"), PixelSize(50, 4, 5))
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej and not tif.is_bigtiff and len(tif.pages) == 5
        assert tif.imagej_metadata["slices"] == 5 and tif.imagej_metadata["unit"] == "nm"
        assert tif.imagej_metadata["spacing"] == 50
        np.testing.assert_array_equal(tif.asarray(), stack("float32"))
    monkeypatch.setattr(tiff_writing, "CLASSIC_TIFF_LIMIT", 1)
    path = written(tmp_path / "b.tif", stack("float32"), PixelSize(50, 4, 5))
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff and tif.is_ome and len(tif.pages) == 5
        np.testing.assert_array_equal(tif.asarray(), stack("float32"))


def test_hdf5_holds_the_attributes_of_ilastik_cremi_and_plant_seg(tmp_path):
    written(tmp_path / "a.h5", stack("float32"), PixelSize(50, 4, 5))
    with h5py.File(tmp_path / "a.h5", "r") as handle:
        data = handle["probabilities"]
        assert [axis["key"] for axis in json.loads(data.attrs["axistags"])["axes"]] == ["z", "y", "x"]
        assert [dimension.label for dimension in data.dims] == ["z", "y", "x"]
        assert data.attrs["resolution"].tolist() == [50, 4, 5]
        np.testing.assert_allclose(data.attrs["element_size_um"], [0.05, 0.004, 0.005], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_never_becomes_1(tmp_path, monkeypatch, kind):
    path = written(tmp_path / kind_of_output(kind, monkeypatch), stack(), UNKNOWN)
    assert pixel_size_of(path) == UNKNOWN
    if ".h5" in kind:
        with h5py.File(tmp_path / "a.h5", "r") as handle:
            data = handle["volume" if kind == "a.h5" else "some/where"]
            assert "resolution" not in data.attrs and "element_size_um" not in data.attrs


@pytest.mark.parametrize("kind", KINDS)
def test_slices_in_any_order_and_missing_ones_are_zero(tmp_path, monkeypatch, kind):
    path = tmp_path / kind_of_output(kind, monkeypatch)
    with create_volume(path, SHAPE, "uint16") as writer:
        for z in (4, 0, 2):
            writer.write(z, stack("uint16")[z])
    expected = stack("uint16") * np.array([1, 0, 1, 0, 1], np.uint16)[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(slices_of(path), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_output_is_whole_or_not_there(tmp_path, monkeypatch, kind):
    path = tmp_path / kind_of_output(kind, monkeypatch)
    with pytest.raises(ZeroDivisionError):
        with create_volume(path, SHAPE, "uint8") as writer:
            writer.write(0, stack()[0])
            assert not (tmp_path / path.name.split(":")[0]).exists()
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    written(path, stack(), UNKNOWN)
    with pytest.raises(UserError, match="exists already"):
        create_volume(path, SHAPE, "uint8")
    np.testing.assert_array_equal(slices_of(path), stack())
    written(path, stack() // 2, UNKNOWN, force=True)
    np.testing.assert_array_equal(slices_of(path), stack() // 2)


def test_replacing_an_hdf5_file_does_not_take_other_datasets_with_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle["raw"] = stack()
    with pytest.raises(UserError, match="other datasets"):
        create_volume(tmp_path / "a.h5:/probabilities", SHAPE, "float32", force=True)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.h5:/raw"), stack())


def test_outputs_that_cannot_be_written_are_refused_at_once(tmp_path):
    for name, dtype, said in (("a.jpg", "uint8", "not a kind"), ("a.tif", "float64", "float64"),
                              ("a.zarr:/p", "uint8", "level 0")):
        with pytest.raises(UserError, match=said):
            create_volume(tmp_path / name, SHAPE, dtype)
    for inner in ("q.tif", "some/q.png"):
        with pytest.raises(UserError, match="name is that of a file"):
            check_output(tmp_path / "folder.h5" / inner)
    with pytest.raises(UserError, match="GB"):
        create_volume(tmp_path / "a.tif", (10 ** 6, 10 ** 6, 10 ** 6), "uint8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["a.tif", "a.h5", "bigtiff"])
def test_space_on_the_disk_is_taken_before_the_work(tmp_path, monkeypatch, kind):
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system cannot reserve space")
    path = tmp_path / kind_of_output(kind, monkeypatch)
    with create_volume(path, (50, 256, 256), "float32"):
        taken = sum(file.stat().st_blocks * 512 for file in tmp_path.iterdir())
        assert taken >= 50 * 256 * 256 * 4

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    path.unlink()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="the disk is full"):
        create_volume(path, SHAPE, "float32")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["a.tif", "a.h5"])
def test_memory_does_not_grow_with_the_number_of_slices(tmp_path, kind):
    image = np.zeros((256, 256), np.float32)

    def peak(slices):
        tracemalloc.start()
        with create_volume(tmp_path / str(slices) / kind, (slices, 256, 256), "float32") as writer:
            for z in range(slices):
                writer.write(z, image)
        with open_volume(tmp_path / str(slices) / kind) as volume:
            for z in range(slices):
                volume.read(z)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(3)     # imports
    assert peak(100) < peak(4) + 4 * image.nbytes


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_in_the_place_of_an_output_is_refused_before_the_work(tmp_path, force):
    for name in ("a.tif", "a.h5", "a.zarr"):
        (tmp_path / name).mkdir()
    for name in ("a.tif", "a.h5"):
        with pytest.raises(UserError, match="is a folder, and a file is to be written"):
            check_output(tmp_path / name, force)
    (tmp_path / "a.zarr" / "notes.txt").write_text("not of a volume")
    with pytest.raises(UserError, match="holds other files \\(notes.txt\\)"):
        check_output(tmp_path / "a.zarr", force)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, and a folder is needed there"):
        check_output(tmp_path / "file" / "q.tif", force)
    (tmp_path / "b.zarr").write_text("")
    with pytest.raises(UserError, match="is a file, and OME-Zarr is a folder"):
        check_output(tmp_path / "b.zarr", force)


def test_a_folder_that_is_called_like_a_file_is_a_folder(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    written(tmp_path / "folder.h5" / "q.tif", stack(), UNKNOWN)
    np.testing.assert_array_equal(slices_of(tmp_path / "folder.h5" / "q.tif"), stack())


@pytest.mark.parametrize("kind", KINDS)
def test_an_earlier_output_is_not_refused_by_the_check_before_the_work(tmp_path, monkeypatch, kind):
    path = written(tmp_path / kind_of_output(kind, monkeypatch), stack(), UNKNOWN)
    for force in (False, True):
        check_output(path, force, np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_compressed_hdf5_holds_the_same_in_chunks_of_one_slice_and_less_room(tmp_path, dtype):
    data = np.repeat(np.repeat(stack(dtype, (3, 80, 90)), 8, axis=1), 8, axis=2)
    plain = written(tmp_path / "a.h5", data, PixelSize(50, 4, 5))
    path = written(tmp_path / "b.h5", data, PixelSize(50, 4, 5), storage=Storage(compress=True))
    np.testing.assert_array_equal(slices_of(path), data)
    assert pixel_size_of(path) == (50, 4, 5)
    with h5py.File(path, "r") as handle, h5py.File(plain, "r") as other:
        name, = handle
        assert handle[name].chunks == (1, 512, 512) and handle[name].compression == "gzip" and handle[name].shuffle
        assert dict(handle[name].attrs).keys() == dict(other[name].attrs).keys() and other[name].chunks is None
    assert path.stat().st_size < plain.stat().st_size / 4


def test_a_full_disk_under_a_compressed_volume_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    from pycaffe_tools.volumes.hdf5 import writing as hdf5_writing
    free = shutil.disk_usage(tmp_path)._replace(free=10 ** 12)
    with pytest.raises(UserError, match="disk is full"):
        with create_volume(tmp_path / "a.h5", SHAPE, "float32", storage=Storage(compress=True)) as writer:
            writer.write(0, stack("float32")[0])
            monkeypatch.setattr(hdf5_writing.shutil, "disk_usage", lambda path: free._replace(free=1000))
            writer.write(1, stack("float32")[1])
    assert list(tmp_path.iterdir()) == []

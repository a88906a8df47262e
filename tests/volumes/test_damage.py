"""Damage and what is no volume are told in one sentence; a damaged slice does not hide the others."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_volume

from .cases import SHAPE, TIFF_LAYOUTS, one_sentence, slices_of, stack


def test_what_is_not_there_or_not_a_volume_is_told_in_one_sentence(tmp_path):
    (tmp_path / "text.tif").write_text("this is no TIFF")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.h5").write_text("this is no HDF5")
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / "folder").mkdir()
    with h5py.File(tmp_path / "two.h5", "w") as handle:
        handle["raw"], handle["labels"] = stack(), stack()
    for name, said in {"none.tif": "no such file", "text.tif": "not a readable TIFF", "empty.tif": "TIFF",
                       "text.h5": "not a readable HDF5", "a.jpg": "not a kind of volume", "folder": "no .tif or .png slices in this folder",
                       "two.h5": "2 images \\(/labels, /raw\\); name one",
                       "two.h5:/other": "no dataset /other"}.items():
        with pytest.raises(UserError, match=said) as error:
            open_volume(tmp_path / name)
        assert name.split(":")[0] in one_sentence(error)


def test_four_dimensions_are_refused_with_their_shape(tmp_path):
    four = np.zeros((2, 3, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="minisblack")
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle["raw"] = four
    for name in ("a.tif", "a.h5"):
        with pytest.raises(UserError, match=r"\(2, 3, 8, 9\)"):
            open_volume(tmp_path / name)
        with pytest.raises(UserError, match="axis C has size 2"):
            open_volume(tmp_path / name, axes="CZYX")


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"imagej": True}])
def test_colour_is_refused(tmp_path, options):
    shape = (3, 16, 17) if "planarconfig" in options else (16, 17, 3)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="rgb", **options)
    with pytest.raises(UserError, match="RGB"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["float64", "uint32", "int64", "complex64"])
def test_other_data_types_are_refused_by_name(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", stack(dtype), photometric="minisblack")
    with pytest.raises(UserError, match=dtype):
        open_volume(tmp_path / "a.tif")


def test_pages_of_different_size_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for size in (20, 20, 21):
            tif.write(np.zeros((size, 20), np.uint8), metadata=None)
    with pytest.raises(UserError, match=r"page 2 has shape \(21, 20\)"):
        open_volume(tmp_path / "a.tif")


def result_or_user_error(path):
    """Slices that can be read, None for those that cannot; None if the file cannot be opened."""
    try:
        volume = open_volume(path)
    except UserError:
        return None
    with volume:
        found = []
        for z in range(volume.shape[0]):
            try:
                found.append(volume.read(z))
            except UserError as error:
                assert f"slice {z}" in str(error) and path.name in str(error)
                found.append(None)
        return found


@pytest.mark.parametrize("layout", TIFF_LAYOUTS)
def test_truncated_tiff_never_gives_fewer_or_wrong_slices(tmp_path, layout):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack", **TIFF_LAYOUTS[layout])
    whole = (tmp_path / "a.tif").read_bytes()
    for cut in sorted({*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1, len(whole) - 3}):
        (tmp_path / "cut.tif").write_bytes(whole[:cut])
        found = result_or_user_error(tmp_path / "cut.tif")
        if found is not None:
            assert len(found) == len(stack()), f"cut at {cut} of {len(whole)}"
            for image, true in zip(found, stack()):
                assert image is None or np.array_equal(image, true)


@pytest.mark.parametrize("layout", TIFF_LAYOUTS)
def test_damaged_bytes_raise_nothing_but_user_errors(tmp_path, layout):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack", **TIFF_LAYOUTS[layout])
    whole = np.fromfile(tmp_path / "a.tif", np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        start = rng.integers(0, 300 if rng.random() < 0.5 else whole.size - 4)
        damaged[start:start + 4] = rng.integers(0, 256, damaged[start:start + 4].size)
        damaged.tofile(tmp_path / "damaged.tif")
        result_or_user_error(tmp_path / "damaged.tif")


def test_slice_whose_bytes_are_damaged_does_not_hide_the_others(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset, count = tif.pages[2].dataoffsets[0], tif.pages[2].databytecounts[0]
    with open(tmp_path / "a.tif", "r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(count))
    found = result_or_user_error(tmp_path / "a.tif")
    assert [image is not None for image in found] == [True, True, False, True, True]


def test_last_slice_of_a_cut_file_is_called_truncated(tmp_path):
    # One strip a page, each behind its header, as libtiff and Fiji's compressed TIFFs have it.
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for image in stack():
            tif.write(image, compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        end = tif.pages[4].dataoffsets[0] + tif.pages[4].databytecounts[0]
    with open(tmp_path / "a.tif", "r+b") as stream:
        stream.truncate(end - 1)
    with open_volume(tmp_path / "a.tif") as volume:
        np.testing.assert_array_equal(volume.read(3), stack()[3])
        with pytest.raises(UserError, match="slice 4 .*truncated"):
            volume.read(4)


def test_damaged_slice_of_a_folder_does_not_hide_the_others(tmp_path):
    for z in range(4):
        tifffile.imwrite(tmp_path / f"{z}.tif", stack()[z])
    (tmp_path / "0.tif").write_bytes((tmp_path / "0.tif").read_bytes()[:700])
    tifffile.imwrite(tmp_path / "2.tif", stack()[2, :-1])
    with open_volume(tmp_path) as volume:
        assert volume.shape == (4,) + SHAPE[1:]
        with pytest.raises(UserError, match="0.tif"):
            volume.read(0)
        with pytest.raises(UserError, match="slice 2 has shape"):
            volume.read(2)
        np.testing.assert_array_equal(volume.read(3), stack()[3])


def test_truncated_hdf5_is_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle.create_dataset("raw", data=stack("float32"), chunks=(1, 16, 16), compression="gzip")
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match="a.h5"):
        slices_of(tmp_path / "a.h5")

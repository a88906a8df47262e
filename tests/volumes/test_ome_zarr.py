"""OME-Zarr as it is written: both versions are what the specification says, with levels that follow from the slices."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.chunked import arrays
from pycaffe_tools.volumes.chunked.pyramid import halved, level_shapes
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.pixel_size import PixelSize
from pycaffe_tools.volumes.storage import Storage

from .cases import SHAPE, UNKNOWN, pixel_size_of, slices_of, stack, written

LARGE = (2, 1029, 601)
"""Three levels, with odd numbers on the way."""


def needs(version):
    if arrays.package_for(arrays.ZARR_2 if version == "0.4" else arrays.ZARR_3) is None:
        pytest.skip("needs zarr (3 for OME-Zarr 0.5) or tensorstore")


versions = pytest.mark.parametrize("version", ["0.4", "0.5"])


def by_loops(image, reduction):
    """The definition, pixel by pixel: only pixels of the image count, and a tie is membrane."""
    rows, columns = ((size + 1) // 2 for size in image.shape)
    result = np.zeros((rows, columns), image.dtype)
    for y in range(rows):
        for x in range(columns):
            block = image[2 * y:2 * y + 2, 2 * x:2 * x + 2]
            if reduction == "mean":
                value = np.mean(block, dtype=np.float64)
                result[y, x] = value if image.dtype.kind == "f" else round(float(value))
            else:
                result[y, x] = 255 if 2 * np.count_nonzero(block) >= block.size else 0
    return result


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (1, 3)])
@pytest.mark.parametrize("reduction, dtype", [("mean", "float32"), ("mean", "uint8"), ("mean", "uint16"), ("majority", "uint8")])
def test_four_pixels_become_one(shape, reduction, dtype):
    image = (np.random.default_rng(3).random(shape) * 250).astype(dtype)
    if reduction == "majority":
        image = np.where(image > 120, 255, 0).astype("uint8")
    found, expected = halved(image, reduction), by_loops(image, reduction)
    assert found.dtype == image.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_line_of_one_pixel_stays_closed_in_a_mask():
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 5] = 255
    mask = halved(mask, "majority")
    assert (mask[:, 2] == 255).all() and mask.sum() == 8 * 255


@versions
@pytest.mark.parametrize("dtype, reduction", [("float32", "mean"), ("uint8", "majority"), ("uint16", "mean")])
def test_every_level_follows_from_the_one_above_and_has_its_pixel_size(tmp_path, version, dtype, reduction):
    needs(version)
    data = stack(dtype, LARGE)
    path = written(tmp_path / "a.zarr", data, PixelSize(50, 4, 5), storage=Storage(version, reduction=reduction))
    assert level_shapes(LARGE) == [LARGE, (2, 515, 301), (2, 258, 151)]
    assert sorted(entry.name for entry in path.iterdir() if entry.is_dir()) == ["0", "1", "2"]
    for level in range(3):
        np.testing.assert_array_equal(slices_of(f"{path}:/{level}"), data)
        assert pixel_size_of(f"{path}:/{level}") == (50, 4 * 2 ** level, 5 * 2 ** level)
        data = np.stack([halved(image, reduction) for image in data])
    assert slices_of(path).shape == LARGE       # a volume without a name is the whole one


@versions
@pytest.mark.parametrize("size", [PixelSize(50, 4, 5), PixelSize(None, 4, 5), UNKNOWN])
def test_it_is_valid_for_the_field_s_own_checker(tmp_path, version, size):
    """The axes, transformations and arrays are judged by ome-zarr-models, and read by zarr itself."""
    pytest.importorskip("ome_zarr_models", reason="needs ome-zarr-models, on a Python of 3.11 or later")
    import ome_zarr_models
    import zarr
    path = written(tmp_path / "a.zarr", stack("float32", LARGE), size, storage=Storage(version), description="from a test")
    group = zarr.open_group(str(path), mode="r")
    image = ome_zarr_models.open_ome_zarr(group)
    assert type(image).__name__ == "Image" and image.ome_zarr_version == version
    multiscale = (image.attributes.ome if version == "0.5" else image.attributes).multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["z", "y", "x"] and len(multiscale.datasets) == 3
    # Where the centre of a level's first pixel lies, in physical units: in the middle of the pixels it was made of.
    scale, move = multiscale.datasets[2].coordinateTransformations
    y, x = size.y or 1, size.x or 1
    assert scale.scale == [size.z or 1, 4 * y, 4 * x] and move.translation == [0, 1.5 * y, 1.5 * x]
    np.testing.assert_array_equal(group["0"][:], stack("float32", LARGE))


@versions
@pytest.mark.parametrize("package", ["zarr", "tensorstore"])
def test_both_libraries_read_what_was_written(tmp_path, version, package, monkeypatch):
    needs(version)
    pytest.importorskip(package)
    kind = arrays.ZARR_2 if version == "0.4" else arrays.ZARR_3
    if package == "zarr" and arrays.package_for(kind) != "zarr":
        pytest.skip("this zarr is older than Zarr 3")
    path = written(tmp_path / "a.zarr", stack("uint16", LARGE), UNKNOWN, storage=Storage(version))
    monkeypatch.setattr(arrays, "package_for", lambda kind: package)
    for level in range(2):
        assert slices_of(f"{path}:/{level}").dtype == np.uint16
    np.testing.assert_array_equal(slices_of(path), stack("uint16", LARGE))


def test_zarr_3_has_a_file_for_each_slice_and_zarr_2_one_for_each_chunk(tmp_path):
    needs("0.5")
    shape = (2, 600, 600)
    for version, count in (("0.4", 4), ("0.5", 1)):
        path = written(tmp_path / f"{version}.zarr", stack("uint8", shape), UNKNOWN, storage=Storage(version))
        for z in range(2):
            folder = arrays.slice_folder(path / "0", arrays.ZARR_2 if version == "0.4" else arrays.ZARR_3, z)
            assert len([file for file in folder.rglob("*") if file.is_file()]) == count


def test_another_version_replaces_an_earlier_output_and_leaves_nothing_of_it(tmp_path):
    needs("0.5")
    written(tmp_path / "a.zarr", stack(), UNKNOWN)
    written(tmp_path / "a.zarr", stack() // 2, UNKNOWN, storage=Storage("0.5"), force=True)
    assert sorted(path.name for path in (tmp_path / "a.zarr").iterdir()) == ["0", "zarr.json"]
    np.testing.assert_array_equal(slices_of(tmp_path / "a.zarr"), stack() // 2)
    assert json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["ome"]["version"] == "0.5"


def test_slices_that_were_never_written_are_zero(tmp_path):
    needs("0.5")
    from pycaffe_tools.volumes.creating import create_volume
    with create_volume(tmp_path / "a.zarr", SHAPE, "float32", storage=Storage("0.5")) as writer:
        writer.write(3, stack("float32")[3])
    with open_volume(tmp_path / "a.zarr") as volume:
        assert not volume.read(0).any()
        np.testing.assert_array_equal(volume.read(3), stack("float32")[3])


def test_choices_that_a_kind_of_file_does_not_have_are_refused(tmp_path):
    for name, storage, sentence in (("a.tif", Storage("0.5"), "no OME-Zarr"), ("a.zarr", Storage(compress=True), "HDF5 alone"),
                                    ("a.tif", Storage(compress=True), "HDF5 alone")):
        with pytest.raises(UserError, match=sentence):
            written(tmp_path / name, stack(), UNKNOWN, storage=storage)
    assert not list(tmp_path.iterdir())

"""Pixel sizes are read in nm, axis by axis, or are unknown."""

from __future__ import annotations

import json

import h5py
import pytest
import tifffile

from pycaffe_tools.volumes.pixel_size import to_nm

from .cases import UNKNOWN, pixel_size_of, stack


@pytest.mark.parametrize("length, unit, nm", [
    (0.005, "um", 5), (0.005, "micron", 5), (0.005, "\u00b5m", 5), (0.005, "\u03bcm", 5), (0.005, "\\u00B5m", 5),
    (5, "nm", 5), (5, "nanometer", 5), (5e-7, "cm", 5), (5e-6, "mm", 5), (50, "angstrom", 5), (1, "mm", None), (0.05, "mm", 5e4),
    (1, "pixel", None), (1, "", None), (1, None, None), (0, "nm", None), (-1, "nm", None), (float("nan"), "nm", None)])
def test_units(length, unit, nm):
    assert to_nm(length, unit) == nm


def imagej(path, resolution=None, **metadata):
    tifffile.imwrite(path, stack(), imagej=True, resolution=resolution, metadata={"axes": "ZYX", **metadata})
    return pixel_size_of(path)


def test_pixel_size_of_imagej(tmp_path):
    path = tmp_path / "a.tif"
    assert imagej(path, (200, 100), unit="um", spacing=0.05) == (50, 10, 5)
    assert imagej(path, (200, 100), unit="\\u00B5m") == (None, 10, 5)
    assert imagej(path, (0.25, 0.2), unit="nm", spacing=40) == (40, 5, 4)
    assert imagej(path, (1, 1), unit="pixel", spacing=1) == UNKNOWN
    assert imagej(path) == UNKNOWN
    assert imagej(path, (72, 72), unit="inch", spacing=1) == UNKNOWN
    assert imagej(path, (28.35, 28.35), unit="cm", spacing=1) == UNKNOWN


def test_units_of_single_axes_of_imagej_are_followed(tmp_path):
    path = tmp_path / "a.tif"
    assert imagej(path, (200, 100), unit="micron", zunit="nm", spacing=30) == (30, 10, 5)
    assert imagej(path, (200, 0.125), unit="micron", yunit="nm", zunit="\\u00B5m", spacing=0.03) == (30, 8, 5)
    assert imagej(path, (200, 100), unit="micron", zunit="section", spacing=1) == (None, 10, 5)


def test_pixel_size_of_plain_tags(tmp_path):
    def plain(resolution=None, unit=None, **metadata):
        tifffile.imwrite(tmp_path / "a.tif", stack(), resolution=resolution, resolutionunit=unit, metadata=metadata)
        return pixel_size_of(tmp_path / "a.tif")

    assert plain((2e6, 1e6), "CENTIMETER") == (None, 10, 5)
    assert plain((5080000, 5080000), "INCH") == (None, 5, 5)
    for default in ((72, 72), (96, 96), (300, 300), (1, 1)):
        assert plain(default, "INCH") == UNKNOWN
    assert plain((2e6, 2e6), "NONE") == UNKNOWN
    assert plain() == UNKNOWN
    # A JSON description says more than the tags.
    assert plain((2e6, 1e6), "CENTIMETER", pixel_size_nm={"x": 5, "y": 10, "z": 45}) == (45, 10, 5)


def test_pixel_size_of_ome(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(), metadata={
        "axes": "ZYX", "PhysicalSizeX": 0.005, "PhysicalSizeY": 6, "PhysicalSizeYUnit": "nm"})
    assert pixel_size_of(tmp_path / "a.ome.tif") == (None, 6, 5)


def test_pixel_size_of_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        for name, attribute, value in (
                ("cremi", "resolution", [40.0, 4.0, 5.0]), ("plantseg", "element_size_um", [0.04, 0.004, 0.005]),
                ("ilastik", "axistags", json.dumps({"axes": [
                    {"key": "z", "resolution": 0, "description": ""},
                    {"key": "y", "resolution": 4.0, "description": "nm"},
                    {"key": "x", "resolution": 0.005, "unit": "um"}]})), ("nothing", "note", "no size")):
            handle[name] = stack()
            handle[name].attrs[attribute] = value
    assert pixel_size_of(tmp_path / "a.h5:/cremi") == (40, 4, 5)
    assert pixel_size_of(tmp_path / "a.h5:/plantseg") == (40, 4, 5)
    assert pixel_size_of(tmp_path / "a.h5:/ilastik") == (None, 4, 5)
    assert pixel_size_of(tmp_path / "a.h5:/nothing") == UNKNOWN

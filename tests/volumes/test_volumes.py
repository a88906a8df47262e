"""Volumes: every stored layout gives the same slices, calibration survives, damage is told in one sentence."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc

import h5py
import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes import tiff
from pycaffe_tools.volumes.opening import create_volume, open_volume
from pycaffe_tools.volumes.pixel_size import PixelSize, to_nm

from ..conftest import ROOT

SHAPE = (5, 37, 52)
UNKNOWN = PixelSize()


def stack(dtype="uint8", shape=SHAPE):
    return (np.random.default_rng(1).random(shape) * 250).astype(dtype)


def slices_of(path, **options):
    with open_volume(path, **options) as volume:
        return np.stack([volume.read(z) for z in range(volume.shape[0])])


def pixel_size_of(path):
    with open_volume(path) as volume:
        return volume.pixel_size


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    return text


# Layouts

TIFF_LAYOUTS = {
    "plain": {}, "big-endian": {"byteorder": ">"}, "bigtiff": {"bigtiff": True},
    "tiled": {"tile": (16, 16)}, "deflate": {"compression": "zlib"},
    "deflate with predictor": {"compression": "zlib", "predictor": True},
    "tiled, deflate, bigtiff": {"tile": (32, 16), "compression": "zlib", "bigtiff": True},
    "many strips": {"rowsperstrip": 5}, "no metadata": {"metadata": None},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej, channels by mistake": {"imagej": True},
    "imagej, one header": {"imagej": True, "metadata": {"axes": "ZYX"}, "truncate": True},
    "ome": {"ome": True},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", TIFF_LAYOUTS)
def test_every_tiff_layout_gives_the_stored_slices(tmp_path, layout, dtype):
    options = dict(TIFF_LAYOUTS[layout])
    if dtype == "float32" and options.pop("predictor", None):
        options["predictor"] = 3
        pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", stack(dtype), photometric="minisblack", **options)
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.shape == SHAPE and volume.dtype == dtype
        assert volume.read(3).dtype == np.dtype(dtype) and volume.read(3).flags.c_contiguous
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), stack(dtype))


def test_pages_that_differ_in_compression_are_one_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for z, image in enumerate(stack()):
            tif.write(image, compression="zlib" if z % 2 else None, metadata=None)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), stack())


@pytest.mark.filterwarnings("ignore:.*truncating ImageJ")
def test_imagej_stack_above_4_gb_has_one_page_header_and_all_its_slices(tmp_path):
    shape = (70, 8000, 8192)    # 4.6 GB, nearly all of it a hole in the file
    with tifffile.TiffWriter(tmp_path / "a.tif", imagej=True) as tif:
        start, _ = tif.write(shape=shape, dtype="uint8", metadata={"axes": "ZYX"}, returnoffset=True)
    if (tmp_path / "a.tif").stat().st_blocks > 10_000:
        pytest.skip("this file system cannot hold sparse files")
    with open(tmp_path / "a.tif", "r+b") as stream:
        stream.seek(start + 69 * 8000 * 8192 + 5)
        stream.write(b"\x07")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert len(tif.pages) == 1
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.shape == shape and volume.read(69)[0, 5] == 7 and not volume.read(68).any()


def test_single_image_is_a_volume_of_one_slice(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack()[0])
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), stack()[:1])


def test_boolean_labels_are_read_as_0_and_1(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack() > 100, photometric="minisblack")
    read = slices_of(tmp_path / "a.tif")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, stack() > 100)


def test_folder_is_read_in_natural_order(tmp_path):
    for number in (10, 9, 100, 1):
        tifffile.imwrite(tmp_path / f"s{number}.tif", np.full((4, 6), number, np.uint8), resolution=(2e6, 1e6),
                         resolutionunit="CENTIMETER")
    (tmp_path / "notes.txt").write_text("not a slice")
    assert slices_of(tmp_path)[:, 0, 0].tolist() == [1, 9, 10, 100]
    with open_volume(tmp_path) as volume:
        assert volume.slice_names == ("s1", "s9", "s10", "s100")
    assert pixel_size_of(tmp_path) == (None, 10, 5)


def test_folder_of_png(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for z, (eight, sixteen) in enumerate(zip(stack(), stack("uint16"))):
        for name, pixels in (("8", eight), ("16", sixteen * 200)):
            (tmp_path / name).mkdir(exist_ok=True)
            image.fromarray(pixels).save(tmp_path / name / f"{z}.png")
    np.testing.assert_array_equal(slices_of(tmp_path / "8"), stack())
    sixteen = slices_of(tmp_path / "16")
    assert sixteen.dtype == np.uint16
    np.testing.assert_array_equal(sixteen, stack("uint16") * 200)


@pytest.mark.parametrize("chunks", [None, (1, 16, 16), (4, 16, 16)])
def test_hdf5_dataset_may_be_left_out_if_it_is_the_only_one(tmp_path, chunks):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle.create_dataset("volumes/raw", data=stack("uint16"), chunks=chunks)
    for name in ("a.h5", "a.h5:/volumes/raw", "a.h5:volumes/raw", "a.h5/volumes/raw"):
        np.testing.assert_array_equal(slices_of(tmp_path / name), stack("uint16"))
    np.testing.assert_array_equal(slices_of(tmp_path / "a.h5", dataset="volumes/raw"), stack("uint16"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_names_its_axes_and_scale(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    if zarr.__version__.startswith("2") and version == "0.5":
        pytest.skip("OME-Zarr 0.5 needs zarr 3")
    options = {} if zarr.__version__.startswith("2") else {"zarr_format": 2 if version == "0.4" else 3}
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", **options)
    data = stack("uint16")[np.newaxis, np.newaxis]
    create = getattr(group, "create_array", None) or group.create_dataset
    array = create("full", shape=data.shape, dtype=data.dtype, chunks=(1, 1, 2, 20, 20))
    array[:] = data
    content = {"multiscales": [{
        "axes": [{"name": "t"}, {"name": "c"}] + [{"name": axis, "unit": unit} for axis, unit in
                                                  (("z", "nanometer"), ("y", "micrometer"), ("x", "micrometer"))],
        "datasets": [{"path": "full", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 50, 0.004, 0.005]}]}]}]}
    group.attrs.update(content if version == "0.4" else {"ome": content})
    for name in ("a.zarr", "a.zarr:/full", "a.zarr/full"):
        np.testing.assert_array_equal(slices_of(tmp_path / name), stack("uint16"))
        assert pixel_size_of(tmp_path / name) == (50, 4, 5)


def test_axes_select_singletons_and_order(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle["tzyxc"] = stack()[np.newaxis, ..., np.newaxis]
        handle["xyz"] = stack().T
        handle["tagged"] = stack()[..., np.newaxis]
        handle["tagged"].attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "zyxc"]})
    np.testing.assert_array_equal(slices_of(tmp_path / "a.h5:/tzyxc", axes="TZYXC"), stack())
    np.testing.assert_array_equal(slices_of(tmp_path / "a.h5:/xyz", axes="xyz"), stack())
    np.testing.assert_array_equal(slices_of(tmp_path / "a.h5:/tagged"), stack())
    tifffile.imwrite(tmp_path / "a.tif", stack()[:, np.newaxis], metadata={"axes": "ZCYX"}, photometric="minisblack")
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif", axes="ZCYX"), stack())
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif", axes="TZCYX"), stack())


# Refusals

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


@pytest.mark.parametrize("dtype", ["float64", "int16", "uint32", "int8", "complex64"])
def test_other_data_types_are_refused_by_name(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", stack(dtype), photometric="minisblack")
    with pytest.raises(UserError, match=dtype):
        open_volume(tmp_path / "a.tif")


def test_what_is_not_there_or_not_a_volume_is_told_in_one_sentence(tmp_path):
    (tmp_path / "text.tif").write_text("this is no TIFF")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.h5").write_text("this is no HDF5")
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / "folder").mkdir()
    with h5py.File(tmp_path / "two.h5", "w") as handle:
        handle["raw"], handle["labels"] = stack(), stack()
    for name, said in {"none.tif": "no such file", "text.tif": "not a readable TIFF", "empty.tif": "TIFF",
                       "text.h5": "not a readable HDF5", "a.jpg": "not a kind of volume", "folder": "no .tif",
                       "two.h5": "/labels, /raw", "two.h5:/other": "no dataset /other"}.items():
        with pytest.raises(UserError, match=said) as error:
            open_volume(tmp_path / name)
        assert name.split(":")[0] in one_sentence(error)


def test_pages_of_different_size_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for size in (20, 20, 21):
            tif.write(np.zeros((size, 20), np.uint8), metadata=None)
    with pytest.raises(UserError, match=r"page 2 has shape \(21, 20\)"):
        open_volume(tmp_path / "a.tif")


# Damage

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


def test_compression_without_its_package_is_not_called_damage(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib", photometric="minisblack")
    with open_volume(tmp_path / "a.tif") as volume:
        def needs_package(z):
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

        monkeypatch.setattr(volume, "_read", needs_package)
        with pytest.raises(UserError, match="install imagecodecs") as error:
            volume.read(0)
    assert "damaged" not in one_sentence(error)


# Pixel size

@pytest.mark.parametrize("length, unit, nm", [
    (0.005, "um", 5), (0.005, "micron", 5), (0.005, "\u00b5m", 5), (0.005, "\u03bcm", 5), (0.005, "\\u00B5m", 5),
    (5, "nm", 5), (5, "nanometer", 5), (5e-7, "cm", 5), (5e-6, "mm", 5), (50, "angstrom", 5),
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


# Writing

SIZES = [PixelSize(50, 4.6, 4.7), PixelSize(None, 4.6, 4.7), UNKNOWN, PixelSize(50, None, None),
         PixelSize(None, 3, None), PixelSize(1, 1, 1)]
KINDS = ["a.tif", "a.h5", "a.h5:/some/where", "a.zarr", "bigtiff"]


def written(path, data, size, **options):
    with create_volume(path, data.shape, data.dtype, size, **options) as writer:
        for z, image in enumerate(data):
            writer.write(z, image)
    return path


def kind_of_output(kind, monkeypatch):
    if kind == "a.zarr":
        pytest.importorskip("zarr")
    if kind == "bigtiff":
        monkeypatch.setattr(tiff, "CLASSIC_TIFF_LIMIT", 1)
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
    monkeypatch.setattr(tiff, "CLASSIC_TIFF_LIMIT", 1)
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


def test_hash_is_of_the_content(tmp_path):
    def hashed(path):
        with open_volume(path) as volume:
            return volume.sha256()

    for name in "ab":
        (tmp_path / name).mkdir()
        for z in range(3):
            tifffile.imwrite(tmp_path / name / f"{z}.tif", stack()[z])
    assert hashed(tmp_path / "a") == hashed(tmp_path / "b")
    (tmp_path / "b" / "2.tif").rename(tmp_path / "b" / "3.tif")
    assert hashed(tmp_path / "a") != hashed(tmp_path / "b")


SHARED = ROOT.parent / "shared" / "em" / "vnc_raw.tif"


@pytest.mark.skipif(not SHARED.is_file(), reason="the shared micrographs are not here")
def test_shared_micrographs_open_with_their_pixel_size():
    with open_volume(SHARED) as volume:
        assert volume.shape == (14, 1024, 1024) and volume.pixel_size == (45, 4.6, 4.6)
        np.testing.assert_array_equal(volume.read(7), tifffile.imread(SHARED, key=7))


def test_few_slices_taken_for_colour_planes_are_read_if_the_axes_are_said(tmp_path):
    stack = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    tifffile.imwrite(tmp_path / "four.tif", stack)      # tifffile writes these as the planes of one RGBA picture
    with pytest.raises(UserError, match="or say --axes ZYX"):
        open_volume(tmp_path / "four.tif")
    with open_volume(tmp_path / "four.tif", axes="ZYX") as volume:
        assert volume.shape == (4, 5, 6)
        for z in range(4):
            np.testing.assert_array_equal(volume.read(z), stack[z])

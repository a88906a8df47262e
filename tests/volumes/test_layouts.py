"""Every stored layout gives the same slices."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_volume

from ..conftest import ROOT
from .cases import SHAPE, TIFF_LAYOUTS, pixel_size_of, slices_of, stack


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


@pytest.mark.filterwarnings("ignore:.*are stored as RGB:DeprecationWarning")
def test_few_slices_taken_for_colour_planes_are_read_if_the_axes_are_given(tmp_path):
    stack = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    tifffile.imwrite(tmp_path / "four.tif", stack)      # tifffile writes these as the planes of one RGBA picture
    with pytest.raises(UserError, match="or pass --axes ZYX"):
        open_volume(tmp_path / "four.tif")
    with open_volume(tmp_path / "four.tif", axes="ZYX") as volume:
        assert volume.shape == (4, 5, 6)
        for z in range(4):
            np.testing.assert_array_equal(volume.read(z), stack[z])


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

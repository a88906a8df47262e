"""Zarr, N5 and precomputed folders: the one image inside is read, several are listed, dimension names are followed."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_volume

from .cases import SHAPE, UNKNOWN, one_sentence, pixel_size_of, slices_of, stack

# The files are written by hand, so that what reads them is compared with their definition and not with itself.


def group(path, **attributes):
    path.mkdir(parents=True, exist_ok=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps(attributes))
    return path


def array_2(path, data, **attributes):
    path.mkdir(parents=True)
    (path / ".zarray").write_text(json.dumps({
        "zarr_format": 2, "shape": data.shape, "chunks": data.shape, "dtype": data.dtype.str, "compressor": None,
        "fill_value": 0, "order": "C", "filters": None, "dimension_separator": "."}))
    (path / ".zattrs").write_text(json.dumps(attributes))
    (path / ".".join("0" * data.ndim)).write_bytes(np.ascontiguousarray(data).tobytes())
    return path


def array_3(path, data, names, **attributes):
    chunk = path.joinpath("c", *"0" * data.ndim)
    chunk.parent.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": data.shape, "data_type": data.dtype.name, "fill_value": 0,
        "attributes": attributes, "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": data.shape}},
        "dimension_names": names, "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}))
    chunk.write_bytes(np.ascontiguousarray(data).tobytes())
    return path


def image(path, data, axes="zyx", scale=None, unit="nanometer"):
    described = [{"name": axis, "type": "space", **({"unit": unit} if axis in "zyx" else {})} for axis in axes]
    steps = [[{"type": "scale", "scale": factors}] for factors in (scale or [1.0] * data.ndim, [2.0 * each for each in (
        scale or [1.0] * data.ndim)])]
    group(path, multiscales=[{"version": "0.4", "axes": described, "datasets": [
        {"path": level, "coordinateTransformations": step} for level, step in zip("01", steps)]}])
    array_2(path / "0", data)
    array_2(path / "1", data[..., ::2, ::2])
    return path


@pytest.fixture(autouse=True)
def zarr():
    return pytest.importorskip("zarr")


def test_the_layout_of_bioformats2raw_holds_one_image(tmp_path):
    group(tmp_path / "a.zarr", **{"bioformats2raw.layout": 3})
    image(tmp_path / "a.zarr" / "0", stack()[np.newaxis, np.newaxis], "tczyx", [1, 1, 50, 4, 4])
    for name in ("a.zarr", "a.zarr:/0", "a.zarr:/0/0", "a.zarr/0"):
        np.testing.assert_array_equal(slices_of(tmp_path / name), stack())
        assert pixel_size_of(tmp_path / name) == (50, 4, 4)
    assert pixel_size_of(tmp_path / "a.zarr:/0/1") == (100, 8, 8)


def test_several_images_are_listed_as_they_may_be_given(tmp_path):
    group(tmp_path / "a.zarr")
    for number in (0, 1, 10):
        image(tmp_path / "a.zarr" / str(number), stack() // (number + 1))
    with pytest.raises(UserError, match=r"3 images \(/0, /1, /10\); name one, as in") as error:
        open_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(slices_of(one_sentence(error).rsplit(" ", 1)[1]), stack())
    np.testing.assert_array_equal(slices_of(f"{tmp_path / 'a.zarr'}:/10"), stack() // 11)
    with pytest.raises(UserError, match="holds /0, /1, /10"):
        open_volume(f"{tmp_path / 'a.zarr'}:/2")


def test_labels_beside_an_image_are_meant_only_where_they_are_named(tmp_path):
    image(tmp_path / "a.zarr", stack())
    group(tmp_path / "a.zarr" / "labels", labels=["membranes"])
    image(tmp_path / "a.zarr" / "labels" / "membranes", stack() // 100)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.zarr"), stack())
    for name in ("a.zarr:/labels", "a.zarr:/labels/membranes", "a.zarr:/labels/membranes/0"):
        np.testing.assert_array_equal(slices_of(tmp_path / name), stack() // 100)


def test_arrays_of_a_plain_group_are_found_without_the_ending_in_the_name(tmp_path):
    array_2(group(tmp_path / "plain") / "volumes" / "raw", stack())
    group(tmp_path / "plain" / "volumes")
    np.testing.assert_array_equal(slices_of(tmp_path / "plain"), stack())
    array_2(tmp_path / "plain" / "volumes" / "labels", stack() // 100)
    with pytest.raises(UserError, match="2 images") as error:
        open_volume(tmp_path / "plain")
    np.testing.assert_array_equal(slices_of(one_sentence(error).rsplit(" ", 1)[1]), stack() // 100)


def test_channels_of_an_ome_zarr_are_refused(tmp_path):
    image(tmp_path / "a.zarr", np.stack([stack(), stack()]), "czyx")
    with pytest.raises(UserError, match="2 channels"):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["_ARRAY_DIMENSIONS", "axis_names"])
def test_dimension_names_in_attributes_are_followed(tmp_path, name):
    array_2(tmp_path / "a.zarr", stack().T, **{name: ["x", "y", "z"]}, voxel_size=[4, 5, 40], units=["nm", "nm", "nm"])
    np.testing.assert_array_equal(slices_of(tmp_path / "a.zarr"), stack())
    assert pixel_size_of(tmp_path / "a.zarr") == (40, 5, 4)


def test_dimension_names_of_zarr_3_are_followed(tmp_path, zarr):
    if zarr.__version__.startswith("2"):
        pytest.importorskip("tensorstore")
    array_3(tmp_path / "a.zarr", stack("uint16").T, ["x", "y", "z"])
    with open_volume(tmp_path / "a.zarr") as volume:
        assert volume.shape == SHAPE and volume.dtype == np.uint16
    np.testing.assert_array_equal(slices_of(tmp_path / "a.zarr"), stack("uint16"))
    array_3(tmp_path / "c.zarr", stack()[:2], ["c", "y", "x"])
    with pytest.raises(UserError, match="2 channels; .*--axes ZYX"):
        open_volume(tmp_path / "c.zarr")


def test_signed_and_unknown_sizes_of_zarr(tmp_path):
    signed = (stack("float32") * 200 - 25000).astype(np.int16)
    image(tmp_path / "a.zarr", signed, scale=[50, 4, 4], unit="furlong")
    np.testing.assert_array_equal(slices_of(tmp_path / "a.zarr"), signed)
    assert pixel_size_of(tmp_path / "a.zarr") == UNKNOWN


def test_an_unknown_compressor_is_not_called_damage(tmp_path):
    array_2(tmp_path / "a.zarr", stack())
    content = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    content["compressor"] = {"id": "of-tomorrow"}
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(content))
    with pytest.raises(UserError, match="compressed in a way that nothing installed here decodes .*of-tomorrow"):
        open_volume(tmp_path / "a.zarr")


# N5 and precomputed, both with x first

def test_n5_is_read_with_its_pixel_size(tmp_path):
    pytest.importorskip("tensorstore")
    data = stack(">u2")
    for level, step in (("s0", 1), ("s1", 2)):
        pixels = np.ascontiguousarray(data[:, ::step, ::step])
        chunk = tmp_path / "a.n5" / "raw" / level / "0" / "0" / "0"
        chunk.parent.mkdir(parents=True)
        sizes = pixels.shape[::-1]
        chunk.write_bytes(np.array([0, 3], ">u2").tobytes() + np.array(sizes, ">u4").tobytes() + gzip.compress(pixels.tobytes()))
        (tmp_path / "a.n5" / "raw" / level / "attributes.json").write_text(json.dumps({
            "dimensions": sizes, "blockSize": sizes, "dataType": "uint16", "compression": {"type": "gzip"},
            "pixelResolution": {"dimensions": [4.0 * step, 5.0 * step, 50.0], "unit": "nm"}}))
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.5.0"}')
    np.testing.assert_array_equal(slices_of(tmp_path / "a.n5"), data)
    assert pixel_size_of(tmp_path / "a.n5") == (50, 5, 4)
    assert pixel_size_of(tmp_path / "a.n5:/raw/s1") == (50, 10, 8)


def precomputed(path):
    depth, height, width = SHAPE
    scale = {"key": "4_5_50", "size": [width, height, depth], "resolution": [4, 5, 50], "voxel_offset": [3, 0, 7],
             "chunk_sizes": [[width, height, depth]], "encoding": "raw"}
    (path / "4_5_50").mkdir(parents=True)
    (path / "info").write_text(json.dumps({"@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint8",
                                           "num_channels": 1, "scales": [scale]}))
    (path / "4_5_50" / f"3-{3 + width}_0-{height}_7-{7 + depth}").write_bytes(stack().tobytes())
    return path


def test_precomputed_is_read_with_its_pixel_size(tmp_path):
    pytest.importorskip("tensorstore")
    path = precomputed(tmp_path / "a")
    np.testing.assert_array_equal(slices_of(path), stack())
    assert pixel_size_of(path) == (50, 5, 4)
    with pytest.raises(UserError, match="no scale 8_8_50; it holds 4_5_50"):
        open_volume(f"{path}:/8_8_50")


def test_without_its_package_a_format_is_named(tmp_path, monkeypatch):
    import importlib.util
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorstore" else found(name))
    with pytest.raises(UserError, match="precomputed volume of Neuroglancer, .*pip install tensorstore"):
        open_volume(precomputed(tmp_path / "a"))

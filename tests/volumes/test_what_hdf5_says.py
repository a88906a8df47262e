"""HDF5 that labels its dimensions, holds several images or needs a filter is believed or refused."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_labels, open_volume

from .cases import UNKNOWN, one_sentence, pixel_size_of, slices_of, stack


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def write(path, data, labels=(), name="raw", **attributes):
    with h5py.File(path, "a") as handle:
        dataset = handle.create_dataset(name, data=data)
        for dimension, label in zip(dataset.dims, labels):
            dimension.label = label
        dataset.attrs.update(attributes)


# Axes

@pytest.mark.parametrize("labels, order", [
    ("xyz", (2, 1, 0)), ("yxz", (1, 2, 0)), (["column", "row", "plane"], (2, 1, 0)), (["Depth", "Height", "Width"], (0, 1, 2)),
    (["dim_0", "dim_1", "dim_2"], (0, 1, 2)), ("tyx", (0, 1, 2))])
def test_dimension_labels_are_followed(path, labels, order):
    write(path, stack().transpose(order), labels)
    np.testing.assert_array_equal(slices_of(path), stack())


def test_labelled_axes_of_size_1_are_left_out_and_longer_ones_refused(path):
    write(path, stack()[np.newaxis, ..., np.newaxis], "czyxt")
    write(path, np.stack([stack(), stack()]), "czyx", name="two")
    np.testing.assert_array_equal(slices_of(f"{path}:/raw"), stack())
    with pytest.raises(UserError, match="2 channels"):
        open_volume(f"{path}:/two")
    write(path, stack()[:2], "cyx", name="channels")
    with pytest.raises(UserError, match="2 channels; .*--axes ZYX"):
        open_volume(f"{path}:/channels")
    np.testing.assert_array_equal(slices_of(f"{path}:/channels", axes="ZYX"), stack()[:2])


def test_scales_of_netcdf_name_the_dimensions_and_are_no_images(path):
    with h5py.File(path, "w") as handle:
        data = handle.create_dataset("raw", data=stack().T)
        for number, (letter, step) in enumerate(zip("xyz", (4, 4, 50))):
            handle[letter] = np.arange(data.shape[number]) * step + 7.0
            handle[letter].attrs["units"] = "nm"
            handle[letter].make_scale(letter)
            data.dims[number].attach_scale(handle[letter])
    np.testing.assert_array_equal(slices_of(path), stack())
    assert pixel_size_of(path) == (50, 4, 4)


@pytest.mark.parametrize("name, value", [
    ("DIMENSION_LABELS", 7), ("DIMENSION_LABELS", "x"), ("DIMENSION_LABELS", np.zeros(3)), ("DIMENSION_LABELS", ["x", "y"]),
    ("DIMENSION_LABELS", np.array([b"\xff\xfe", b"", b""])), ("DIMENSION_LABELS", h5py.Empty("f")),
    ("DIMENSION_LIST", 7), ("DIMENSION_LIST", "scales"), ("DIMENSION_LIST", np.zeros((3, 2))),
    ("DIMENSION_LIST", ["a", "b", "c"]), ("REFERENCE_LIST", 7)])
def test_malformed_labels_and_scales_say_nothing(path, name, value):
    """The HDF5 library's own functions for them end the process."""
    write(path, stack(), **{name: value})
    np.testing.assert_array_equal(slices_of(path), stack())
    assert pixel_size_of(path) == UNKNOWN


def test_a_scale_that_is_gone_says_nothing(path):
    with h5py.File(path, "w") as handle:
        data = handle.create_dataset("raw", data=stack())
        scale = handle.create_dataset("z", data=np.arange(len(stack())) * 50.0)
        scale.make_scale("z")
        data.dims[0].attach_scale(scale)
        del handle["z"]
    np.testing.assert_array_equal(slices_of(path), stack())


def test_labels_that_contradict_each_other_are_refused(path):
    write(path, stack().T, "xyz", axistags=json.dumps({"axes": [{"key": key} for key in "zyx"]}))
    with pytest.raises(UserError, match="XYZ by its dimension labels; say which is right with --axes"):
        open_volume(path)
    np.testing.assert_array_equal(slices_of(path, axes="XYZ"), stack())


# Which image

def test_a_group_stands_for_the_one_image_below_it_and_else_for_a_list_that_works(path):
    write(path, stack(), name="volumes/raw")
    write(path, np.arange(9.0), name="volumes/times")
    np.testing.assert_array_equal(slices_of(path), stack())
    np.testing.assert_array_equal(slices_of(f"{path}:/volumes"), stack())
    write(path, stack() // 100, name="volumes/labels")
    with pytest.raises(UserError, match="2 images") as error:
        open_volume(f"{path}:/volumes")
    named = one_sentence(error).rsplit(" ", 1)[1]
    np.testing.assert_array_equal(slices_of(named), stack() // 100)


def test_the_full_resolution_of_a_pyramid_is_read(path):
    write(path, stack(), name="raw/s0")
    write(path, stack()[:, ::2, ::2], name="raw/s1")
    np.testing.assert_array_equal(slices_of(path), stack())
    np.testing.assert_array_equal(slices_of(f"{path}:/raw/s1"), stack()[:, ::2, ::2])


def test_big_data_viewer_means_unsigned_values_and_has_its_sizes_in_the_xml(path):
    grey = (stack("float32") * 250).astype(np.uint16)
    write(path, grey.view(np.int16), name="t00000/s00/0/cells")
    write(path, grey[:, ::2, ::2].view(np.int16), name="t00000/s00/1/cells")
    write(path, np.array([[1.0, 1, 1], [2, 2, 1]]), name="s00/resolutions")
    assert (grey > 32767).any()
    np.testing.assert_array_equal(slices_of(path), grey)
    assert pixel_size_of(path) == UNKNOWN
    path.with_suffix(".xml").write_text(
        "<SpimData><SequenceDescription><ViewSetups><ViewSetup><id>0</id><voxelSize><unit>um</unit>"
        "<size>0.004 0.005 0.05</size></voxelSize></ViewSetup></ViewSetups></SequenceDescription></SpimData>")
    assert pixel_size_of(path) == (50, 5, 4)
    assert pixel_size_of(f"{path}:/t00000/s00/1/cells") == (50, 10, 8)


def test_signed_values_are_signed(path):
    signed = (stack("float32") * 200 - 25000).astype(np.int16)
    write(path, signed)
    read = slices_of(path)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, signed)


def test_labels_may_be_integers_of_any_size(path):
    numbers = stack("uint64") + np.uint64(2 ** 40)
    write(path, numbers)
    with open_labels(path) as volume:
        assert volume.dtype == np.uint64
        np.testing.assert_array_equal(volume.read(3), numbers[3])
    with pytest.raises(UserError, match="uint64 is not supported"):
        open_volume(path)


def test_a_filter_that_is_not_installed_is_named(path):
    with h5py.File(path, "w") as handle:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((1, 4, 6))
        creation.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((2, 4, 6))
        identifier = h5py.h5d.create(handle.id, b"raw", h5py.h5t.NATIVE_UINT8, space, creation)
        for z in range(2):
            identifier.write_direct_chunk((z, 0, 0), bytes(24))
    with pytest.raises(UserError, match="HDF5 filter 32099, which is not installed here; install it") as error:
        open_volume(path)
    assert "damaged" not in one_sentence(error)


# Pixel sizes

@pytest.mark.parametrize("attributes, nm", [
    ({"resolution": (40.0, 4.0, 5.0)}, (40, 4, 5)),
    ({"resolution": (0.04, 0.004, 0.005), "units": ["um", "um", "um"]}, (40, 4, 5)),
    ({"resolution": (40.0, 0.004, 0.005), "units": ["nm", "um", "um"]}, (40, 4, 5)),
    ({"resolution": (0.04, 0.004, 0.005), "unit": "um"}, (40, 4, 5)),
    ({"resolution": (0.04, 0.004, 0.005), "units": np.array([b"um"] * 3)}, (40, 4, 5)),
    ({"resolution": (40.0, 4.0, 5.0), "units": "furlong"}, UNKNOWN),
    ({"resolution": (40.0, 4.0, 5.0), "units": ["nm", "nm"]}, UNKNOWN),
    ({"resolution": (0.04, 0.004, 0.005)}, UNKNOWN),        # no unit, and nothing is that small: micrometres perhaps
    ({"voxel_size": (40, 4, 5), "units": ["nm", "nm", "nm"]}, (40, 4, 5)),
    ({"voxel_size": (40, 4, 5)}, UNKNOWN),
    ({"element_size_um": (0.04, 0.004, 0.005)}, (40, 4, 5))])
def test_units_are_read_or_the_size_is_unknown(path, attributes, nm):
    write(path, stack(), **attributes)
    assert pixel_size_of(path) == nm


def test_sizes_go_with_the_dimensions_of_the_array(path):
    write(path, stack().T, "xyz", resolution=(4.0, 5.0, 40.0))
    assert pixel_size_of(path) == (40, 5, 4)
    write(path, stack()[np.newaxis], "czyx", name="four", resolution=(1.0, 40.0, 5.0, 4.0), units=["", "nm", "nm", "nm"])
    assert pixel_size_of(f"{path}:/four") == (40, 5, 4)
    with h5py.File(path, "a") as handle:
        handle.attrs["units"] = "um"
    write(path, stack(), name="third", voxel_size=(0.04, 0.005, 0.004))
    assert pixel_size_of(f"{path}:/third") == (40, 5, 4)

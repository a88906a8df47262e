"""What microscopes write, in files made by hand from the formats' definitions."""

from __future__ import annotations

import json
import struct

import h5py
import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_volume

from .cases import SHAPE, UNKNOWN, one_sentence, pixel_size_of, slices_of, stack

# MRC

def mrc(path, data, angstroms=(0, 0, 0), order=(1, 2, 3), **header):
    """``angstroms`` along x, y, z; ``order``: which of x, y, z are columns, rows and sections."""
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(str(path)) as file:
        file.set_data(data)
        file.voxel_size = angstroms
        file.header.mapc, file.header.mapr, file.header.maps = order
        for name, value in header.items():
            file.header[name] = value
    return path


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "int8"])
def test_mrc_is_read_with_its_pixel_size(tmp_path, dtype):
    data = stack("float32").astype(dtype) - (0 if dtype == "uint16" else np.array(100, dtype))
    path = mrc(tmp_path / "a.mrc", data, (40, 50, 500))
    np.testing.assert_array_equal(slices_of(path), data)
    assert pixel_size_of(path) == (50, 5, 4)


def test_mrc_whose_sections_are_not_z_is_turned_and_sizes_of_1_are_unknown(tmp_path):
    path = mrc(tmp_path / "a.rec", np.ascontiguousarray(stack("uint16").T), (1, 1, 1), order=(3, 2, 1))
    np.testing.assert_array_equal(slices_of(path), stack("uint16"))
    assert pixel_size_of(path) == UNKNOWN


def test_bytes_of_old_imod_files_are_unsigned(tmp_path):
    path = mrc(tmp_path / "a.st", stack().view(np.int8))
    whole = bytearray(path.read_bytes())
    whole[152:160] = struct.pack("<ii", 1146047817, 0)
    path.write_bytes(whole)
    assert stack().max() > 127
    np.testing.assert_array_equal(slices_of(path), stack())
    whole[152:160] = struct.pack("<ii", 1146047817, 1)
    path.write_bytes(whole)
    np.testing.assert_array_equal(slices_of(path), stack().view(np.int8))


def test_an_mrc_file_that_is_cut_is_refused(tmp_path):
    path = mrc(tmp_path / "a.mrc", stack("uint16"))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match="a.mrc: is not a readable MRC file") as error:
        open_volume(path)
    one_sentence(error)


# DigitalMicrograph

class Dm:
    """Writes the tags of DM3 (version 3) or DM4 (version 4): groups are lists of pairs of a name and a value."""

    def __init__(self, version):
        self.version = version
        self.length = ">q" if version == 4 else ">i"

    def number(self, value):
        return struct.pack(self.length, value)

    def group(self, tags):
        return b"\1\0" + self.number(len(tags)) + b"".join(self.tag(*tag) for tag in tags)

    def tag(self, name, value):
        content = self.group(value) if isinstance(value, list) else self.data(value)
        size = struct.pack(">q", len(content)) if self.version == 4 else b""
        kind = b"\x14" if isinstance(value, list) else b"\x15"
        return kind + struct.pack(">h", len(name)) + name.encode() + size + content

    def data(self, value):
        if isinstance(value, str):
            value = np.frombuffer(value.encode("utf-16-le"), "<u2")
        if isinstance(value, np.ndarray):
            info, content = (20, {"u1": 8, "i2": 2, "u2": 4, "f4": 6, "u4": 5}[value.dtype.str[1:]], value.size), value.tobytes()
        else:
            info, content = ((6,), struct.pack("<f", value)) if isinstance(value, float) else ((5,), struct.pack("<I", value))
        return b"%%%%" + self.number(len(info)) + b"".join(map(self.number, info)) + content

    def file(self, *images):
        tags = self.group([("ImageList", [("", [("ImageData", each)]) for each in images])]) + bytes(8)
        size = struct.pack(">q" if self.version == 4 else ">i", len(tags))
        return struct.pack(">i", self.version) + size + struct.pack(">i", 1) + tags


def dm_image(data, kind, scales, units):
    """Tags of one image; scales and units from x on."""
    dimensions = [("", [("Origin", 0.0), ("Scale", scale), ("Units", unit)]) for scale, unit in zip(scales, units)]
    return [("Calibrations", [("Dimension", dimensions)]), ("Data", data.ravel()), ("DataType", kind),
            ("Dimensions", [("", size) for size in data.shape[::-1]])]


THUMBNAIL = dm_image(np.zeros((3, 4), "<u4"), 23, [1.0, 1.0], ["", ""])


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("dtype, kind", [("<i2", 1), ("<u2", 10), ("<f4", 2), ("u1", 6)])
def test_dm3_and_dm4_are_read_without_their_thumbnail(tmp_path, version, dtype, kind):
    pytest.importorskip("ncempy")
    data = (stack("float32") - (100 if dtype in ("<i2", "<f4") else 0)).astype(dtype)
    path = tmp_path / f"a.dm{version}"
    path.write_bytes(Dm(version).file(THUMBNAIL, dm_image(data, kind, [0.004, 5.0, 50.0], ["\u00b5m", "nm", "nm"])))
    np.testing.assert_array_equal(slices_of(path), data)
    assert pixel_size_of(path) == pytest.approx((50, 5, 4))
    path.write_bytes(Dm(version).file(dm_image(data[0], kind, [5.0, 5.0], ["nm", "nm"])))
    np.testing.assert_array_equal(slices_of(path), data[:1])
    assert pixel_size_of(path) == (None, 5, 5)


def test_spectra_and_several_images_of_dm_files_are_refused(tmp_path):
    pytest.importorskip("ncempy")
    spectra = dm_image(stack("<u2"), 10, [5.0, 5.0, 0.5], ["nm", "nm", "eV"])
    (tmp_path / "spectra.dm3").write_bytes(Dm(3).file(THUMBNAIL, spectra))
    with pytest.raises(UserError, match="spectra \\(an axis in eV"):
        open_volume(tmp_path / "spectra.dm3")
    one = dm_image(stack("<u2"), 10, [5.0, 5.0, 5.0], ["nm"] * 3)
    (tmp_path / "two.dm3").write_bytes(Dm(3).file(THUMBNAIL, one, one))
    with pytest.raises(UserError, match="2 images"):
        open_volume(tmp_path / "two.dm3")
    (tmp_path / "cut.dm3").write_bytes(Dm(3).file(THUMBNAIL, one)[:900])
    (tmp_path / "text.dm4").write_text("no file of DigitalMicrograph")
    (tmp_path / "empty.dm4").write_bytes(b"")
    for name in ("cut.dm3", "text.dm4", "empty.dm4"):
        with pytest.raises(UserError, match=name) as error:
            open_volume(tmp_path / name)
        one_sentence(error)


# SER

def test_ser_is_read_with_its_pixel_size(tmp_path):
    pytest.importorskip("ncempy")
    data = stack("uint16")
    count, height, width = SHAPE
    head = struct.pack("<hhh", 0x4949, 0x0197, 0x0210) + struct.pack("<iiii", 0x4122, 0x4152, count, count)
    dimension = struct.pack("<iddii", count, 0.0, 1.0, 0, 0) + struct.pack("<i", 0)
    where = len(head) + 8 + len(dimension)
    element = struct.calcsize("<ddiddihii") + 2 * height * width
    first = where + 8 * count
    offsets = struct.pack(f"<{2 * count}i", *(first + element * z for z in range(count)), *[0] * count)
    images = b"".join(struct.pack("<ddi", 0.0, 4e-9, 0) + struct.pack("<ddi", 0.0, 5e-9, 0) + struct.pack("<h", 2)
                      + struct.pack("<ii", width, height) + image[::-1].tobytes() for image in data)   # lowest row first
    (tmp_path / "a.ser").write_bytes(head + struct.pack("<ii", where, 1) + dimension + offsets + images)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.ser"), data)
    assert pixel_size_of(tmp_path / "a.ser") == (None, 5, 4)


# EMD

def test_emd_of_velox_has_its_frames_last(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as handle:
        folder = handle.create_group("Data/Image/0123abcd")
        folder["Data"] = np.ascontiguousarray(stack("uint16").transpose(1, 2, 0))
        said = json.dumps({"BinaryResult": {"PixelSize": {"width": "4e-09", "height": "5e-09"}, "PixelUnitX": "m",
                                            "PixelUnitY": "m"}}).encode()
        folder["Metadata"] = np.frombuffer(said + bytes(20), np.uint8)[:, np.newaxis].repeat(5, axis=1)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.emd"), stack("uint16"))
    assert pixel_size_of(tmp_path / "a.emd") == (None, 5, 4)


def test_emd_of_berkeley_names_its_dimensions(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as handle:
        folder = handle.create_group("data/stack")
        folder.attrs["emd_group_type"] = 1
        folder["data"] = stack("float32").T
        for number, (name, size, step) in enumerate(zip("xyz", SHAPE[::-1], (4, 5, 50))):
            folder[f"dim{number + 1}"] = np.arange(size) * float(step)
            folder[f"dim{number + 1}"].attrs.update({"name": name, "units": "[n_m]"})
    np.testing.assert_array_equal(slices_of(tmp_path / "a.emd"), stack("float32"))
    assert pixel_size_of(tmp_path / "a.emd") == (50, 5, 4)


@pytest.mark.parametrize("name, package", [("a.mrc", "mrcfile"), ("a.dm4", "ncempy"), ("a.ser", "ncempy")])
def test_without_its_package_a_format_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, name, package):
    import importlib.util
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    (tmp_path / name).write_bytes(bytes(2000))
    with pytest.raises(UserError, match=f"needs the package {package}; install it \\(pip install {package}\\)") as error:
        open_volume(tmp_path / name)
    one_sentence(error)

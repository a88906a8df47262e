"""A TIFF that says which value is black, which axes it has or that it holds several images is believed or refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_volume

from ..conftest import ROOT
from .cases import SHAPE, one_sentence, pixel_size_of, slices_of, stack

AXES = {"axes": "ZYX"}


# What is black

@pytest.mark.parametrize("options", [
    {}, {"imagej": True}, {"ome": True}, {"compression": "zlib"}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"},
    {"imagej": True, "truncate": True}])
@pytest.mark.parametrize("dtype, highest", [("uint8", 255), ("uint16", 65535)])
def test_white_for_zero_is_turned_round(tmp_path, options, dtype, highest):
    black = stack(dtype)
    tifffile.imwrite(tmp_path / "a.tif", highest - black, photometric="miniswhite", metadata=AXES, **options)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), black)


def test_each_page_is_turned_round_by_itself(tmp_path):
    black = stack()
    for name, options in (("shaped", {}), ("plain", {"metadata": None}), ("packed", {"metadata": None, "compression": "zlib"})):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as tif:
            for z, image in enumerate(black):
                tif.write(255 - image if z in (0, 3) else image, photometric="miniswhite" if z in (0, 3) else "minisblack",
                          contiguous=False, **options)
        np.testing.assert_array_equal(slices_of(tmp_path / f"{name}.tif"), black)


def photometric_tag(path, page, value):
    """Overwrite the tag of one page in the file."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[page].tags["PhotometricInterpretation"].overwrite(value)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}])
def test_a_page_that_differs_from_its_series_is_read_by_its_own_tag(tmp_path, options):
    # All pages of such a series share the first one's header in tifffile.
    stored = stack()
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", metadata=AXES, **options)
    photometric_tag(tmp_path / "a.tif", 2, 0)
    expected = stored.copy()
    expected[2] = 255 - expected[2]
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), expected)
    photometric_tag(tmp_path / "a.tif", 4, 3)
    with pytest.raises(UserError, match="page 4 holds colours of a palette"):
        open_volume(tmp_path / "a.tif")


def test_fewer_bits_have_a_lower_white(tmp_path):
    pytest.importorskip("imagecodecs")
    black = stack()[0] % 16
    stored = 15 - black
    tifffile.imwrite(tmp_path / "four.tif", stored[:, ::2] << 4 | stored[:, 1::2], photometric="miniswhite", metadata=None)
    with tifffile.TiffFile(tmp_path / "four.tif", mode="r+") as tif:
        tif.pages[0].tags["ImageWidth"].overwrite(52)
        tif.pages[0].tags["BitsPerSample"].overwrite(4)
    np.testing.assert_array_equal(slices_of(tmp_path / "four.tif")[0], black)
    tifffile.imwrite(tmp_path / "one.tif", stack() <= 100, photometric="miniswhite", metadata=AXES)
    np.testing.assert_array_equal(slices_of(tmp_path / "one.tif"), stack() > 100)


def test_signed_values_stay_what_they_are_and_are_turned_round_in_their_own_range(tmp_path):
    signed = (stack("float32") * 200 - 25000).astype(np.int16)
    tifffile.imwrite(tmp_path / "a.tif", signed, metadata=AXES)
    read = slices_of(tmp_path / "a.tif")
    assert read.dtype == np.float32 and read.min() < 0
    np.testing.assert_array_equal(read, signed)
    tifffile.imwrite(tmp_path / "b.tif", -1 - signed, photometric="miniswhite", metadata=AXES)
    np.testing.assert_array_equal(slices_of(tmp_path / "b.tif"), signed)


def test_what_has_no_black_is_refused_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "float.tif", stack("float32"), photometric="miniswhite", metadata=AXES)
    with pytest.raises(UserError, match="floats for which 0 is white"):
        slices_of(tmp_path / "float.tif")
    palette = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", stack()[0], photometric="palette", colormap=palette)
    with pytest.raises(UserError, match="colours of a palette"):
        open_volume(tmp_path / "palette.tif")


def test_a_colour_page_among_grey_ones_is_refused_when_the_stack_is_opened(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for z in range(3):
            tif.write(stack()[z], photometric="palette" if z == 2 else "minisblack", metadata=None,
                      colormap=np.zeros((3, 256), np.uint16) if z == 2 else None)
    with pytest.raises(UserError, match="page 2 holds colours of a palette"):
        open_volume(tmp_path / "a.tif")


# Axes

@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}])
def test_channels_are_refused_and_read_as_slices_where_the_user_says_so(tmp_path, options):
    two = stack()[:2]
    tifffile.imwrite(tmp_path / "a.tif", two, photometric="minisblack", metadata={"axes": "CYX"}, **options)
    with pytest.raises(UserError, match="2 channels; .*--axes ZYX") as error:
        open_volume(tmp_path / "a.tif")
    one_sentence(error)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif", axes="ZYX"), two)


def test_channels_of_a_stack_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 2, 8, 9), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(UserError, match="2 channels; save one of them by itself"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes, order", [("XYZ", (2, 1, 0)), ("YXZ", (1, 2, 0)), ("YZX", (1, 0, 2)), ("ZXY", (0, 2, 1))])
def test_declared_axes_are_turned(tmp_path, axes, order, compression):
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stack("uint16").transpose(order)), compression=compression,
                     photometric="minisblack", metadata={"axes": axes})
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), stack("uint16"))
    tifffile.imwrite(tmp_path / "b.tif", np.ascontiguousarray(65535 - stack("uint16").transpose(order)),
                     compression=compression, photometric="miniswhite", metadata={"axes": axes})
    np.testing.assert_array_equal(slices_of(tmp_path / "b.tif"), stack("uint16"))


def test_a_turned_stack_that_is_cut_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stack().T), photometric="minisblack", metadata={"axes": "XYZ"})
    whole = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        end = tif.series[0].dataoffset + stack().nbytes
    if end == len(whole):
        (tmp_path / "a.tif").write_bytes(whole[:-5])
        with pytest.raises(UserError, match="truncated"):
            open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("axes", ["QYX", "IYX", "TYX"])
def test_placeholders_and_time_are_slices(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack", metadata={"axes": axes})
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), stack())


# Several images

def two_images(path):
    with tifffile.TiffWriter(path, ome=True) as tif:
        for part, name, nm in ((stack()[:2], "position 1", 4), (stack()[2:], "position 2", 8)):
            tif.write(part, photometric="minisblack", metadata={
                "axes": "ZYX", "Name": name, **{f"PhysicalSize{axis}": nm for axis in "XY"},
                **{f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}})
    return path


def test_several_images_of_an_ome_file_are_refused_by_name_and_chosen_by_number(tmp_path):
    path = two_images(tmp_path / "a.ome.tif")
    with pytest.raises(UserError, match=r"2 images: .*a\.ome\.tif:0 \(position 1, .*a\.ome\.tif:1 \(position 2") as error:
        open_volume(path)
    one_sentence(error)
    np.testing.assert_array_equal(slices_of(f"{path}:0"), stack()[:2])
    np.testing.assert_array_equal(slices_of(f"{path}:1"), stack()[2:])
    assert pixel_size_of(f"{path}:0") == (None, 4, 4) and pixel_size_of(f"{path}:1") == (None, 8, 8)
    with pytest.raises(UserError, match="no image 2"):
        open_volume(f"{path}:2")


def test_raw_and_labels_in_one_file_are_not_one_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(stack(), photometric="minisblack")
        tif.write(stack() // 100, photometric="minisblack")
    with pytest.raises(UserError, match="2 images: .*a.tif:0"):
        open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(slices_of(f"{tmp_path / 'a.tif'}:1"), stack() // 100)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif", axes="ZYX"), np.concatenate([stack(), stack() // 100]))


def test_pages_of_8_and_16_bits_are_refused_when_the_stack_is_opened(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for dtype in ("uint8", "uint8", "uint16"):
            tif.write(stack(dtype)[0], metadata=None, photometric="minisblack")
    with pytest.raises(UserError, match="page 2 has 16 bits a pixel, page 0 has 8"):
        open_volume(tmp_path / "a.tif")


# Codecs

@pytest.mark.parametrize("compression", ["lzw", "zstd", "jpeg2000", "packbits", "lzma"])
def test_usual_compressions_are_read(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    options = {"compressionargs": {"reversible": True}} if compression == "jpeg2000" else {}
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression=compression, photometric="minisblack", metadata=AXES, **options)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), stack())


@pytest.mark.parametrize("compression", ["group3", "group4"])
@pytest.mark.parametrize("white", [False, True])
def test_fax_compression_is_read_as_the_picture_that_it_shows(tmp_path, compression, white):
    image = pytest.importorskip("PIL.Image")
    masks = stack() > 100
    pages = [image.fromarray(mask) for mask in masks]
    pages[0].save(tmp_path / "a.tif", compression=compression, save_all=True, append_images=pages[1:])
    if white:
        for page in range(len(masks)):
            photometric_tag(tmp_path / "a.tif", page, 0)
    np.testing.assert_array_equal(slices_of(tmp_path / "a.tif"), ~masks if white else masks)


def test_a_codec_that_is_missing_is_not_called_damage(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib", photometric="minisblack", metadata=AXES)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages[0].tags["Compression"].overwrite(32809)       # ThunderScan, which nothing decodes
    with pytest.raises(UserError, match="compressed with THUNDERSCAN, which nothing .*; install") as error:
        open_volume(tmp_path / "a.tif")
    assert "damaged" not in one_sentence(error)


def test_imagecodecs_is_asked_for_where_it_is_missing(tmp_path):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="jpeg2000", photometric="minisblack", metadata=AXES)
    program = ("import sys; sys.modules['imagecodecs'] = None\n"
               "from pycaffe_tools.base.errors import UserError\n"
               "from pycaffe_tools.volumes.opening import open_volume\n"
               "try:\n    open_volume(sys.argv[1])\nexcept UserError as error:\n    print(error)")
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.tif")], stdout=subprocess.PIPE, cwd=str(ROOT),
                          check=True, text=True).stdout
    assert "JPEG2000" in said and "install imagecodecs (pip install imagecodecs)" in said and "damaged" not in said


def test_shape_is_that_of_the_slices(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stack().T), photometric="minisblack", metadata={"axes": "XYZ"})
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.shape == SHAPE and volume.read(0).flags.c_contiguous

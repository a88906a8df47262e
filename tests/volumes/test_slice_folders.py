"""A folder holds one series of slices, in the order of their numbers, with a name for each."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.opening import open_volume

from .cases import one_sentence, pixel_size_of, slices_of, stack


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


def folder(path, names, ending=".tif"):
    """Slices that hold their place in ``names``, written in reverse."""
    path.mkdir(parents=True, exist_ok=True)
    for place in reversed(range(len(names))):
        tifffile.imwrite(path / f"{names[place]}{ending}", np.full((4, 6), place, np.uint8))
    return path


@pytest.mark.parametrize("names, numbers", [
    (["z_-10", "z_-9", "z_0", "z_2"], (-10, -9, 0, 2)),
    (["z-2", "z-1", "z0", "z1"], (-2, -1, 0, 1)),
    (["img-1", "img-2", "img-10"], (1, 2, 10)),                     # a hyphen, since all have it
    (["z0.5", "z0.75", "z1", "z1.25"], (0.5, 0.75, 1, 1.25)),
    (["-0.5nm", "0nm", "0.25nm"], (-0.5, 0, 0.25)),
    (["s1.9", "s1.10", "s1.11"], (9, 10, 11)),                      # sections of block 1, no decimals
    (["slice_00009", "slice_00010"], (9, 10)),
    (["run2_7", "run2_11"], (7, 11)),
    (["s1_5nm", "s2_10nm", "s10_50nm"], (1, 2, 10)),                # both tell the slices apart
    (["b", "c", "yet another"], None)])
def test_slices_come_in_the_order_of_their_numbers(tmp_path, names, numbers):
    with open_volume(folder(tmp_path / "a", names)) as volume:
        assert volume.slice_names == tuple(names) and volume.slice_numbers == numbers
        assert [int(volume.read(z)[0, 0]) for z in range(len(names))] == list(range(len(names)))


@pytest.mark.parametrize("first, second", [("#", "#_mask"), ("raw_#", "label_#"), ("z#_ch00", "z#_ch01"), ("r1_s#", "r2_s#")])
def test_two_series_in_a_folder_are_refused_by_name_and_chosen_by_a_pattern(tmp_path, first, second):
    for series in (first, second):
        folder(tmp_path, [series.replace("#", str(number)) for number in (8, 9, 10)])
    with pytest.raises(UserError, match="2 series") as error:
        open_volume(tmp_path)
    said = one_sentence(error)
    assert f"{first}.tif (3 files" in said and f"{second}.tif (3 files" in said
    for series in (first, second):
        with open_volume(tmp_path / f"{series}.tif") as volume:
            assert volume.slice_names == tuple(series.replace("#", str(number)) for number in (8, 9, 10))
            assert [int(volume.read(z)[0, 0]) for z in range(3)] == [0, 1, 2]


def test_stars_choose_too_and_what_they_choose_is_what_is_hashed(tmp_path):
    folder(tmp_path, ["1_raw", "2_raw"])
    with open_volume(tmp_path / "*_raw.tif") as volume:
        alone = volume.sha256()
    folder(tmp_path, ["1_mask", "2_mask"])
    with open_volume(tmp_path / "*_raw.tif") as volume:
        assert volume.sha256() == alone and volume.shape == (2, 4, 6)
    with pytest.raises(UserError, match="no .tif or .png slices of these names"):
        open_volume(tmp_path / "*_other.tif")


def test_a_stray_picture_and_two_files_of_one_number_are_refused(tmp_path):
    folder(tmp_path / "stray", ["s1", "s2", "overview"])
    with pytest.raises(UserError, match="overview.tif"):
        open_volume(tmp_path / "stray")
    folder(tmp_path / "twice", ["s1", "s01", "s2"])
    with pytest.raises(UserError, match="s0?1.tif and s0?1.tif have the same number"):
        open_volume(tmp_path / "twice")


def test_names_are_of_folders_only(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack")
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.slice_names is None and volume.slice_numbers is None

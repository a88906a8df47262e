"""Stacks and labels in folders belong together by the numbers in their slices' names, not only by their count."""

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.patches.belonging import common_pixel_size, refuse_other_slices
from pycaffe_tools.patches.sources import LabelledStack
from pycaffe_tools.volumes.pixel_size import PixelSize

from .cases import check_refused, make, membrane, numbered, pixels


class Named:
    """A volume of which only the names of its slices matter."""

    def __init__(self, path, *names):
        self.path, self.slice_names = path, names


@pytest.mark.parametrize("ours, theirs", [
    (["raw_001", "raw_002", "raw_010"], ["label_1", "label_2", "label_10"]),
    (["s2_z05", "s2_z06"], ["7_z5", "7_z6"]),                       # what does not vary is not compared
    (["z_-1", "z_0", "z_1"], ["m_-1", "m_0", "m_1"]),
    (["raw-1", "raw-2"], ["label_1", "label_2"]),                   # a hyphen, no sign
    (["z0.5", "z0.75"], ["mask0.50", "mask0.75"]),
    (["em1.001", "em1.002"], ["mask_001", "mask_002"]),             # a point, no decimal one
    (["s1_20240105", "s2_20240106"], ["mask1", "mask2"]),           # a further number that varies
    (["left", "right"], ["left_mask", "right_mask"]),
    (["x5"], ["label_05"]),
    (["raw1_z5"], ["label2_z5"]),
    (["slice_0001_raw"], ["slice_0001_label_v2"]),
])
def test_names_that_belong_together(ours, theirs):
    assert refuse_other_slices(Named("raw", *ours), Named("labels", *theirs)) is None
    assert refuse_other_slices(Named("labels", *theirs), Named("raw", *ours)) is None


@pytest.mark.parametrize("ours, theirs, said", [
    (["s00", "s01", "s03"], ["s00", "s01", "s02"], "labels: has no slice for s03 of raw and has s02, which raw does not have"),
    (["raw_1", "raw_2", "raw_3"], ["label_0", "label_1", "label_2"], "no slice for raw_3 of raw and has label_0"),
    (["a1", "a2", "a3"], ["a1", "a2"], "no slice for a3"),
    (["1_1", "1_2", "2_1"], ["1_1", "1_2", "2_2"], "no slice for 2_1 of raw and has 2_2"),
    (["cell_a", "cell_b"], ["cell_a", "cell_c"], "no slice for cell_b of raw and has cell_c"),
    (["z20181124093512345001", "z20181124093512345002"], ["z20181124093512345001", "z20181124093512345003"], "45003"),
    (["x5"], ["y7"], "has y7"),
    (["1", "2", "3"], ["3", "2", "1"], "slice 0 is 3, but 1 in raw"),
])
def test_names_that_do_not_belong_together_are_named(ours, theirs, said):
    with pytest.raises(UserError, match=said) as error:
        refuse_other_slices(Named("raw", *ours), Named("labels", *theirs))
    assert "--ignore-slice-names" in str(error.value) and "\n" not in str(error.value)


def test_names_without_numbers_beside_names_with_numbers_are_doubtful():
    said = refuse_other_slices(Named("raw", "1", "2"), Named("labels", "first", "second"))
    assert "labels" in said and "first" in said and "taken in order" in said


def test_a_part_is_compared_with_the_slices_that_it_stands_for():
    labels = Named("labels", "s1", "s2", "s3", "s4")
    assert refuse_other_slices(Named("map", "p2", "p3"), labels, [1, 2]) is None
    with pytest.raises(UserError, match="no slice for p2 of map and has s4"):
        refuse_other_slices(Named("map", "p2", "p3"), labels, [2, 3])


def folder(tmp_path, name, images, numbers):
    (tmp_path / name).mkdir()
    for image, number in zip(images, numbers):
        tifffile.imwrite(tmp_path / name / f"{name}_{number:03d}.tif", image)
    return str(tmp_path / name)


def test_a_slice_that_is_missing_here_and_another_there(tmp_path):
    raw, labels = numbered(), membrane()
    stack = LabelledStack(folder(tmp_path, "raw", raw[[0, 1, 3, 4, 5]], (0, 1, 3, 4, 5)),
                          folder(tmp_path, "labels", labels[[0, 1, 2, 3, 5]], (0, 1, 2, 3, 5)))
    check_refused(tmp_path, stack, "no slice for raw_004 .* has labels_002")
    assert make(stack, tmp_path / "db", ignore_slice_names=True).train_count == 600


def test_masks_are_compared_as_well_and_folders_that_match_are_taken(tmp_path):
    raw, labels = numbered(), membrane()
    stack = LabelledStack(folder(tmp_path, "raw", raw, range(8)), folder(tmp_path, "labels", labels, range(8)))
    numbers, label = pixels(make(stack, tmp_path / "one"), "train")
    np.testing.assert_array_equal(label == 1, labels.ravel()[numbers] == 255)
    shifted = folder(tmp_path, "mask", np.zeros_like(labels), range(1, 9))
    check_refused(tmp_path, stack._replace(exclude=shifted), "mask: has no slice for raw_000")
    check_refused(tmp_path, stack._replace(add_labels=shifted), "mask: has no slice for raw_000")


def test_labels_of_another_pixel_size_are_told(tmp_path, pair):
    tifffile.imwrite(pair.labels, membrane(), photometric="minisblack", metadata={"pixel_size_nm": {"z": 50, "y": 8, "x": 8}})
    said = make(pair, tmp_path / "db").info["warnings"]
    assert len(said) == 1 and "labels.tif: its pixel size along y is 8 nm" in said[0] and "4 nm" in said[0]


def test_the_pixel_size_of_all_stacks_is_the_one_they_have_in_common():
    sizes = [PixelSize(50, 4, 4), PixelSize(50.2, None, 4.2)]
    assert common_pixel_size(sizes) == [50, None, None] and common_pixel_size(sizes[:1]) == [50, 4, 4]

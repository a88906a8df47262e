"""A map is compared with the labels of its own slices and its own crop, as the provenance record beside it says."""

import json

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.evaluate.evaluation import evaluate
from pycaffe_tools.evaluate.pixels import confusion
from pycaffe_tools.volumes.pixel_size import PixelSize
from pycaffe_tools.volumes.provenance import provenance_path, write_provenance

SHAPE = (6, 40, 50)


@pytest.fixture
def membrane():
    z, y, x = np.indices(SHAPE)
    return ((y + 3 * z) % 13 < 3) | ((x + 5 * z) % 17 < 3)


@pytest.fixture
def labels(tmp_path, membrane):
    tifffile.imwrite(tmp_path / "labels.tif", membrane.astype(np.uint8) * 255, photometric="minisblack")
    return tmp_path / "labels.tif"


@pytest.fixture
def part(tmp_path, membrane):
    """Makes a perfect map of some slices and a crop, with its record."""
    def made(slices, crop=(0, 40, 0, 50), name="p.tif", failed=(), shape=SHAPE):
        top, bottom, left, right = crop
        array = membrane[list(slices), top:bottom, left:right].astype(np.float32)
        tifffile.imwrite(tmp_path / name, array, photometric="minisblack")
        write_provenance(tmp_path / name, "probability",
                         {"input": {"path": "raw.tif", "shape": list(shape)}, "options": {"crop": list(crop)}},
                         {str(z): None if z in failed else "0" for z in slices}, {str(z): "0" for z in slices}, PixelSize())
        return tmp_path / name
    return made


def refused(said, *arguments, **options):
    with pytest.raises(UserError, match=said) as error:
        evaluate(*arguments, **options)
    assert "\n" not in str(error.value)


def test_other_slices_than_the_maps_are_refused_with_both(part, labels):
    refused("p.tif: was made from slices 0:2 .* not from 2:4, as p.tif.json says; pass --slices 0:2", part([0, 1]), labels,
            slices="2:4")


def test_another_crop_of_the_same_size_is_refused_with_both(part, labels):
    refused("crop 0:20,0:20 .* not from 20:40,20:40, .*pass --crop 0:20,0:20", part([0, 1], (0, 20, 0, 20)), labels,
            slices="0:2", crop="20:40,20:40")


def test_the_record_aligns_a_part_that_is_named_by_no_option(part, labels, membrane):
    found = evaluate(part([4, 5], (8, 28, 10, 50)), labels)
    expected = membrane[4:, 8:28, 10:50]
    assert found.counts == confusion(expected, expected)
    assert found.slices == [4, 5] and found.crop == "8:28,10:50" and found.warnings == []


def test_some_of_the_maps_slices_may_be_asked_for(part, labels, membrane):
    found = evaluate(part([1, 3, 4]), labels, slices="3")
    assert found.slices == [3] and found.counts == confusion(membrane[3], membrane[3])
    assert evaluate(part([4, 1]), labels, slices="4").counts.accuracy == 1


def test_a_map_of_the_whole_stack_is_as_without_a_record(part, labels):
    with_record = evaluate(part(range(6)), labels, slices="2:4")
    provenance_path(labels.parent / "p.tif").unlink()
    assert with_record == evaluate(labels.parent / "p.tif", labels, slices="2:4")


def test_slices_that_failed_hold_zeros_and_are_refused(part, labels):
    path = part([0, 1, 2], failed=[1])
    refused("its slices 1 failed and hold zeros", path, labels)
    assert evaluate(path, labels, slices="0,2").counts.accuracy == 1


def test_labels_of_the_part_alone_are_taken_in_order_with_a_word(part, tmp_path, membrane):
    tifffile.imwrite(tmp_path / "two.tif", membrane[2:4].astype(np.uint8), photometric="minisblack")
    found = evaluate(part([2, 3]), tmp_path / "two.tif")
    assert found.counts.accuracy == 1
    assert "from slices 2:4" in found.warnings[0] and "(6, 40, 50)" in found.warnings[0]


def test_a_record_of_another_file_is_told(part, labels, tmp_path, membrane):
    path = part([2, 3])
    tifffile.imwrite(path, membrane.astype(np.uint8) * 255, photometric="minisblack")
    assert "p.tif.json beside it is not the provenance record" in evaluate(path, labels).warnings[0]


def test_a_record_without_what_is_needed_is_told(part, labels):
    path = part(range(6))
    record = provenance_path(path)
    record.write_text(record.read_text().replace('"crop"', '"region"'))
    assert "could not be compared" in evaluate(path, labels).warnings[0]


def test_folders_are_compared_by_the_names_of_their_slices(tmp_path, membrane):
    for name, numbers in (("p", (2, 3)), ("labels", range(6))):
        (tmp_path / name).mkdir()
        for z in numbers:
            tifffile.imwrite(tmp_path / name / f"{name}{z}.tif", membrane[z].astype(np.uint8) * 255)
    assert evaluate(tmp_path / "p", tmp_path / "labels", slices="2:4").counts.accuracy == 1
    refused("labels: has no slice for p2, p3 .*has labels0, labels1", tmp_path / "p", tmp_path / "labels", slices="0:2")
    assert evaluate(tmp_path / "p", tmp_path / "labels", slices="0:2", ignore_slice_names=True).counts.accuracy < 1


@pytest.mark.parametrize("highest", [1, 3, 90])
def test_the_values_of_a_recorded_map_need_no_guess(part, labels, membrane, highest):
    """Faint probabilities of 8 bits, which would be a mask, labels or percentages in a file from elsewhere."""
    path = part(range(6))
    record = json.loads(provenance_path(path).read_text())
    grey = np.where(membrane, highest, 0).astype(np.uint8)
    tifffile.imwrite(path, grey, photometric="minisblack")
    provenance_path(path).write_text(json.dumps({**record, "bytes": path.stat().st_size}))
    found = evaluate(path, labels, threshold=highest / 255)
    assert found.counts == confusion(membrane, membrane) and found.best.threshold < 0.4
    assert evaluate(path, labels).counts.true_positive == 0

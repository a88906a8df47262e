"""What would give a wrong number is refused, or told with the option that helps."""

import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.evaluate import __main__ as evaluate_command
from pycaffe_tools.evaluate.evaluation import evaluate
from pycaffe_tools.evaluate.pixels import confusion
from pycaffe_tools.volumes.pixel_size import UNKNOWN_PIXEL_SIZE
from pycaffe_tools.volumes.provenance import write_provenance

SHAPE = (3, 40, 50)


def saved(path, array):
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


@pytest.fixture
def membrane():
    z, y, x = np.indices(SHAPE)
    return ((y + z) % 13 < 3) | ((x + 2 * z) % 17 < 3)


@pytest.fixture
def probability(membrane):
    noise = np.random.default_rng(0).normal(size=SHAPE)
    return (1 / (1 + np.exp(-(np.where(membrane, 1.5, -1.5) + 1.2 * noise)))).astype(np.float32)


@pytest.fixture
def labels(tmp_path, membrane):
    return saved(tmp_path / "labels.tif", membrane.astype(np.uint8) * 255)


@pytest.fixture
def p(tmp_path, probability):
    return saved(tmp_path / "p.tif", probability)


def refused(said, *arguments, **options):
    with pytest.raises(UserError, match=said) as error:
        evaluate(*arguments, **options)
    assert "\n" not in str(error.value)


# Labels

def test_inverted_labels_are_refused_as_patches_refuses_them(tmp_path, membrane, probability, p):
    inverted = saved(tmp_path / "inverted.tif", (~membrane).astype(np.uint8) * 255)
    refused(f"inverted.tif: {100 * (~membrane).mean():.0f} % of the pixels are marked.*--membrane-value 0.*--force", p, inverted)
    found = evaluate(p, inverted, force=True)
    assert found.counts == confusion(probability >= 0.5, ~membrane)
    assert "AUC" in found.warnings[0] and "try --membrane-value 0" in found.warnings[0]


def test_excluded_pixels_do_not_hide_inverted_labels(tmp_path, membrane, p):
    outside = np.zeros(SHAPE, bool)
    outside[:, 15:] = True
    inverted = np.where(outside, 0, np.where(membrane, 0, 255)).astype(np.uint8)
    refused("% of the pixels are marked", p, saved(tmp_path / "l.tif", inverted),
            exclude=saved(tmp_path / "mask.tif", outside.astype(np.uint8)))


def test_an_auc_below_a_half_is_told(tmp_path, membrane, probability, labels):
    upside_down = saved(tmp_path / "down.tif", 1 - probability)
    found = evaluate(upside_down, labels)
    assert found.auc < 0.2 and len(found.warnings) == 1 and f"its AUC is {found.auc:.4f}" in found.warnings[0]
    result = CliRunner().invoke(evaluate_command.cli, [str(upside_down), str(labels), "--json", str(tmp_path / "s.json")])
    assert result.exit_code == 0 and "warning: " in result.output and "--membrane-value 0" in result.output
    assert json.loads((tmp_path / "s.json").read_text())["warnings"] == found.warnings


def test_good_numbers_come_without_a_warning(tmp_path, p, labels):
    assert evaluate(p, labels).warnings == []
    result = CliRunner().invoke(evaluate_command.cli, [str(p), str(labels), "--json", str(tmp_path / "s.json")])
    assert result.exit_code == 0 and "warning" not in result.output
    assert list(json.loads((tmp_path / "s.json").read_text()))[:9] == [
        "probability", "labels", "labels_are", "membrane_value", "rim", "exclude", "add_labels", "crop", "slices"]


@pytest.mark.parametrize("dtype, ignored", [(np.int32, -1), (np.uint64, 2 ** 64 - 1), (np.uint8, 255)])
def test_labels_of_any_type_with_a_value_to_ignore(tmp_path, membrane, probability, p, dtype, ignored):
    out = np.random.default_rng(3).random(SHAPE) < 0.2
    coded = saved(tmp_path / "l.tif", np.where(out, np.array(ignored, dtype), membrane.astype(dtype)))
    refused("--ignore-value", p, coded)
    found = evaluate(p, coded, ignore_values=[ignored], segments=True)
    assert found.counts == confusion(probability[~out] >= 0.5, membrane[~out]) and found.excluded == out.sum()
    result = CliRunner().invoke(evaluate_command.cli, [str(p), str(coded), "--ignore-value", str(ignored)])
    assert result.exit_code == 0, result.output


def test_numbered_cells(tmp_path, membrane, probability, p):
    from scipy.ndimage import label
    cells = saved(tmp_path / "cells.tif", np.stack([label(~each)[0] for each in membrane]).astype(np.uint16))
    refused("--labels-are instances", p, cells)
    assert evaluate(p, cells, "instances").counts == confusion(probability >= 0.5, membrane)


# Maps

def test_nan_under_the_mask_is_fine(tmp_path, membrane, probability, labels):
    outside = np.zeros(SHAPE, bool)
    outside[:, :10] = True
    mask = saved(tmp_path / "mask.tif", outside.astype(np.uint8))
    with_nan = saved(tmp_path / "nan.tif", np.where(outside, np.nan, probability).astype(np.float32))
    found = evaluate(with_nan, labels, exclude=mask, segments=True)
    assert found.counts == confusion(probability[~outside] >= 0.5, membrane[~outside])
    refused("NaN", with_nan, labels)


def test_what_is_excluded_does_not_decide_what_a_mask_holds(tmp_path, membrane, labels):
    outside = np.zeros(SHAPE, np.uint8)
    outside[:, :10] = 1
    coded = saved(tmp_path / "mask01.tif", np.where(outside, 99, membrane).astype(np.uint8))
    found = evaluate(coded, labels, exclude=saved(tmp_path / "mask.tif", outside))
    assert found.counts.accuracy == 1


@pytest.mark.parametrize("scale, dtype", [(100, np.float32), (100, np.uint8), (65535, np.uint16), (255, np.float32)])
def test_percent_and_other_scales_are_refused_until_their_full_scale_is_given(tmp_path, membrane, probability, labels, scale, dtype):
    scaled = probability * scale if dtype == np.float32 else np.rint(probability * scale)
    path = saved(tmp_path / "scaled.tif", scaled.astype(dtype))
    refused("scaled.tif: .*--full-scale", path, labels)
    found = evaluate(path, labels, full_scale=scale)
    assert found.counts == confusion(scaled.astype(dtype) >= 0.5 * scale, membrane)
    refused("values from", path, labels, full_scale=scale / 2)


def test_faint_probabilities_of_8_bits_are_taken_with_their_full_scale(tmp_path, membrane, probability, labels):
    path = saved(tmp_path / "faint.tif", np.rint(probability * 80).astype(np.uint8))
    refused("highest value is 7[0-9]|highest value is 80", path, labels)
    assert evaluate(path, labels, full_scale=255, threshold=0.1).counts.recall > 0.9


def test_an_image_of_labels_is_no_map(tmp_path, membrane, labels):
    from scipy.ndimage import label
    cells = np.stack([label(~each)[0] for each in membrane]).astype(np.uint8)
    many = (cells.astype(int) * 37 % 256).astype(np.uint8)      # more values, up to 255
    for number, array in enumerate((cells, many, np.where(membrane, 2, 1).astype(np.uint8), membrane * np.uint8(128))):
        refused("looks like an image of labels.*--full-scale", saved(tmp_path / f"{number}.tif", array), labels)
    refused("values from 0 to", saved(tmp_path / "float.tif", cells.astype(np.float32)), labels)
    found = evaluate(tmp_path / "3.tif", labels, full_scale=128)
    assert found.counts == confusion(membrane, membrane)


def test_saturated_maps_of_8_bits_are_maps(tmp_path, membrane, labels):
    from scipy.ndimage import gaussian_filter
    smooth = gaussian_filter(membrane.astype(float), (0, 1, 1))
    found = evaluate(saved(tmp_path / "p.tif", np.rint(255 * np.clip(smooth * 3 - 1, 0, 1)).astype(np.uint8)), labels)
    assert found.auc > 0.9


def test_labels_given_twice_are_refused(labels):
    refused("as the probabilities and as the labels", labels, labels)


def test_maps_of_another_pixel_size_are_told(tmp_path, probability, membrane):
    sizes = {"p": 5, "labels": 10}
    for name, array in (("p", probability), ("labels", membrane.astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack",
                         metadata={"pixel_size_nm": {"z": 50, "y": 5, "x": sizes[name]}})
    assert "along x is 10 nm" in evaluate(tmp_path / "p.tif", tmp_path / "labels.tif").warnings[0]


def test_a_flat_map_whose_record_says_that_it_is_one_is_believed(tmp_path):
    """A network that has learnt next to nothing gives few values; its provenance record tells them from labels."""
    values = np.full((1, 40, 40), 127, np.uint8)
    values[0, :, 20:] = 129
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[0, :, 25:] = 255
    tifffile.imwrite(tmp_path / "p.tif", values, photometric="minisblack")
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    with pytest.raises(UserError, match="image of labels"):
        evaluate(tmp_path / "p.tif", tmp_path / "labels.tif")
    manifest = {"input": {"shape": [1, 40, 40]}, "options": {"crop": [0, 40, 0, 40]}}
    write_provenance(tmp_path / "p.tif", "probability", manifest, {"0": "x"}, {"0": "y"}, UNKNOWN_PIXEL_SIZE)
    assert evaluate(tmp_path / "p.tif", tmp_path / "labels.tif").auc > 0.8

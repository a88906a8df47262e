"""The command that compares a probability map with labels says what the metrics say about the pixels in memory."""

import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.evaluate import __main__ as evaluate_command
from pycaffe_tools.evaluate.__main__ import report
from pycaffe_tools.evaluate.evaluation import evaluate
from pycaffe_tools.evaluate.pixels import best_threshold, confusion, roc_auc
from pycaffe_tools.evaluate.segments import ThresholdScores
from pycaffe_tools.volumes.creating import create_volume

SHAPE = (3, 40, 50)


def write(path, array):
    with create_volume(path, array.shape, array.dtype) as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    return path


@pytest.fixture
def membrane():
    """A grid of cells whose walls wander from slice to slice."""
    z, y, x = np.indices(SHAPE)
    return ((y + z) % 13 < 3) | ((x + 2 * z) % 17 < 3)


@pytest.fixture
def probability(membrane):
    noise = np.random.default_rng(0).normal(size=SHAPE)
    return (1 / (1 + np.exp(-(np.where(membrane, 1.5, -1.5) + 1.2 * noise)))).astype(np.float32)


@pytest.fixture
def labels(tmp_path, membrane):
    return write(tmp_path / "labels.tif", membrane.astype(np.uint8) * 255)


def test_scores_of_a_float_map_are_those_of_its_pixels(tmp_path, membrane, probability, labels):
    found = evaluate(write(tmp_path / "p.tif", probability), labels, threshold=0.3)
    assert found.counts == confusion(probability >= 0.3, membrane)
    assert found.positive_fraction == membrane.mean()
    assert abs(found.auc - roc_auc(probability, membrane)) <= found.auc_error < 1e-3
    assert found.best.f1 == pytest.approx(best_threshold(probability, membrane).f1, abs=1e-3)
    assert found.best_counts == confusion(probability >= found.best.threshold, membrane)
    assert found.best_counts.f1 == pytest.approx(found.best.f1)


def test_thresholds_may_come_from_the_other_slices(tmp_path, membrane, probability, labels):
    grey = np.rint(probability * 255).astype(np.uint8)
    # The slices differ, so that each would choose another threshold than the others do.
    grey[1] //= 2
    found = evaluate(write(tmp_path / "p.tif", grey), labels, across_slices=True)
    counts = [0, 0, 0, 0]
    for z in range(3):
        others = [other for other in range(3) if other != z]
        threshold = best_threshold(grey[others] / 255, membrane[others]).threshold
        assert found.across.thresholds[z] == pytest.approx(threshold, abs=1 / 255)
        counts = np.add(counts, confusion(grey[z] / 255 >= threshold, membrane[z]))
    assert tuple(found.across.counts) == tuple(counts)
    assert found.across.counts.f1 < found.best.f1 and "across slices" in report(found)
    assert found.as_dict()["across_slices"]["f1"] == found.across.counts.f1
    with pytest.raises(UserError, match="one slice .*--across-slices"):
        evaluate(tmp_path / "p.tif", labels, across_slices=True, slices="1")


def test_reliability_is_how_often_probabilities_are_right(tmp_path, membrane, probability, labels):
    grey = np.rint(probability * 255).astype(np.uint8)
    found = evaluate(write(tmp_path / "p.tif", grey), labels, reliable=True)
    place = np.minimum((grey / 255 * 10).astype(int), 9)
    for number, part in enumerate(found.reliability):
        here = place == number
        assert part.pixels == here.sum() and part.observed == pytest.approx(membrane[here].mean())
        assert part.predicted == pytest.approx((grey[here] / 255).mean(), abs=1e-3)
    error = sum(part.pixels * abs(part.predicted - part.observed) for part in found.reliability) / grey.size
    assert found.as_dict()["reliability"]["expected_calibration_error"] == pytest.approx(error)
    assert "calibration error" in report(found)


def test_a_uint8_map_is_scaled_by_255_and_its_auc_is_exact(tmp_path, membrane, probability, labels):
    grey = np.rint(probability * 255).astype(np.uint8)
    found = evaluate(write(tmp_path / "p.tif", grey), labels, threshold=0.4)
    assert found.counts == confusion(grey >= 102, membrane)     # 0.4 * 255
    assert found.auc == pytest.approx(roc_auc(grey, membrane), abs=1e-12)
    assert found.auc_error == 0


@pytest.mark.parametrize("high", [1, 255])
def test_a_mask_is_evaluated_whether_it_holds_1_or_255(tmp_path, membrane, probability, labels, high):
    mask = (probability > 0.5).astype(np.uint8) * np.uint8(high)
    found = evaluate(write(tmp_path / "mask.tif", mask), labels)
    assert found.counts == confusion(mask, membrane)
    assert found.auc == pytest.approx(found.counts.balanced_accuracy)


def test_labels_may_mark_membrane_with_0(tmp_path, membrane, probability, labels):
    inverted = write(tmp_path / "inverted.tif", (~membrane).astype(np.uint8) * 255)
    p = write(tmp_path / "p.tif", probability)
    assert evaluate(p, inverted, membrane_value=0) == evaluate(p, labels)


def test_excluded_pixels_and_other_slices_do_not_count(tmp_path, membrane, probability, labels):
    exclude = np.zeros(SHAPE, bool)
    exclude[:, :10] = True
    found = evaluate(write(tmp_path / "p.tif", probability), labels, slices="0,2",
                     exclude=write(tmp_path / "exclude.tif", exclude.astype(np.uint8)))
    kept = ~exclude
    kept[1] = False
    assert found.counts == confusion(probability[kept] >= 0.5, membrane[kept])
    assert abs(found.auc - roc_auc(probability[kept], membrane[kept])) <= found.auc_error < 1e-3
    assert found.excluded == 2 * 10 * 50
    assert found.slices == [0, 2]


def test_filled_mitochondria_are_compared_by_their_outline(tmp_path):
    filled = np.zeros((1, 20, 20), np.uint8)
    filled[0, 5:15, 5:15] = 255
    ring = filled.copy()
    ring[0, 7:13, 7:13] = 0
    labels = write(tmp_path / "mitochondria.tif", filled)
    found = evaluate(write(tmp_path / "p.tif", ring), labels, labels_are="mitochondria", rim=2)
    assert found.counts.accuracy == 1
    assert evaluate(tmp_path / "p.tif", labels).counts.recall == 64 / 100


def test_v_rand_and_v_info_are_those_of_the_slices(tmp_path, membrane, probability, labels):
    expected = ThresholdScores()
    for one, other in zip(probability, membrane):
        expected.add(one, other)
    found = evaluate(write(tmp_path / "p.tif", probability), labels, segments=True)
    assert found.segments == expected.best()
    perfect = evaluate(write(tmp_path / "mask.tif", membrane.astype(np.uint8) * 255), labels, segments=True)
    assert perfect.segments["v_rand"].score == pytest.approx(1)
    assert perfect.segments["v_info"].score == pytest.approx(1)


def test_labels_without_membrane_still_have_an_accuracy(tmp_path, probability):
    labels = write(tmp_path / "none.tif", np.zeros(SHAPE, np.uint8))
    found = evaluate(write(tmp_path / "p.tif", probability), labels, segments=True)
    assert found.counts.accuracy == (probability < 0.5).mean()
    assert found.best is None
    assert "not defined" in report(found)
    assert found.as_dict()["auc"] is None


def test_the_command_prints_and_writes_the_same_numbers(tmp_path, membrane, probability, labels):
    p, out = write(tmp_path / "p.tif", probability), tmp_path / "scores.json"
    arguments = [str(p), str(labels), "--rand", "--json", str(out)]
    result = CliRunner().invoke(evaluate_command.cli, arguments)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    counts = confusion(probability >= 0.5, membrane)
    assert content["at_threshold"]["f1"] == counts.f1
    assert content["at_threshold"]["true_positive"] == counts.true_positive
    for score in (content["auc"], counts.accuracy, counts.balanced_accuracy, content["v_rand"]["score"]):
        assert f"{score:.4f}" in result.output
    assert isinstance(CliRunner().invoke(evaluate_command.cli, arguments).exception, UserError)     # exists already


def test_the_commands_options_say_what_labels_mean(tmp_path):
    filled = np.zeros((1, 20, 20), np.uint8)
    filled[0, 5:15, 5:15] = 255
    ring = filled.copy()
    ring[0, 7:13, 7:13] = 0
    prob = write(tmp_path / "p.tif", ring)
    inverted = write(tmp_path / "inverted.tif", 255 - filled)
    result = CliRunner().invoke(evaluate_command.cli, [str(prob), str(inverted), "--membrane-value", "0", "--labels-are",
                                             "mitochondria", "--rim", "2", "--json", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "scores.json").read_text())["at_threshold"]["accuracy"] == 1


def test_a_shape_mismatch_is_one_sentence_with_both_shapes(tmp_path, probability, labels):
    with pytest.raises(UserError, match=r"\(3, 40, 50\).*\(3, 40, 49\)") as error:
        evaluate(write(tmp_path / "p.tif", probability[:, :, :49].copy()), labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("array, message", [
    (np.full(SHAPE, 200, np.float32), "from 200 to 200"),
    (np.full(SHAPE, -0.5, np.float32), "from -0.5"),
    (np.full(SHAPE, np.nan, np.float32), "NaN"),
    (np.full(SHAPE, 7, np.uint16), "uint16"),
])
def test_what_is_no_probability_is_refused_in_one_sentence(tmp_path, labels, array, message):
    with pytest.raises(UserError, match=message):
        evaluate(write(tmp_path / "p.tif", array), labels)


def test_a_probability_just_above_1_is_rounding(tmp_path, membrane, labels):
    scores = np.where(membrane, np.float32(1.000001), np.float32(0))
    assert evaluate(write(tmp_path / "p.tif", scores), labels).counts.accuracy == 1


def test_a_threshold_outside_0_to_1_is_refused(tmp_path, probability, labels):
    with pytest.raises(UserError, match="--threshold 128"):
        evaluate(write(tmp_path / "p.tif", probability), labels, threshold=128)


def test_a_map_of_some_slices_is_compared_with_those_slices_of_the_labels(tmp_path):
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[2, :, :3] = 255
    labels[3, 0] = 255
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    tifffile.imwrite(tmp_path / "part.tif", (labels[2:4] / 255).astype(np.float32), photometric="minisblack")
    result = evaluate(tmp_path / "part.tif", tmp_path / "labels.tif", slices="2:4")
    assert result.counts.accuracy == 1.0 and result.slices == [2, 3]
    with pytest.raises(UserError, match="shape"):
        evaluate(tmp_path / "part.tif", tmp_path / "labels.tif", slices="1:4")
    with pytest.raises(UserError, match="shape"):
        evaluate(tmp_path / "part.tif", tmp_path / "labels.tif")


def test_a_map_of_a_crop_is_compared_with_that_part_of_the_labels(tmp_path, membrane, probability, labels):
    part = np.s_[1:3, 5:25, 10:50]
    path, mask = write(tmp_path / "p.tif", probability[part]), np.zeros(SHAPE, np.uint8)
    mask[:, :8] = 255
    exclude = write(tmp_path / "exclude.tif", mask)
    found = evaluate(path, labels, slices="1:3", crop="5:25,10:", threshold=0.3, exclude=exclude)
    counted = np.s_[1:3, 8:25, 10:50]
    assert found.counts == confusion(probability[counted] >= 0.3, membrane[counted])
    assert found.excluded == 2 * 3 * 40
    with pytest.raises(UserError, match="give the crop it was made with"):
        evaluate(path, labels, slices="1:3", crop="5:25,0:20")
    with pytest.raises(UserError, match="pixel by pixel"):
        evaluate(path, labels, slices="1:3")


def test_the_numbers_never_replace_what_is_compared(tmp_path, probability, labels):
    path = write(tmp_path / "p.tif", probability)
    for target, said in (("p.tif", "ends in .json"), ("numbers.txt", "ends in .json")):
        answer = CliRunner().invoke(evaluate_command.cli, [str(path), str(labels), "--json", str(tmp_path / target), "--force"])
        assert isinstance(answer.exception, UserError) and said in str(answer.exception)


def test_axes_that_files_of_few_slices_leave_open(tmp_path, membrane, probability):
    """tifffile takes three or four slices for colours, unless it is told."""
    tifffile.imwrite(tmp_path / "p.tif", probability, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "labels.tif", membrane.astype(np.uint8) * 255, photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match="axes"):
        evaluate(tmp_path / "p.tif", tmp_path / "labels.tif")
    found = evaluate(tmp_path / "p.tif", tmp_path / "labels.tif", axes="ZYX", threshold=0.3)
    assert found.counts == confusion(probability >= 0.3, membrane)


def test_the_outline_of_a_mitochondrion_goes_on_beyond_a_crop(tmp_path):
    """The crop's edge is no outline: the labels around it are known."""
    labels = np.zeros((1, 60, 60), np.uint8)
    labels[0, 5:35, 5:35] = 255
    map_of_crop = write(tmp_path / "p.tif", np.zeros((1, 20, 20), np.float32))
    found = evaluate(map_of_crop, write(tmp_path / "m.tif", labels), labels_are="mitochondria", rim=3, crop="10:30,10:30")
    assert found.positive_fraction == 0

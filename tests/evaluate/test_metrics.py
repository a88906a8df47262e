"""Scores on arrays small enough to be worked out by hand, then with the arguments swapped, then against brute force."""

import math

import numpy as np
import pytest

from pycaffe_tools.evaluate.histogram import ScoreHistogram
from pycaffe_tools.evaluate.pixels import Confusion, best_threshold, confusion, roc_auc
from pycaffe_tools.evaluate.segments import ThresholdScores, segments, v_info, v_rand

SCORES = np.array([0.1, 0.4, 0.35, 0.8])
LABELS = np.array([0, 0, 1, 1])


# Pixels

def test_scores_of_four_pixels_with_one_of_each_kind_but_two_true_positives():
    counts = confusion(np.array([1, 1, 1, 0, 0]), np.array([255, 255, 0, 255, 0]))
    assert counts == Confusion(2, 1, 1, 1)
    assert counts.accuracy == 3 / 5
    assert counts.precision == 2 / 3
    assert counts.recall == 2 / 3
    assert counts.specificity == 1 / 2
    assert counts.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert counts.f1 == 2 / 3


def test_swapping_prediction_and_labels_swaps_precision_and_recall():
    predicted, labels = np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0])
    one, other = confusion(predicted, labels), confusion(labels, predicted)
    assert (one.precision, one.recall) == (1 / 3, 1.0)
    assert (other.precision, other.recall) == (1.0, 1 / 3)
    assert one.f1 == other.f1 == 1 / 2
    assert one.accuracy == other.accuracy == 1 / 2
    assert one.balanced_accuracy == pytest.approx((1 + 1 / 3) / 2)      # recall 1, specificity 1/3
    assert other.balanced_accuracy == pytest.approx((1 / 3 + 1) / 2)    # recall 1/3, specificity 1


def test_scores_without_meaning_are_not_numbers():
    nothing_called = confusion(np.zeros(4), LABELS)
    assert math.isnan(nothing_called.precision)
    assert nothing_called.recall == 0 and nothing_called.f1 == 0
    no_membrane = confusion(np.zeros(4), np.zeros(4))
    assert no_membrane.accuracy == 1
    assert math.isnan(no_membrane.recall) and math.isnan(no_membrane.balanced_accuracy) and math.isnan(no_membrane.f1)


def test_counts_of_slices_add_up_to_the_volumes():
    rng = np.random.default_rng(0)
    predicted, labels = rng.random((3, 5, 5)) > 0.5, rng.random((3, 5, 5)) > 0.8
    total = Confusion(0, 0, 0, 0)
    for one, other in zip(predicted, labels):
        total = total.plus(confusion(one, other))
    assert total == confusion(predicted, labels)
    assert sum(total) == 75


def test_auc_of_four_pixels_is_three_of_four_pairs_and_one_with_the_classes_swapped():
    assert roc_auc(SCORES, LABELS) == 3 / 4
    assert roc_auc(SCORES, 1 - LABELS) == 1 / 4


def test_a_tie_counts_one_half_in_auc():
    assert roc_auc(np.array([5, 5, 1, 9]), np.array([1, 0, 0, 0])) == (1 + 0.5 + 0) / 3


def test_auc_is_the_share_of_pairs_in_order_by_brute_force():
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 20, 300), rng.random(300) < 0.3
    pairs = scores[labels][:, None] - scores[~labels][None, :]
    assert roc_auc(scores, labels) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)


def test_auc_of_one_class_is_not_a_number_and_nan_scores_are_refused():
    assert math.isnan(roc_auc(SCORES, np.ones(4)))
    with pytest.raises(ValueError, match="NaN"):
        roc_auc(np.array([0.1, np.nan]), np.array([0, 1]))


def test_best_threshold_of_four_pixels_and_with_the_classes_swapped():
    # At 0.35: two hits, one false alarm, none missed: F1 = 4 / 5; the threshold is half-way down to 0.1.
    assert best_threshold(SCORES, LABELS) == pytest.approx((0.225, 0.8))
    # Swapped, calling everything membrane is best: F1 = 4 / 6.
    assert best_threshold(SCORES, 1 - LABELS) == pytest.approx((0.1, 2 / 3))


def test_no_threshold_is_better_by_brute_force_and_f1_is_what_it_says():
    rng = np.random.default_rng(2)
    labels = rng.random(400) < 0.4
    scores = np.round(rng.normal(labels, 1.0), 2)
    threshold, f1 = best_threshold(scores, labels)
    assert confusion(scores >= threshold, labels).f1 == pytest.approx(f1)
    assert f1 == pytest.approx(max(confusion(scores >= t, labels).f1 for t in np.unique(scores)))


def test_weighting_to_a_volumes_balance_equals_a_sample_with_that_balance():
    rng = np.random.default_rng(3)
    labels = np.repeat([True, False], 200)
    scores = rng.normal(labels * 1.5, 1.0)
    as_in_volume = np.repeat(np.arange(400), np.where(labels, 1, 9))  # nine times as many others: a tenth is membrane
    expected = best_threshold(scores[as_in_volume], labels[as_in_volume])
    found = best_threshold(scores, labels, positive_fraction=0.1)
    assert found == pytest.approx(expected)
    assert found.threshold > best_threshold(scores, labels).threshold + 0.2


def test_a_threshold_needs_membrane_and_a_fraction_between_0_and_1():
    with pytest.raises(ValueError, match="no membrane"):
        best_threshold(SCORES, np.zeros(4))
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="fraction"):
            best_threshold(SCORES, LABELS, positive_fraction=fraction)


# Volumes larger than memory

def test_a_histogram_of_8_bit_scores_loses_nothing():
    rng = np.random.default_rng(4)
    labels = rng.random((4, 500)) < 0.2
    scores = np.clip(rng.normal(labels * 60 + 90, 50), 0, 255).astype(np.uint8)
    histogram = ScoreHistogram(bins=4096)
    for one, other in zip(scores, labels):
        histogram.add(one, other)
    assert histogram.auc() == pytest.approx(roc_auc(scores, labels), abs=1e-12)
    assert histogram.auc_error == 0
    threshold, f1 = histogram.best_threshold()
    assert f1 == pytest.approx(best_threshold(scores, labels).f1)
    assert histogram.at(threshold) == confusion(scores / 255 >= threshold, labels)


def test_a_histograms_auc_is_within_its_stated_error_even_where_scores_saturate():
    rng = np.random.default_rng(5)
    labels = rng.random(4000) < 0.5
    scores = 1 / (1 + np.exp(-rng.normal(np.where(labels, 9.0, 7.5), 2.0)))
    histogram = ScoreHistogram(bins=4096)
    histogram.add(scores, labels)
    error = abs(histogram.auc() - roc_auc(scores, labels))
    assert 0 < error <= histogram.auc_error
    fine = ScoreHistogram()
    fine.add(scores, labels)
    assert fine.auc_error < 0.1 * histogram.auc_error < 1e-3
    assert abs(fine.auc() - roc_auc(scores, labels)) <= fine.auc_error


def test_a_histograms_counts_at_a_threshold_are_those_of_the_pixels():
    rng = np.random.default_rng(6)
    scores, labels = rng.random(1000).astype(np.float32), rng.random(1000) < 0.3
    histogram = ScoreHistogram(bins=4096)
    histogram.add(scores, labels)
    for threshold in histogram.edges[[0, 1, 1000, 2048, 3000, -1]]:
        assert histogram.at(threshold) == confusion(scores >= threshold, labels)
    weighted = histogram.best_threshold(positive_fraction=0.03)
    assert weighted.f1 == pytest.approx(best_threshold(scores, labels, positive_fraction=0.03).f1, abs=0.01)


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
def test_scores_that_are_no_probabilities_are_refused(score):
    with pytest.raises(ValueError, match="between 0 and 1"):
        ScoreHistogram().add(np.array([0.5, score]), np.array([0, 1]))


# Segments.  Each case: proposal, truth, V-Rand (split, merge), V-Info (split, merge).

HALVES = [1, 1, 2, 2]
CASES = {
    "the same under other names": ([7, 7, 3, 3], HALVES, (1, 1), (1, 1)),
    "all merged": ([1, 1, 1, 1], HALVES, (1, 8 / 16), (1, 0)),
    "one half split": ([1, 2, 3, 3], HALVES, (6 / 8, 1), (math.log(2) / (1.5 * math.log(2)), 1)),
    "independent": ([1, 2, 1, 2], HALVES, (4 / 8, 4 / 8), (0, 0)),
    "one pixel moved": ([1, 1, 1, 2], HALVES, (6 / 8, 6 / 10), None),
}


@pytest.mark.parametrize("name", CASES)
def test_v_rand_and_v_info_of_four_pixels(name):
    proposal, truth, rand, info = CASES[name]
    assert v_rand(np.array(proposal), np.array(truth)) == pytest.approx(rand)
    if info is not None:
        assert v_info(np.array(proposal), np.array(truth)) == pytest.approx(info, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_swapping_proposal_and_truth_swaps_split_and_merge(name):
    proposal, truth = (np.array(side) for side in CASES[name][:2])
    assert v_rand(truth, proposal) == pytest.approx(v_rand(proposal, truth)[::-1])
    assert v_info(truth, proposal) == pytest.approx(v_info(proposal, truth)[::-1], abs=1e-12)


def test_v_info_of_a_moved_pixel_by_its_entropies():
    # Joint shares 1/2, 1/4, 1/4; proposal 3/4, 1/4; truth 1/2, 1/2.
    of_proposal = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    shared = of_proposal + math.log(2) - 1.5 * math.log(2)
    found = v_info(np.array([1, 1, 1, 2]), np.array(HALVES))
    assert found == pytest.approx((shared / of_proposal, shared / math.log(2)))
    assert found.score == pytest.approx(2 * shared / (of_proposal + math.log(2)))


def test_membrane_of_the_truth_is_left_out():
    assert v_rand(np.array([5, 5, 5, 6]), np.array([0, 1, 1, 2])) == (1, 1)
    assert v_info(np.array([5, 5, 5, 6]), np.array([0, 1, 1, 2])) == pytest.approx((1, 1))


def test_membrane_of_the_proposal_is_split_pixel_by_pixel():
    # Shares 2/4, 1/4, 1/4 against one segment: 6/16, and nothing is merged.
    proposal, truth = np.array([0, 0, 1, 1]), np.array([1, 1, 1, 1])
    assert v_rand(proposal, truth) == (6 / 16, 1)
    assert v_info(proposal, truth) == pytest.approx((0, 1))
    assert v_rand(proposal, truth) == v_rand(np.array([2, 3, 1, 1]), truth)


def test_a_truth_without_segments_has_no_score():
    assert all(math.isnan(term) for term in v_rand(np.array(HALVES), np.zeros(4, int)))
    assert all(math.isnan(term) for term in v_info(np.array(HALVES), np.zeros(4, int)))


def test_v_rand_is_the_share_of_pairs_by_brute_force():
    rng = np.random.default_rng(7)
    proposal, truth = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    proposal_own = np.where(proposal == 0, 100 + np.arange(60), proposal)[truth > 0]
    foreground = truth[truth > 0]
    same_proposal = proposal_own[:, None] == proposal_own[None]
    same_truth = foreground[:, None] == foreground[None]
    both = (same_proposal & same_truth).sum()
    assert v_rand(proposal, truth) == pytest.approx((both / same_truth.sum(), both / same_proposal.sum()))


# From membranes to segments

def wall(width=5):
    """A vertical membrane, three pixels wide in the middle of a slice."""
    membrane = np.zeros((4, 2 * width + 1), bool)
    membrane[:, width - 1:width + 2] = True
    return membrane


def test_areas_that_touch_at_a_corner_only_are_two_segments():
    assert segments(np.array([[0, 1], [1, 0]])).tolist() == [[1, 0], [0, 2]]


def test_thinning_gives_each_membrane_pixel_to_its_nearest_segment():
    thin = segments(wall(), thin=True)[0]
    assert thin[:5].tolist() == [1] * 5 and thin[6:].tolist() == [2] * 5
    assert thin[5] in (1, 2)
    assert segments(np.ones((3, 3)), thin=True).tolist() == [[1] * 3] * 3


def test_a_thick_proposal_of_the_right_wall_is_perfect_after_thinning_and_not_before():
    thick = np.zeros((4, 11))
    thick[:, 2:9] = 0.9
    for thin in (True, False):
        scores = ThresholdScores([0.5], thin=thin)
        scores.add(thick, wall())
        found = scores.best()
        assert (found["v_rand"].score == pytest.approx(1)) == thin
        assert (found["v_info"].score == pytest.approx(1)) == thin
    assert found["v_rand"].merge == pytest.approx(1) and found["v_rand"].split < 0.8


def test_the_best_threshold_closes_a_gap_and_is_the_same_for_all_slices():
    gapped = np.where(wall(), 0.9, 0.05)
    gapped[2, 4:7] = 0.35          # below 0.4 the wall is closed, above it leaks
    scores = ThresholdScores()
    scores.add(gapped, wall())
    found = scores.best()["v_rand"]
    assert found.score == pytest.approx(1)
    assert 0.05 < found.threshold <= 0.35
    scores.add(np.full(wall().shape, 0.05), wall())     # a slice that is merged whatever the threshold
    both = scores.best()["v_rand"]
    assert both.score == pytest.approx((1 + 2 / 3) / 2)
    assert both.threshold == found.threshold


def test_slices_without_cells_do_not_count_and_none_at_all_is_no_score():
    scores = ThresholdScores()
    scores.add(np.zeros((3, 3)), np.ones((3, 3)))
    assert math.isnan(scores.best()["v_rand"].score)


def test_excluded_pixels_are_not_compared():
    proposal, exclude = np.where(wall(), 0.9, 0.0), np.zeros(wall().shape, bool)
    proposal[:, 9] = 0.9            # a wall that is not in the truth
    scores, without = ThresholdScores(), ThresholdScores()
    scores.add(proposal, wall())
    exclude[:, 8:] = True
    without.add(proposal, wall(), exclude)
    assert scores.best()["v_rand"].score < 1
    assert without.best()["v_rand"].score == pytest.approx(1)

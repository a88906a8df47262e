"""Claims of the paper, judged on numbers made by hand: one case for each verdict."""

import math

import numpy as np
import pytest

from pycaffe_tools.nets import paper
from pycaffe_tools.report.claims import (
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Figure,
    difference,
    differences,
    is_better,
    is_competitive,
    is_faster,
    judge,
    keeps_accuracy,
    layers_differ,
    loses_two_points,
)

PATCHES = 1_000_000     # so many that the error of sampling is 0.02 points or less


def right(accuracy):
    """That many percent of the patches right, the same ones for all networks."""
    return np.arange(PATCHES) < round(accuracy / 100 * PATCHES)


def seeds(*accuracies):
    return {seed: right(accuracy) for seed, accuracy in enumerate(accuracies, 1)}


def around(value, spread):
    """Three seeds of that mean and that sample standard deviation."""
    return seeds(value - spread, value, value + spread)


N = seeds(93.0, 93.0, 93.0)


@pytest.mark.parametrize("value, uncertainty, verdict", [
    (1.0, 0.5, REPRODUCED), (1.0, 1.0, REPRODUCED), (1.0, 1.1, UNDECIDED), (3.0, 0.9, NOT_REPRODUCED),
    (3.0, 1.0, UNDECIDED), (-2.0, 1.0, NOT_REPRODUCED)])
def test_a_figure_is_judged_with_its_whole_uncertainty(value, uncertainty, verdict):
    assert judge([Figure("x", value, uncertainty)], low=0, high=2) == verdict


def test_one_figure_outside_decides_against_and_one_on_the_border_leaves_it_open():
    inside, outside, border = Figure("a", 1, 0.1), Figure("b", 5, 0.1), Figure("c", 2, 0.1)
    assert judge([inside, outside, border], 0, 2) == NOT_REPRODUCED
    assert judge([inside, border], 0, 2) == UNDECIDED
    assert judge([inside], 0, 2) == REPRODUCED


def test_no_figure_is_no_verdict():
    assert judge([]) == NOT_RUN == is_better({}, N, "L1").verdict


def test_rounding_is_that_of_a_person():
    assert judge([Figure("x", 0.349, 0)], high=0.3, digits=1) == REPRODUCED
    assert judge([Figure("x", 0.35, 0)], high=0.3, digits=1) == NOT_REPRODUCED      # 0.35 is 0.4 to a tenth
    assert judge([Figure("x", -0.449, 0)], low=-0.4, digits=1) == REPRODUCED
    assert judge([Figure("x", -0.45, 0)], low=-0.4, digits=1) == NOT_REPRODUCED     # and -0.45 is -0.5


def test_differences_are_paired_by_seed():
    """A seed that is good for both networks adds nothing to the spread of their difference."""
    values, _ = difference(seeds(90.0, 92.0, 94.0), seeds(89.0, 91.0, 93.0, 50.0))
    assert values == pytest.approx([1.0, 1.0, 1.0])
    assert difference({1: right(90)}, {2: right(90)}) is None


def test_the_error_of_sampling_is_that_of_the_patches_on_which_two_networks_differ():
    """Worked by hand: of 8 patches the first network has one more right in two places and one less in one."""
    first = {1: np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)}
    second = {1: np.array([0, 0, 1, 1, 1, 0, 1, 0], bool)}
    values, error = difference(first, second)
    # Differences 1, 1, 0, 0, -1, 0, 0, 0: mean 1/8, sum of squares 3, sample variance (3 - 8/64) / 7.
    assert values == [12.5] and error == pytest.approx(100 * math.sqrt((3 - 1 / 8) / 7 / 8))
    # Networks that are right on the same patches differ by nothing, for certain.
    assert difference(first, first) == ([0.0], 0.0)


def test_several_seeds_on_the_same_patches_are_one_sample():
    """A patch that is wrong for every seed is one patch, not three."""
    first, second = right(90.0), right(89.0)
    one = difference({1: first}, {1: second})[1]
    three = difference(dict.fromkeys((1, 2, 3), first), dict.fromkeys((1, 2, 3), second))[1]
    assert three == pytest.approx(one)


def test_equal_seeds_do_not_make_a_figure_certain():
    """Three seeds that happen to agree leave the error of the patches."""
    figure = differences({"N6": N}, {"N6": around(92.0, 0.0)})[0]
    # One patch in a hundred differs: 100 * sqrt(0.01 * 0.99 / 1,000,000).
    assert figure.uncertainty == pytest.approx(0.00995, rel=1e-3)


def test_one_seed_borrows_the_spread_of_the_nearest_network():
    several = differences({"N1": N, "N6": N, "N7": N},
                          {"N1": seeds(92.9), "N6": around(92.8, 0.1), "N7": around(85.0, 8.0)})
    assert [figure.uncertainty for figure in several] == pytest.approx([0.1, 0.1, 8.0], rel=0.02)
    assert [figure.samples for figure in several] == [1, 3, 3]


def test_a_verdict_that_depends_on_the_borrowed_spread_says_so():
    """N7 collapses for some seeds: N1 with the spread of N6 is competitive, with that of N7 nobody knows."""
    nets = {"N1": seeds(93.1), "N6": around(93.1, 0.1), "N7": around(99.0, 0.1)}
    other = {"N1": seeds(93.0), "N6": N, "N7": around(85.0, 8.0)}
    claim = is_competitive(nets, other, "L1")
    assert (claim.verdict, claim.cautious) == (REPRODUCED, UNDECIDED)
    alike = is_competitive({"N6": nets["N6"]}, {"N6": N}, "L1")
    assert alike.cautious == alike.verdict == REPRODUCED


@pytest.mark.parametrize("n6, verdict", [
    (around(92.8, 0.1), REPRODUCED),            # a drop of 0.2 +- 0.1
    (around(92.7, 0.2), UNDECIDED),             # 0.3 +- 0.2 reaches 0.5
    (around(92.2, 0.2), NOT_REPRODUCED),        # 0.8 +- 0.2
    (around(93.5, 0.2), REPRODUCED)])           # better than N
def test_n1_to_n6_within_three_tenths(n6, verdict):
    assert keeps_accuracy(N, {"N1": seeds(93.0), "N6": n6}).verdict == verdict


@pytest.mark.parametrize("n7, verdict", [
    (around(91.1, 0.2), REPRODUCED), (around(91.5, 0.2), UNDECIDED), (around(92.5, 0.2), NOT_REPRODUCED),
    (around(89.0, 0.5), NOT_REPRODUCED)])
def test_n7_loses_about_two_points(n7, verdict):
    assert loses_two_points(N, n7).verdict == verdict


@pytest.mark.parametrize("loss, verdict", [
    (around(92.9, 0.1), REPRODUCED), (around(92.5, 0.2), UNDECIDED), (around(92.0, 0.2), NOT_REPRODUCED),
    (around(95.0, 0.2), REPRODUCED)])
def test_loss_is_competitive_with_sparsity(loss, verdict):
    assert is_competitive({"N6": loss}, {"N6": N}, "APoZ").verdict == verdict


@pytest.mark.parametrize("loss, verdict", [
    (around(93.4, 0.2), REPRODUCED), (around(93.1, 0.2), UNDECIDED), (around(92.6, 0.2), NOT_REPRODUCED)])
def test_loss_is_better_for_n7(loss, verdict):
    assert is_better(loss, N, "L1").verdict == verdict


def test_the_same_accuracy_is_not_better():
    assert is_better(N, N, "L1").verdict == NOT_REPRODUCED


@pytest.mark.parametrize("slow, fast, verdict", [
    ((114.7, 115.0), (29.5, 29.6), REPRODUCED),         # the paper's own times
    ((114.7, 115.0), (29.5, 40.0), UNDECIDED),          # one repetition took longer
    ((100.0, 101.0), (40.0, 41.0), NOT_REPRODUCED)])
def test_n7_is_close_to_four_times_faster(slow, fast, verdict):
    assert is_faster(slow, fast, 3).verdict == verdict


@pytest.mark.parametrize("rises, verdict", [
    ([{"c1": 0.5, "c2": 0.1}, {"c1": 0.6, "c2": 0.1}], REPRODUCED),
    ([{"c1": 0.3, "c2": 0.1}, {"c1": 0.15, "c2": 0.1}], UNDECIDED),         # 3 and 1.5
    ([{"c1": 0.11, "c2": 0.1}, {"c1": 0.12, "c2": 0.1}], NOT_REPRODUCED),
    ([{"c1": -0.01, "c2": 0.0005}], NOT_REPRODUCED),                          # both are no rise at all
    ([], NOT_RUN)])
def test_curves_are_steeper_in_some_layers(rises, verdict):
    assert layers_differ({0.5: rises}).verdict == verdict


def test_curves_are_compared_at_each_share_by_itself():
    """Shares of one curve are no repetitions: how they differ is no uncertainty."""
    claim = layers_differ({0.4: [{"c1": 0.4, "c2": 0.1}], 0.6: [{"c1": 0.9, "c2": 0.1}]})
    assert claim.figures == [Figure("steepest / flattest layer at 40 %", pytest.approx(4), 0.0, 1),
                             Figure("steepest / flattest layer at 60 %", pytest.approx(9), 0.0, 1)]


def test_a_claim_is_written_with_its_rule_and_numbers():
    claim = loses_two_points(N, around(91.1, 0.2)).as_dict()
    assert claim["verdict"] == REPRODUCED and "1.5 to 2.5" in claim["rule"]
    # A spread of 0.2, and 1.9 % of a million patches: the square root of 0.2 ** 2 + 0.0137 ** 2.
    assert claim["figures"] == [{"name": "N7", "value": 1.9, "uncertainty": pytest.approx(0.2005, abs=2e-4), "count": 3}]


def test_the_papers_own_numbers_meet_the_rules():
    """Else the rules would not be those of the paper's sentences."""
    table = paper.TABLE_2
    loss = {net: seeds(row.accuracy_loss) for net, row in table.items()}
    sparsity = {net: seeds(row.accuracy_sparsity) for net, row in table.items() if net != "N"}
    pruned = {net: found for net, found in loss.items() if net != "N"}
    kept = {net: found for net, found in pruned.items() if net != "N7"}
    found = [keeps_accuracy(loss["N"], kept), loses_two_points(loss["N"], loss["N7"]),
             is_competitive(pruned, sparsity, "reference [16]"), is_better(loss["N7"], sparsity["N7"], "reference [16]"),
             is_faster((table["N"].seconds,) * 2, (table["N7"].seconds,) * 2, 1)]
    for claim in found:
        assert claim.verdict == REPRODUCED, claim.key
        assert claim.paper == pytest.approx({figure.name: figure.value for figure in claim.figures}), claim.key


def test_controls_are_said_to_be_none_of_the_papers_claims():
    for claim in (keeps_accuracy(N, {"N6": N}, control=True), loses_two_points(N, N, control=True),
                  is_better(N, N, "N7 at random", control=True), is_faster((4, 4), (1, 1), 1, dense=True)):
        assert claim.control and claim.paper == {} and claim.key != "N7"
        assert claim.word in ("holds", "does not hold", "undecided")
    assert loses_two_points(N, around(91.1, 0.2)).word == "reproduced"

"""The paper's claims, judged from numbers by stated rules.

Every rule has one form.  A claim is about one or several figures, each known
with an uncertainty; it names the range in which they have to lie:

- *reproduced*: every figure lies in the range with its whole uncertainty;
- *not reproduced*: some figure lies outside with its whole uncertainty;
- *undecided*: neither.

The uncertainty of a difference of accuracies is the standard deviation of that
difference over the seeds.  A network with one seed gets the largest one among
the networks of the same claim; where all have one seed, the binomial standard
error of the accuracy on the validation patches stands in for it.

Source of the claims: J. Roels et al., ISBI 2017, arXiv:1810.09735, Section 4.
"""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .networks import NAMES, TABLE_2

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"

Accuracies = Mapping[int, float]
"""Accuracy in percent by seed."""


class Figure(NamedTuple):
    """One number that a claim is about."""

    name: str
    value: float
    uncertainty: float
    count: int = 1
    """Seeds, or other repetitions, that it comes from."""


class Claim(NamedTuple):
    """A claim of the paper with its verdict."""

    key: str
    text: str
    rule: str
    verdict: str
    figures: List[Figure]
    paper: Dict[str, float] = {}
    """The same figures from the paper's Table 2, by name; empty where it prints none."""

    def as_dict(self) -> Dict[str, Any]:
        """For ``claims.json``."""
        figures = [{**figure._asdict(), "value": round(figure.value, 4), "uncertainty": round(figure.uncertainty, 4)}
                   for figure in self.figures]
        paper = {name: round(value, 4) for name, value in self.paper.items()}
        return {**self._asdict(), "figures": figures, "paper": paper}


def judge(figures: Sequence[Figure], low: float = -math.inf, high: float = math.inf,
          digits: Optional[int] = None) -> str:
    """The verdict on figures that have to lie from ``low`` to ``high``.

    Parameters
    ----------
    figures : with their uncertainties; none at all is undecided.
    low, high : the range, ends included.
    digits : decimals to which the ends of a figure's interval are rounded before they are compared.
    """
    def rounded(value: float) -> float:
        # 0.25 is 0.3 to a person who rounds to a tenth; Python would make it 0.2.
        return value if digits is None else math.floor(value * 10 ** digits + 0.5 + 1e-9) / 10 ** digits

    if not figures:
        return UNDECIDED
    intervals = [(rounded(figure.value - figure.uncertainty), rounded(figure.value + figure.uncertainty))
                 for figure in figures]
    if any(upper < low or lower > high for lower, upper in intervals):
        return NOT_REPRODUCED
    if all(low <= lower and upper <= high for lower, upper in intervals):
        return REPRODUCED
    return UNDECIDED


def differences(first: Mapping[str, Accuracies], second: Mapping[str, Accuracies], patches: int) -> List[Figure]:
    """Accuracy of ``first`` less that of ``second`` for each network of both, over the seeds that both have.

    Parameters
    ----------
    first, second : accuracies in percent by network and seed.
    patches : on which they were measured.
    """
    found: List[Tuple[str, List[float], float]] = []
    for name in first:
        seeds = sorted(set(first[name]) & set(second.get(name, {})))
        if seeds:
            share = mean(first[name][seed] for seed in seeds) / 100
            found.append((name, [first[name][seed] - second[name][seed] for seed in seeds],
                          100 * math.sqrt(share * (1 - share) / patches)))
    spreads = [stdev(values) for _, values, _ in found if len(values) > 1]

    def uncertainty(values: List[float], binomial: float) -> float:
        if len(values) > 1:
            return stdev(values)
        return max(spreads) if spreads else binomial

    return [Figure(name, mean(values), uncertainty(values, binomial), len(values))
            for name, values, binomial in found]


UNCERTAINTY = ("The uncertainty of a difference of accuracies is its standard deviation over the seeds (the same seed in "
               "both networks); a network with one seed gets the largest among the networks of the claim, and where all "
               "have one seed the binomial standard error on the validation patches stands in.")
"""How accuracies get their uncertainty, for readers."""


def _only(figures: Sequence[Figure], wanted: int) -> str:
    """Says so where a claim about several networks is judged on fewer."""
    names = ", ".join(figure.name for figure in figures)
    return f"; judged on {names} alone" if 0 < len(figures) < wanted else ""


def _loses(nets: Sequence[str]) -> Dict[str, float]:
    """What networks of Table 2, pruned by loss, lose against N."""
    return {net: TABLE_2["N"].accuracy_loss - TABLE_2[net].accuracy_loss for net in nets}


def _gains(nets: Sequence[str]) -> Dict[str, float]:
    """What networks of Table 2 gain by the loss instead of the sparsity criterion."""
    return {net: TABLE_2[net].accuracy_loss - TABLE_2[net].accuracy_sparsity for net in nets}


KEPT_LIMIT = 0.3
LOSS_RANGE = (1.5, 2.5)
COMPETITIVE_LIMIT = 0.4
SPEED_UP = 3.5
STEEPNESS_RATIO = 2.0
LEAST_RISE = 0.001
_ABOVE_ZERO = 5e-324


def keeps_accuracy(reference: Accuracies, nets: Mapping[str, Accuracies], patches: int, *, key: str = "N1-N6",
                   against: str = "N") -> Claim:
    """N1 to N6 lose at most 0.3 points ("at the cost of at most 0.3% accuracy"), rounded to a tenth."""
    figures = differences({name: reference for name in nets}, nets, patches)
    return Claim(key, f"N1 to N6 lose at most {KEPT_LIMIT} points of accuracy against {against}{_only(figures, 6)}",
                 f"accuracy of {against} less that of each of N1 to N6 (loss criterion, retrained) is at most "
                 f"{KEPT_LIMIT} points, rounded to a tenth", judge(figures, high=KEPT_LIMIT, digits=1), figures,
                 _loses(NAMES[1:-1]) if key == "N1-N6" else {})


def loses_two_points(reference: Accuracies, smallest: Accuracies, patches: int) -> Claim:
    """N7 loses about 2 points ("an accuracy decrease of 1.9%")."""
    figures = differences({"N7": reference}, {"N7": smallest}, patches)
    low, high = LOSS_RANGE
    return Claim("N7", "N7 loses about 2 points of accuracy",
                 f"accuracy of N less that of N7 (loss criterion, retrained) is {low} to {high} points, rounded to a "
                 f"tenth", judge(figures, low, high, digits=1), figures, _loses(["N7"]))


def is_competitive(loss: Mapping[str, Accuracies], sparsity: Mapping[str, Accuracies], patches: int,
                   reading: str) -> Claim:
    """The loss criterion is competitive with sparsity ("competitive (and in some cases even better)")."""
    figures = differences(loss, sparsity, patches)
    return Claim(f"competitive-{reading}", f"pruning by loss is competitive with pruning by sparsity ({reading})"
                 f"{_only(figures, 7)}",
                 f"accuracy by loss less accuracy by {reading} is at least -{COMPETITIVE_LIMIT} points for each of N1 to "
                 f"N7, rounded to a tenth", judge(figures, low=-COMPETITIVE_LIMIT, digits=1), figures,
                 _gains(NAMES[1:]))


def is_better(loss: Accuracies, other: Accuracies, patches: int, reading: str, *, key: str = "better",
              text: Optional[str] = None, net: str = "N7") -> Claim:
    """The loss criterion is better than another for the smallest network (91.27 against 90.86 in Table 2)."""
    figures = differences({net: loss}, {net: other}, patches)
    return Claim(f"{key}-{reading}", text or f"{net} pruned by loss is better than {net} pruned by sparsity ({reading})",
                 f"accuracy of {net} by loss less accuracy of {net} by {reading} is above 0",
                 judge(figures, low=_ABOVE_ZERO), figures, _gains([net]) if key == "better" else {})


def is_faster(slow: Tuple[float, float], fast: Tuple[float, float], repetitions: int, *, key: str = "faster",
              how: str = "patch by patch") -> Claim:
    """N7 is almost 4 times faster ("almost 4 times faster").

    ``slow`` and ``fast`` are the shortest and the longest time of N and N7.
    """
    ratio = slow[0] / fast[0]
    extremes = (slow[0] / fast[1], slow[1] / fast[0])
    figures = [Figure("time of N / time of N7", ratio, max(abs(ratio - extreme) for extreme in extremes), repetitions)]
    return Claim(key, f"N7 segments close to 4 times faster than N, {how}",
                 f"time of N over time of N7, {how}, on one core is at least {SPEED_UP} (what rounds to 4, or more); the "
                 f"shortest of the repetitions counts, the uncertainty is how far the quotient of shortest and longest "
                 f"times is from that", judge(figures, low=SPEED_UP), figures,
                 {figures[0].name: TABLE_2["N"].seconds / TABLE_2["N7"].seconds} if key == "faster" else {})


def layers_differ(rises: Sequence[Mapping[str, float]], shares: Sequence[float] = (0.5,)) -> Claim:
    """Loss curves are steeper in some layers ("the steepness of the curves is different across all layers").

    ``rises`` holds, for each seed and each of ``shares``, the rise of the loss
    by layer when that share of its features is discarded.
    """
    ratios = []
    for rise in rises:
        bounded = [max(value, LEAST_RISE) for value in rise.values()]
        ratios.append(max(bounded) / min(bounded))
    figures = [Figure("steepest / flattest layer", mean(ratios), stdev(ratios) if len(ratios) > 1 else 0.0,
                      len(ratios))] if ratios else []
    places = ", ".join(f"{100 * share:.0f} %" for share in shares)
    return Claim("steepness", "loss curves are steeper in some layers than in others (Figure 3)",
                 f"rise of the training loss when a share of a layer's features is discarded: the largest among the layers "
                 f"over the smallest is at least {STEEPNESS_RATIO:g}, where a rise below {LEAST_RISE} counts as "
                 f"{LEAST_RISE}; mean and standard deviation over the seeds and shares of {places}",
                 judge(figures, low=STEEPNESS_RATIO), figures)

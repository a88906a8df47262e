"""The paper's claims, judged from numbers by stated rules.

Every rule has one form.  A claim is about one or several figures, each known
with an uncertainty; it names the range in which they have to lie:

- *reproduced*: every figure lies in the range with its whole uncertainty;
- *not reproduced*: some figure lies outside with its whole uncertainty;
- *undecided*: neither;
- *not run*: there is no figure yet.

What a network's accuracy is compared by is which validation patches it
classifies right, seed by seed: the two networks of a difference saw the same
patches and, with the same seed, came from the same N.

Source of the claims: J. Roels et al., ISBI 2017, arXiv:1810.09735, Section 4.
"""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..nets.paper import NAMES, TABLE_2

REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_RUN = "reproduced", "not reproduced", "undecided", "not run"

Right = Mapping[int, np.ndarray]
"""By seed, which validation patches a network classifies right (bool, in one order for all networks)."""


class Figure(NamedTuple):
    """One number that a claim is about."""

    name: str
    value: float
    uncertainty: float
    samples: int = 1
    """Seeds, or other repetitions, that it comes from."""


class Claim(NamedTuple):
    """A claim of the paper with its verdict, or a control that the paper lacks."""

    key: str
    text: str
    rule: str
    verdict: str
    figures: List[Figure]
    paper: Dict[str, float] = {}
    """The same figures from the paper's Table 2, by name; empty where it prints none."""
    control: bool = False
    cautious: Optional[str] = None
    """The verdict if networks with one seed had the largest deviation of all networks of the claim; see :func:`differences`."""

    @property
    def word(self) -> str:
        """The verdict for people: what is not in the paper is not reproduced but holds."""
        return {REPRODUCED: "holds", NOT_REPRODUCED: "does not hold"}.get(self.verdict, self.verdict) if self.control \
            else self.verdict

    def as_dict(self) -> Dict[str, Any]:
        """For ``claims.json``."""
        figures = [{"name": figure.name, "value": round(figure.value, 4), "uncertainty": round(figure.uncertainty, 4),
                    "count": figure.samples} for figure in self.figures]
        paper = {name: round(value, 4) for name, value in self.paper.items()}
        return {**self._asdict(), "figures": figures, "paper": paper}


def judge(figures: Sequence[Figure], low: float = -math.inf, high: float = math.inf,
          digits: Optional[int] = None) -> str:
    """The verdict on figures that have to lie from ``low`` to ``high``.

    Parameters
    ----------
    figures : with their uncertainties; none at all is not run.
    low, high : the range, ends included.
    digits : decimals to which the ends of a figure's interval are rounded before they are compared.
    """
    def rounded(value: float) -> float:
        # 0.25 is 0.3 to a person who rounds to a tenth, and -0.25 is -0.3; Python would make it 0.2.
        if digits is None:
            return value
        return math.copysign(math.floor(abs(value) * 10 ** digits + 0.5 + 1e-9) / 10 ** digits, value)

    if not figures:
        return NOT_RUN
    intervals = [(rounded(figure.value - figure.uncertainty), rounded(figure.value + figure.uncertainty))
                 for figure in figures]
    if any(upper < low or lower > high for lower, upper in intervals):
        return NOT_REPRODUCED
    if all(low <= lower and upper <= high for lower, upper in intervals):
        return REPRODUCED
    return UNDECIDED


def difference(first: Right, second: Right) -> Optional[Tuple[List[float], float]]:
    """Accuracy of one network less that of another, for each seed that both have, and its error of sampling.

    Returns
    -------
    The differences in points, and the standard error, in points, that their
    mean has because the validation patches are a sample: that of the mean over
    patches of the difference of right (1) and wrong (0).  None without a common seed.
    """
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    by_seed = np.array([first[seed].astype(np.float64) - second[seed] for seed in seeds])
    by_patch = by_seed.mean(axis=0)
    return [100 * float(value) for value in by_seed.mean(axis=1)], \
        100 * float(by_patch.std(ddof=1)) / math.sqrt(by_patch.size)


def differences(first: Mapping[str, Right], second: Mapping[str, Right], cautious: bool = False) -> List[Figure]:
    """Accuracy of ``first`` less that of ``second`` for each network of both, with the uncertainty of :data:`UNCERTAINTY`.

    Which deviation a network with one seed gets is a choice: that of the
    nearest network, or, ``cautious``, the largest.
    """
    found = {name: difference(first[name], second[name]) for name in first if name in second}
    known = {name: pair for name, pair in found.items() if pair is not None}
    spreads = {name: stdev(values) for name, (values, _) in known.items() if len(values) > 1}

    def spread(name: str) -> float:
        # A network that collapses for some seeds, as N7 may, says nothing about those that keep most of N.
        if cautious and name not in spreads:
            return max(spreads.values(), default=0.0)
        nearest = min(spreads, key=lambda other: abs(NAMES.index(other) - NAMES.index(name)), default=None)
        return 0.0 if nearest is None else spreads[nearest]

    return [Figure(name, mean(values), math.hypot(spread(name), error), len(values))
            for name, (values, error) in known.items()]


UNCERTAINTY = ("The uncertainty of a difference of accuracies is, added in squares, its standard deviation over the seeds "
               "(the same seed in both networks) and its standard error from the validation patches on which the two "
               "networks differ. A network with one seed gets the standard deviation of the nearest one of Table 1 that "
               "has several (N6 for N1 to N5); where all have one seed the patches alone count. Patches of one slice "
               "resemble each other, so the real uncertainty is larger.")
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

AGAIN = "N with the same retraining"
"""The control beside N as trained."""


def keeps_accuracy(reference: Right, nets: Mapping[str, Right], *, control: bool = False) -> Claim:
    """N1 to N6 lose at most 0.3 points ("at the cost of at most 0.3% accuracy"), rounded to a tenth."""
    figures, cautious = (differences(dict.fromkeys(nets, reference), nets, careful) for careful in (False, True))
    against = AGAIN if control else "N"
    return Claim("N1-N6-control" if control else "N1-N6",
                 f"N1 to N6 lose at most {KEPT_LIMIT} points of accuracy against {against}{_only(figures, 6)}",
                 f"accuracy of {against} less that of each of N1 to N6 (loss criterion, retrained) is at most "
                 f"{KEPT_LIMIT} points, rounded to a tenth", judge(figures, high=KEPT_LIMIT, digits=1), figures,
                 {} if control else _loses(NAMES[1:-1]), control, judge(cautious, high=KEPT_LIMIT, digits=1))


def loses_two_points(reference: Right, smallest: Right, *, control: bool = False) -> Claim:
    """N7 loses about 2 points ("an accuracy decrease of 1.9%")."""
    figures = differences({"N7": reference}, {"N7": smallest})
    low, high = LOSS_RANGE
    against = AGAIN if control else "N"
    return Claim("N7-control" if control else "N7", f"N7 loses about 2 points of accuracy against {against}",
                 f"accuracy of {against} less that of N7 (loss criterion, retrained) is {low} to {high} points, rounded to "
                 f"a tenth", judge(figures, low, high, digits=1), figures, {} if control else _loses(["N7"]), control)


def is_competitive(loss: Mapping[str, Right], sparsity: Mapping[str, Right], reading: str) -> Claim:
    """The loss criterion is competitive with sparsity ("competitive (and in some cases even better)")."""
    figures, cautious = (differences(loss, sparsity, careful) for careful in (False, True))
    return Claim(f"competitive-{reading}", f"pruning by loss is competitive with pruning by sparsity ({reading})"
                 f"{_only(figures, 7)}",
                 f"accuracy by loss less accuracy by {reading} is at least -{COMPETITIVE_LIMIT} points for each of N1 to "
                 f"N7, rounded to a tenth", judge(figures, low=-COMPETITIVE_LIMIT, digits=1), figures,
                 _gains(NAMES[1:]), cautious=judge(cautious, low=-COMPETITIVE_LIMIT, digits=1))


def is_better(loss: Right, other: Right, reading: str, *, control: bool = False, net: str = "N7") -> Claim:
    """The loss criterion is better than another for the smallest network (91.27 against 90.86 in Table 2)."""
    figures = differences({net: loss}, {net: other})
    than = reading if control else f"{net} pruned by sparsity ({reading})"
    return Claim(f"{'control' if control else 'better'}-{reading}", f"{net} pruned by loss is better than {than}",
                 f"accuracy of {net} by loss less accuracy of {than} is above 0",
                 judge(figures, low=_ABOVE_ZERO), figures, {} if control else _gains([net]), control)


def is_faster(slow: Tuple[float, float], fast: Tuple[float, float], repetitions: int, *, dense: bool = False) -> Claim:
    """N7 is almost 4 times faster ("almost 4 times faster"), patch by patch as in the paper, or dense as here.

    ``slow`` and ``fast`` are the shortest and the longest time of N and N7.
    """
    how = "dense" if dense else "patch by patch"
    ratio = slow[0] / fast[0]
    extremes = (slow[0] / fast[1], slow[1] / fast[0])
    figures = [Figure("time of N / time of N7", ratio, max(abs(ratio - extreme) for extreme in extremes), repetitions)]
    return Claim("faster-dense" if dense else "faster", f"N7 segments close to 4 times faster than N, {how}",
                 f"time of N over time of N7, {how}, on one core is at least {SPEED_UP} (what rounds to 4, or more); the "
                 f"shortest of the repetitions counts, the uncertainty is how far the quotient of shortest and longest "
                 f"times is from that", judge(figures, low=SPEED_UP), figures,
                 {} if dense else {figures[0].name: TABLE_2["N"].seconds / TABLE_2["N7"].seconds}, dense)


def layers_differ(rises: Mapping[float, Sequence[Mapping[str, float]]]) -> Claim:
    """Loss curves are steeper in some layers ("the steepness of the curves is different across all layers").

    ``rises`` holds, for each share of a layer's features, one entry a seed:
    the rise of the loss by layer when that share is discarded.
    """
    figures = []
    for share, by_seed in rises.items():
        ratios = []
        for rise in by_seed:
            bounded = [max(value, LEAST_RISE) for value in rise.values()]
            ratios.append(max(bounded) / min(bounded))
        if ratios:
            figures.append(Figure(f"steepest / flattest layer at {100 * share:.0f} %", mean(ratios),
                                  stdev(ratios) if len(ratios) > 1 else 0.0, len(ratios)))
    return Claim("steepness", "loss curves are steeper in some layers than in others (Figure 3)",
                 f"rise of the training loss when a share of a layer's features is discarded, along the orders of N7 with "
                 f"the layers below already pruned: the largest among the layers over the smallest is at least "
                 f"{STEEPNESS_RATIO:g} at each share, where a rise below {LEAST_RISE} counts as {LEAST_RISE}; mean and "
                 f"standard deviation over the seeds", judge(figures, low=STEEPNESS_RATIO), figures)

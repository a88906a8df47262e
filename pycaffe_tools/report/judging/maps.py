"""Claims about the probability maps of whole slices (Figure 4)."""

from __future__ import annotations

from typing import Dict

from ...nets.paper import SMALLEST
from ..results import Results
from .accuracy import TITLES
from .claim import Claim, judge
from .figures import Figure, paired

ALIKE = 0.8


def _numbers(results: Results, network: str, what: str) -> Dict[int, float]:
    """By seed; ``network`` as in the names of runs: N, N7-loss ..."""
    found = {}
    for seed in results.seeds:
        scores = results.scores(f"{network}-s{seed}")
        value = scores["map"][what] if scores and "map" in scores else None
        if value is not None:
            found[seed] = value
    return found


def alike(results: Results) -> Claim:
    """"The probability maps corresponding to the N7 pruned network are very similar to the one obtained by the network
    N"."""
    found = _numbers(results, f"{SMALLEST}-loss", "correlation")
    figures = [Figure("correlation", tuple(found.values()))] if found else []
    return Claim("maps-alike", f"the probability map of {SMALLEST} is very similar to that of N",
                 f"correlation of the two maps over whole validation slices is at least {ALIKE}", judge(figures, low=ALIKE),
                 figures, why="Alike to the eye is not alike pixel by pixel.")


def blurred(results: Results) -> Claim:
    """"the N7 probability map is more blurred"."""
    figures = paired(f"N less {SMALLEST}", _numbers(results, "N", "high_frequencies"),
                     _numbers(results, f"{SMALLEST}-loss", "high_frequencies"))
    return Claim("blurred", f"the probability map of {SMALLEST} is more blurred than that of N",
                 "share of a map's variance that smoothing by 2 pixels takes away, over whole validation slices: that of N "
                 f"less that of {SMALLEST} is above 0", judge(figures, above=0.0), figures,
                 why="A small network may also be less sure without being less sharp.")


def noisier(results: Results, criterion: str) -> Claim:
    """"the result obtained by sparsity-based pruning is slightly more noisy than our approach"."""
    figures = paired(TITLES[criterion], _numbers(results, f"{SMALLEST}-{criterion}", "high_frequencies"),
                     _numbers(results, f"{SMALLEST}-loss", "high_frequencies"))
    return Claim("noisier", f"the map of {SMALLEST} by sparsity is noisier than that by the loss",
                 f"share of a map's variance that smoothing by 2 pixels takes away: by {TITLES[criterion]} less by the loss "
                 f"is above 0", judge(figures, above=0.0), figures, reading=TITLES[criterion],
                 why="A network that has unlearnt details gives a smoother map, not a noisier one.")

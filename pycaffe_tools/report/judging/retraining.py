"""Claims about how networks are pruned and retrained (Sections 2.2, 3 and 4)."""

from __future__ import annotations

from typing import Dict, List, Tuple

from ...nets.paper import SMALLEST
from ...reproduce.catalogue import RATES as INITIAL_RATES, rate_name
from ..results import Results
from .accuracy import KEPT, difference
from .claim import Claim, judge
from .figures import Figure, paired

RATES = tuple(map(rate_name, INITIAL_RATES))


def _best(results: Results, kind: str, rates: Tuple[str, ...] = RATES) -> Dict[int, float]:
    """Accuracy of the smallest network at the best of some rates on the mean, by seed; empty unless all were run."""
    by_rate = [results.accuracies(SMALLEST, f"{kind}-rate{rate}") for rate in rates]
    if not all(by_rate):
        return {}
    return max(by_rate, key=lambda found: sum(found.values()) / len(found))


def fewer_iterations(results: Results) -> Claim:
    """"The previous obtained parameters were used as an initialization, which results in less required retraining
    iterations"."""
    figures = paired(SMALLEST, _best(results, "loss"), _best(results, "fresh"))
    return Claim("initialization", "a network that keeps its weights needs fewer iterations of retraining",
                 f"accuracy of {SMALLEST} retrained from the weights that it kept, less that from random weights, after "
                 f"equally many iterations, each at the best of the rates {', '.join(RATES)}, is above 0",
                 judge(figures, above=0.0), figures,
                 why="So little is left of the weights that beginning anew is as fast.")


def lower_rate(results: Results) -> Claim:
    """"We also had to decrease the learning rate since the network parameters are already in a near-optimal state"."""
    figures = paired(SMALLEST, _best(results, "loss", RATES[1:]), results.accuracies(SMALLEST, f"loss-rate{RATES[0]}"))
    return Claim("rate", "retraining needs a lower learning rate than training",
                 f"accuracy of {SMALLEST} retrained at the better of the rates {' and '.join(RATES[1:])}, less that at the "
                 f"rate of training, {RATES[0]}, is above 0", judge(figures, above=0.0), figures,
                 why="So few of the weights are left that they are far from an optimum, and a high rate gets there sooner.")


def bottom_up(results: Results) -> Claim:
    """"We obtained the best results by first pruning the bottom layers, and proceeding as we go deeper"."""
    figures: List[Figure] = []
    for net in ("N6", SMALLEST):
        for direction, words in (("top-down", "from the top"), ("separate", "each layer on the whole network")):
            figures += difference(results, f"{net} ({words})", (net, "loss"), (net, direction))
    return Claim("bottom-up", "pruning the bottom layers first is best",
                 "accuracy of N6 and N7 pruned from the bottom less that pruned from the top, or each layer on the whole "
                 "network, all retrained alike, is above 0 for each", judge(figures, above=0.0), figures,
                 why="The greedy choice adapts to what is already gone in whichever direction it goes, and retraining evens "
                     "out what is left.")


def best_patch_size(results: Results) -> Claim:
    """"we observed an optimal trade-off between local information and computational effort for n = 32"."""
    trained = results.accuracies("N", None)
    figures = [figure for size in (40, 48)
               for figure in paired(f"n = {size}", results.accuracies("N", f"n{size}"), trained)]
    return Claim("n", "patches of 32 x 32 are the best trade-off between accuracy and effort",
                 f"accuracy of N on patches of 40 x 40 and 48 x 48, which take about 1.6 and 2.3 times the work, less that on "
                 f"32 x 32 is below {KEPT} points for each (smaller ones, such as 24 x 24, leave c3 nothing to see in this "
                 f"architecture)", judge(figures, high=KEPT), figures,
                 why="More surroundings help to tell membranes from what looks alike; whether that is worth the time is for the "
                     "user to say.")

"""Claims about the loss along the orders of features (Figure 3)."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ...nets.paper import PRUNED_LAYERS, SMALLEST
from ..results import Results
from .claim import Claim, judge
from .figures import Figure, exactly

SAME_SHARE = 0.1
RISE = 0.01
LEAST_SPREAD = 0.2
BEYOND = 50
"""Features of c2 discarded where curves are compared "beyond 30"."""

Curve = Sequence[float]


def curve(orderings: Optional[Mapping[str, Any]], layer: str) -> Optional[List[float]]:
    """Loss before the first removal and after each, along the order of a layer."""
    if not orderings or layer not in orderings["layers"]:
        return None
    found = orderings["layers"][layer]
    return [found["loss_before"], *found["loss"]]


def _curves(results: Results, net: str, layer: str) -> Dict[int, List[float]]:
    """By seed, of a network pruned by the loss."""
    return {seed: found for seed in results.seeds
            for found in [curve(results.orderings(f"{net}-loss-s{seed}-pruned"), layer)] if found}


def c1_alike(results: Results) -> Claim:
    """"the loss increase for the first layer is the same for all networks (the small deviations are due to random batch
    selection)"."""
    drawn = [found for name in results.draws(results.plan["scale"]["batches"]) for found in [curve(results.orderings(name), "c1")]
             if found]
    figures = []
    if len(drawn) > 1:
        rises = [[values[70] - values[0] for values in drawn], [values[35] - values[0] for values in drawn]]
        largest = max(abs(value) for value in rises[0])
        figures = [exactly(f"spread of the rise after {count} of 100 features, as a share of the rise after 70",
                           (max(values) - min(values)) / largest) for count, values in zip((70, 35), rises)]
    return Claim("c1", "the loss increase of c1 is the same for all networks but for the draw of mini-batches",
                 f"nothing is removed below c1, so all networks have one order of it on one draw; between "
                 f"draws made anew the rise differs by at most {SAME_SHARE:.0%} of that after 70 features",
                 judge(figures, high=SAME_SHARE), figures,
                 why="Near the beginning of the order removals cost about nothing, and the draw decides more than the network.")


def raised(results: Results, layer: str, nets: Sequence[str]) -> Claim:
    """"In layer c2, we observe a loss increase for the N2, N6 and N7 network since output maps have been removed from the
    c1 layer. ... A similar remark yields for networks N2, N3, N6 and N7 in layer c3"."""
    base = _curves(results, "N1", layer)
    figures = []
    for net in nets:
        other = _curves(results, net, layer)
        seeds = sorted(set(base) & set(other))
        if seeds:
            figures.append(Figure(net, tuple(other[seed][0] - base[seed][0] for seed in seeds)))
    return Claim(f"{layer}-raised", f"in {layer} the loss of {', '.join(nets)} starts higher than that of N1, since more is "
                 f"removed below",
                 f"loss before the first removal from {layer} less that of N1 is above 0 for each", judge(figures, above=0.0),
                 figures, why="Some of the features below can go at no cost at all, so nothing is raised by that.")


def alike_beyond_30(results: Results) -> Claim:
    """"this loss difference becomes similar to the other layers if we were to discard more than 30 features from layer
    c2"."""
    base, figures = _curves(results, "N1", "c2"), []
    for net in ("N2", "N6", SMALLEST):
        other = _curves(results, net, "c2")
        seeds = [seed for seed in sorted(set(base) & set(other)) if min(len(base[seed]), len(other[seed])) > BEYOND]
        # A share of a difference that is about 0 says nothing, so the difference of the differences is judged.
        if seeds:
            figures.append(Figure(net, tuple(abs(other[seed][BEYOND] - base[seed][BEYOND])
                                             - 0.5 * abs(other[seed][0] - base[seed][0]) for seed in seeds)))
    return Claim("c2-alike", "beyond 30 discarded features of c2 the networks' losses are alike again",
                 f"the distance of each of N2, N6 and {SMALLEST} to N1 after {BEYOND} features is below half of that before "
                 f"the first (the figure is the first less half of the second)", judge(figures, high=0.0), figures,
                 why="What was lost below stays lost: the curves run beside each other, and c2's own removals add to it.")


def shares(orderings: Mapping[str, Any]) -> Dict[str, float]:
    """For each layer, the share of its features that can go before the loss has risen by :data:`RISE`."""
    found = {}
    for layer in PRUNED_LAYERS:
        values = curve(orderings, layer)
        if values:
            beyond = next((number for number, value in enumerate(values) if value - values[0] > RISE), len(values))
            found[layer] = max(beyond - 1, 0) / orderings["layers"][layer]["features"]
    return found


def steepness(results: Results) -> Claim:
    """"the steepness of the curves is different across all layers"."""
    found: List[Tuple[float, ...]] = []
    for seed in results.seeds:
        orderings = results.orderings(f"figure3-s{seed}")
        if orderings:
            values = shares(orderings)
            found.append(tuple(values[layer] for layer in PRUNED_LAYERS))
    figures = []
    if found:
        figures = [Figure("largest less smallest share", tuple(max(values) - min(values) for values in found))]
        figures += [Figure(layer, tuple(values[number] for values in found)) for number, layer in enumerate(PRUNED_LAYERS)]
    return Claim("steepness", "the loss rises more steeply in some layers than in others",
                 f"the share of a layer's features that can go, on N as trained, before the loss has risen by {RISE}: the "
                 f"largest among the layers less the smallest is at least {LEAST_SPREAD} (the layers' own shares for "
                 f"information)", judge(figures[:1], low=LEAST_SPREAD), figures,
                 why="All layers of N are about equally redundant here.")

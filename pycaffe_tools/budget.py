"""How far to prune each layer, from a budget instead of a table.

The orderings of the layers of the unpruned network tell how much training
loss the first k discarded features of each layer cost.  One tolerance for all
layers turns them into counts: each layer gives up as many features as it can
before its loss first exceeds the tolerance.  So layers whose curves are flat
(Figure 3) lose more than steep ones.  The budget fixes the tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NamedTuple, Sequence

import click

from .caffe_runtime import Weights
from .errors import UserError
from .netgraph import NetGraph
from .ordering import Ordering
from .patches import Database
from .surgery import mask_features, remove_features
from .validation import validate

if TYPE_CHECKING:
    from .prune import Pruner


class Choice(NamedTuple):
    """Counts to prune to, and why these."""

    counts: Dict[str, int]
    reason: str


def parse_counts(text: str) -> Dict[str, int]:
    """Counts written as ``c1=30,c2=20,c3=10,fc4=10``.

    Raises
    ------
    UserError : not of that form.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): int(count) for name, count in pairs}
    except ValueError:
        raise UserError(f"--counts {text}: write layers and counts like c1=30,c2=20,c3=10,fc4=10") from None


def tolerances(orderings: Sequence[Ordering]) -> List[float]:
    """Increases of the loss at which some layer gives up one more feature, ascending, from 0."""
    found = {0.0}
    for ordering in orderings:
        highest = 0.0
        for step in ordering.steps[:-1]:
            highest = max(highest, step.loss - ordering.loss_before)
            found.add(highest)
    return sorted(found)


def counts_at(orderings: Sequence[Ordering], tolerance: float) -> Dict[str, int]:
    """Features that each layer keeps if its loss may not rise by more than ``tolerance``; never none."""
    counts = {}
    for ordering in orderings:
        removed = 0
        for step in ordering.steps[:-1]:
            if step.loss - ordering.loss_before > tolerance:
                break
            removed += 1
        counts[ordering.layer] = ordering.features - removed
    return counts


def parameters_at(net: NetGraph, weights: Weights, counts: Mapping[str, int]) -> int:
    """Number of weights and biases of a net pruned to ``counts``."""
    keep = {layer: range(count) for layer, count in counts.items()}
    return NetGraph(remove_features(net, weights, keep).slim_proto).parameter_count()


def within_parameters(pruner: "Pruner", share: float) -> Choice:
    """The smallest tolerance at which at most ``share`` of the parameters stay.

    Raises
    ------
    UserError : even one feature a layer is more than that.
    """
    orderings = [pruner.order(layer, {}) for layer in pruner.layers]
    before = pruner.net.parameter_count()
    steps = tolerances(orderings)

    def fits(at: int) -> bool:
        return parameters_at(pruner.net, pruner.weights, counts_at(orderings, steps[at])) <= share * before

    if not fits(len(steps) - 1):
        least = parameters_at(pruner.net, pruner.weights, counts_at(orderings, steps[-1])) / before
        raise UserError(f"--target-parameters {share:g}: with one feature left in each layer {least:.4f} of the "
                        f"parameters remain; ask for at least that")
    chosen = _first(fits, len(steps))
    counts = counts_at(orderings, steps[chosen])
    kept = parameters_at(pruner.net, pruner.weights, counts) / before
    return Choice(counts, f"{100 * kept:.1f} % of the parameters, at most {100 * share:g} % asked for: each layer gives "
                          f"up what costs up to {steps[chosen]:.5f} in loss by its own ordering")


def within_accuracy_drop(pruner: "Pruner", points: float, database: Database) -> Choice:
    """The largest tolerance found whose pruned network, not retrained, loses at most ``points`` of accuracy.

    The accuracy on the validation patches is measured on networks pruned
    bottom-up, as they would be written.  It need not fall evenly with the
    tolerance, so the bisection finds a place where it crosses the limit, and
    what it returns was measured to be within it.
    """
    orderings = [pruner.order(layer, {}) for layer in pruner.layers]
    steps = tolerances(orderings)
    full = validate(pruner.net, pruner.weights, database).accuracy
    drops: Dict[int, float] = {}

    def exceeds(at: int) -> bool:
        pruning = pruner.prune(counts_at(orderings, steps[at]))
        masked = mask_features(pruner.net, pruner.weights, pruning.removed)
        drops[at] = 100 * (full - validate(pruner.net, masked, database).accuracy)
        click.echo(f"loss tolerance {steps[at]:.5f}: {', '.join(f'{k} {v}' for k, v in pruning.counts.items())}, "
                   f"accuracy drop {drops[at]:.2f} points", err=True)
        return drops[at] > points + 1e-9

    crossing = _first(exceeds, len(steps))
    if crossing == 0:
        unpruned = {name: pruner.features[name] for name in pruner.layers}
        return Choice(unpruned, f"nothing can go within a drop of {points:g} points")
    within = max(at for at in drops if drops[at] <= points + 1e-9)
    return Choice(counts_at(orderings, steps[within]),
                  f"accuracy drop {drops[within]:.2f} points on the validation patches before retraining, at most "
                  f"{points:g} asked for: each layer gives up what costs up to {steps[within]:.5f} in loss by its "
                  f"own ordering")


def _first(holds: Callable[[int], bool], count: int) -> int:
    """Bisect for the first index below ``count`` at which ``holds`` turns true; ``count`` if at none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low

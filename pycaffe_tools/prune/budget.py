"""How far to prune each layer, from a budget instead of a table.

The orderings of the layers of the unpruned network tell how much training
loss the first k discarded features of each layer cost.  Merged by that cost
they are one walk over all layers, a feature a step, in which layers whose
curves are flat (Figure 3) lose features before steep ones.  The budget says
where the walk stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NamedTuple, Sequence

import click

from ..base.errors import UserError
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights
from ..ordering.ordering import Ordering
from ..patches.database import Database
from ..surgery.surgery import mask_features, remove_features
from ..train.validation import validate

if TYPE_CHECKING:
    from .pruner import Pruner


class Choice(NamedTuple):
    """Counts to prune to, and why these."""

    counts: Dict[str, int]
    reason: str


class Removal(NamedTuple):
    """One step of the walk: a feature of ``layer`` goes, which raises its own layer's loss by up to ``cost``."""

    cost: float
    share: float
    layer: str


def walk(orderings: Sequence[Ordering]) -> List[Removal]:
    """All removals, cheapest first, so that a beginning of the list is a way to prune; no layer loses its last feature.

    The cost is the highest increase of the loss so far along the layer's own
    ordering, at least 0: removals that cost nothing are taken in turn from all
    layers, by the share of the layer that is gone.
    """
    removals = []
    for ordering in orderings:
        cost = 0.0
        for number, step in enumerate(ordering.steps[:-1], start=1):
            cost = max(cost, step.loss - ordering.loss_before)
            removals.append(Removal(cost, number / ordering.features, ordering.layer))
    return sorted(removals)


def counts_after(orderings: Sequence[Ordering], removals: Sequence[Removal]) -> Dict[str, int]:
    """Features that each layer keeps after these removals."""
    gone = [removal.layer for removal in removals]
    return {ordering.layer: ordering.features - gone.count(ordering.layer) for ordering in orderings}


def parameters_at(net: NetGraph, weights: Weights, counts: Mapping[str, int]) -> int:
    """Number of weights and biases of a net pruned to ``counts``."""
    keep = {layer: range(count) for layer, count in counts.items()}
    return NetGraph(remove_features(net, weights, keep).slim_proto).parameter_count()


def within_parameters(pruner: Pruner, share: float) -> Choice:
    """The shortest walk after which at most ``share`` of the parameters stay.

    Raises
    ------
    UserError : even one feature a layer is more than that.
    """
    orderings = [pruner.order(layer, {}) for layer in pruner.layers]
    before = pruner.net.parameter_count()
    removals = walk(orderings)

    def kept(steps: int) -> float:
        return parameters_at(pruner.net, pruner.weights, counts_after(orderings, removals[:steps])) / before

    if kept(len(removals)) > share:
        raise UserError(f"--target-parameters {share:g}: with one feature left in each layer {kept(len(removals)):.4f} "
                        f"of the parameters remain; ask for at least that")
    steps = _first(lambda steps: kept(steps) <= share, len(removals))
    return Choice(counts_after(orderings, removals[:steps]),
                  f"{100 * kept(steps):.1f} % of the parameters, at most {100 * share:g} % asked for: {_cheapest(removals, steps)}")


def within_accuracy_drop(pruner: Pruner, points: float, database: Database) -> Choice:
    """The longest walk found whose pruned network, not retrained, loses at most ``points`` of accuracy.

    The accuracy on the validation patches is measured on networks pruned
    bottom-up, as they would be written.  It need not fall evenly along the
    walk, so the bisection finds a place where it crosses the limit, and what
    it returns was measured to be within it.
    """
    orderings = [pruner.order(layer, {}) for layer in pruner.layers]
    removals = walk(orderings)
    full = validate(pruner.net, pruner.weights, database).accuracy
    drops = {0: 0.0}

    def exceeds(steps: int) -> bool:
        pruning = pruner.prune(counts_after(orderings, removals[:steps]))
        masked = mask_features(pruner.net, pruner.weights, pruning.removed)
        drops[steps] = 100 * (full - validate(pruner.net, masked, database).accuracy)
        click.echo(f"{steps} features fewer: {', '.join(f'{k} {v}' for k, v in pruning.counts.items())}, accuracy "
                   f"drop {drops[steps]:.2f} points", err=True)
        return drops[steps] > points + 1e-9

    _first(exceeds, len(removals) + 1)
    steps = max(tried for tried in drops if drops[tried] <= points + 1e-9)
    return Choice(counts_after(orderings, removals[:steps]),
                  f"accuracy drop {drops[steps]:.2f} points on the validation patches before retraining, at most "
                  f"{points:g} asked for: {_cheapest(removals, steps)}")


def _cheapest(removals: Sequence[Removal], steps: int) -> str:
    cost = removals[steps - 1].cost if steps else 0.0
    return f"the {steps} cheapest features go, none of which costs more than {cost:.5f} in loss by its layer's own ordering"


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

"""How far to prune, from a budget instead of a table: of parameters, arithmetic, time, or accuracy."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional

import click

from ...base.errors import UserError
from ...nets.netgraph import NetGraph
from ...nets.running.runtime import Weights
from ...patches.database import Database
from ...surgery.surgery import mask_features, remove_features
from ...train.validation import validate
from ..pruner import Pruner
from ..pruning import Pruning
from .slice_time import SliceTime, steps_within_time
from .walks import Walk, first_index

ROUNDING = 1e-9
"""Of differences of accuracies, in points."""


class Choice(NamedTuple):
    """What goes, and why; ``time`` is what is known of the time of a slice, None if it was not asked about."""

    pruning: Pruning
    reason: str
    time: Optional[Dict[str, Any]] = None


class SlimParameters:
    """Number of weights and biases of a net pruned to some counts."""

    def __init__(self, net: NetGraph, weights: Weights):
        self._net, self._weights = net, weights

    def cost(self, counts: Mapping[str, int]) -> float:
        """The number; layers not named keep all features."""
        keep = {layer: range(count) for layer, count in counts.items()}
        return NetGraph(remove_features(self._net, self._weights, keep).slim_proto).parameter_count()


class Share(NamedTuple):
    """At most ``limit`` of what the whole net, ``whole``, costs by ``cost`` may stay."""

    option: str
    what: str
    cost: Any
    whole: float
    limit: float


def within_share(walk: Walk, budget: Share) -> Choice:
    """The shortest walk after which at most the share stays.

    Raises
    ------
    UserError : the least that the walk leads to is more.
    """
    def kept(counts: Mapping[str, int]) -> float:
        return float(budget.cost.cost(counts)) / budget.whole

    least = kept(walk.least)
    if least > budget.limit:
        raise UserError(f"{budget.option} {budget.limit:g}: with "
                        + ("one feature left in each layer" if set(walk.least.values()) == {1} else
                           ", ".join(f"{layer} {count}" for layer, count in walk.least.items()))
                        + f" {least:.4f} of the {budget.what} remain; ask for at least that")
    steps = walk.first(lambda counts: kept(counts) <= budget.limit)
    return Choice(walk.result(steps), f"{100 * kept(walk.counts(steps)):.1f} % of the {budget.what}, at most "
                                       f"{100 * budget.limit:g} % asked for: {walk.told(steps)}")


def within_time(walk: Walk, time: SliceTime, limit: float, asked: str) -> Choice:
    """The shortest walk found after which a slice takes at most ``limit`` seconds.

    Raises
    ------
    UserError : it cannot be reached; says what the fastest net takes.
    """
    found = steps_within_time(walk, time, limit, asked)
    if not found.steps:
        walk.first(lambda counts: True)
    return Choice(walk.result(found.steps), f"{found.seconds:.3g} s for a slice, at most {limit:.3g} s asked for "
                                             f"({asked}): {walk.told(found.steps)}", time.as_json(walk.counts(found.steps)))


def within_accuracy_drop(walk: Walk, pruner: Pruner, points: float, database: Database) -> Choice:
    """The longest walk found whose pruned network, not retrained, loses at most ``points`` of accuracy.

    The accuracy on the validation patches is measured on networks pruned as
    they would be written.  It need not fall evenly along the walk, so the
    bisection finds a place where it crosses the limit, and what it returns was
    measured to be within it.
    """
    full = validate(pruner.net, pruner.weights, database).accuracy
    drops = {0: 0.0}
    end = walk.to_the_end()

    def exceeds(steps: int) -> bool:
        pruning = walk.pruning(steps)
        drops[steps] = drop_of(pruner, pruning, full, database)
        click.echo(f"{steps} features fewer: {', '.join(f'{k} {v}' for k, v in pruning.counts.items())}, accuracy "
                   f"drop {drops[steps]:.2f} points", err=True)
        return drops[steps] > points + ROUNDING

    first_index(exceeds, end + 1)
    steps = max(tried for tried in drops if drops[tried] <= points + ROUNDING)
    return Choice(walk.result(steps), f"accuracy drop {drops[steps]:.2f} points on the validation patches before retraining, "
                                       f"at most {points:g} asked for: {walk.told(steps)}")


def drop_of(pruner: Pruner, pruning: Pruning, full: float, database: Database) -> float:
    """Percentage points of accuracy on the validation patches that a pruned network, not retrained, is below ``full``."""
    masked = mask_features(pruner.net, pruner.weights, pruning.removed)
    return 100 * (full - validate(pruner.net, masked, database).accuracy)

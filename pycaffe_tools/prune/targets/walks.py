"""Ways to prune one network further and further, a feature a step; a budget says where to stop.

Layer by layer (:class:`LayerWalk`), the orders of the layers of the unpruned
network tell how much training loss the first k discarded features of each
layer cost.  Merged by that cost they are one walk over all layers, in which
layers whose curves are flat (Figure 3) lose features before steep ones.  What
is pruned to the counts of a step is ordered anew, from the bottom up (Section 3) or in another direction.

Globally (:class:`GlobalWalk`), the walk is the order of all layers itself
(:mod:`pycaffe_tools.ordering.global_order`), as long as it was needed so far.
"""

from __future__ import annotations

from functools import cached_property
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ...ordering.cost.model import CostModel
from ...ordering.global_order import GlobalOrdering, Stop
from ...ordering.ordering import Ordering
from ..pruner import Pruner
from ..pruning import DIRECTIONS, Pruning, by_all

Condition = Callable[[Mapping[str, int]], bool]
"""Of the counts; once it holds, it holds with fewer features as well."""


class Walk:
    """See the module.

    Attributes
    ----------
    least : the fewest features of each layer that the walk can lead to.
    """

    least: Dict[str, int]

    def to_the_end(self) -> int:
        """Number of all steps; orders what is not ordered yet."""
        raise NotImplementedError

    def first(self, holds: Condition) -> int:
        """The fewest steps after which ``holds`` is true of the counts; all of them if it never is."""
        raise NotImplementedError

    def counts(self, steps: int) -> Dict[str, int]:
        """Features that each layer has after so many steps."""
        raise NotImplementedError

    def pruning(self, steps: int) -> Pruning:
        """Which features go then."""
        raise NotImplementedError

    def result(self, steps: int) -> Pruning:
        """The same for the steps that were chosen in the end, with orders as long as asked for."""
        return self.pruning(steps)

    def told(self, steps: int) -> str:
        """How these steps were chosen, in words."""
        raise NotImplementedError


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


class LayerWalk(Walk):
    """The layers' own orders, merged by cost; pruned in a direction, ordered to the end if ``full_order``."""

    def __init__(self, pruner: Pruner, direction: str = DIRECTIONS[0], full_order: bool = False):
        self._pruner, self._direction, self._full_order = pruner, direction, full_order
        self.least = dict.fromkeys(pruner.features, 1)

    # Made when first asked for, so that what cannot be reached is refused before.
    @cached_property
    def _orderings(self) -> List[Ordering]:
        return [self._pruner.order(layer, {}) for layer in self._pruner.layers]

    @cached_property
    def _removals(self) -> List[Removal]:
        return walk(self._orderings)

    def to_the_end(self) -> int:
        return len(self._removals)

    def first(self, holds: Condition) -> int:
        return first_index(lambda steps: holds(self.counts(steps)), self.to_the_end())

    def counts(self, steps: int) -> Dict[str, int]:
        return counts_after(self._orderings, self._removals[:steps])

    def pruning(self, steps: int) -> Pruning:
        return self._pruner.prune(self.counts(steps), direction=self._direction)

    def result(self, steps: int) -> Pruning:
        return self._pruner.prune(self.counts(steps), self._full_order, self._direction)

    def told(self, steps: int) -> str:
        cost = self._removals[steps - 1].cost if steps else 0.0
        return (f"the {steps} cheapest features go, none of which costs more than {cost:.5f} in loss by its layer's own "
                f"ordering")


class GlobalWalk(Walk):
    """The order of all layers by loss for each unit of ``cost``."""

    def __init__(self, pruner: Pruner, cost: CostModel, down_to: Optional[Mapping[str, int]] = None):
        self._pruner, self._cost = pruner, cost
        self._down_to = dict(down_to or {})
        self.least = {**dict.fromkeys(pruner.features, 1), **pruner.fixed, **self._down_to}
        self._ordering: Optional[GlobalOrdering] = None

    def to_the_end(self) -> int:
        return self.first(lambda counts: counts == self.least)

    def first(self, holds: Condition) -> int:
        known = self._ordering
        if known is not None:
            for steps in range(len(known.steps) + 1):
                if holds(known.counts(steps)):
                    return steps
        self._ordering = self._pruner.order_globally(self._cost, Stop(self._down_to, until=holds))
        return len(self._ordering.steps)

    @property
    def ordering(self) -> GlobalOrdering:
        """As far as it was made."""
        assert self._ordering is not None, "first and to_the_end make it"
        return self._ordering

    def counts(self, steps: int) -> Dict[str, int]:
        return self.ordering.counts(steps)

    def pruning(self, steps: int) -> Pruning:
        return by_all(self.ordering, steps)

    def told(self, steps: int) -> str:
        return f"the first {steps} features of the global order (loss against {self._cost.unit} saved) go"


def first_index(holds: Callable[[int], bool], count: int) -> int:
    """Bisect for the first index below ``count`` at which ``holds`` turns true; ``count`` if at none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low

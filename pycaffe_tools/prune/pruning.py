"""What goes and what stays, whichever order says so."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from ..ordering.global_order import GlobalOrdering
from ..ordering.ordering import Ordering

LAYERS, GLOBAL = "layers", "global"
"""The two kinds of order: each layer's own, from the bottom up, and one of all layers together."""

DIRECTIONS = ("bottom-up", "top-down", "separate")
"""In which sequence layers are ordered: each on the pruned ones below it (Section 3 of the paper), each on the pruned
ones above it, or every layer on the whole network."""

_SHARED = ("rows", "batches", "batch_size", "seed", "criterion", "weights_sha256", "format")


class Pruning(NamedTuple):
    """Which features go, and the orders that say so.

    Attributes
    ----------
    counts : features that stay in each layer, from the bottom up.
    removed : discarded features of each layer, in the order in which they went.
    features : features of each layer before.
    basis : an order, for what all of them share: the patches and the weights.
    record : what ``pruning.json`` says of the orders.
    loss : mean training loss without the features, as the order knows it; None where it does not, since layers were
        ordered separately.
    """

    counts: Dict[str, int]
    removed: Dict[str, List[int]]
    features: Dict[str, int]
    basis: Union[Ordering, GlobalOrdering]
    record: Dict[str, Any]
    loss: Optional[float]

    @property
    def keep(self) -> Dict[str, List[int]]:
        """Features of each layer that stay, ascending."""
        return {layer: sorted(set(range(count)) - set(self.removed[layer])) for layer, count in self.features.items()}

    @property
    def criterion(self) -> str:
        """What ordered the features."""
        return self.basis.criterion if isinstance(self.basis, Ordering) else "loss"


def by_layers(counts: Dict[str, int], orderings: Sequence[Ordering], direction: str = DIRECTIONS[0]) -> Pruning:
    """The first features of each layer's own order, down to these counts; orderings from the bottom layer up."""
    removed = {ordering.layer: ordering.removed(ordering.features - counts[ordering.layer]) for ordering in orderings}
    layers = []
    for ordering in orderings:
        entry = {name: value for name, value in ordering.as_json().items() if name not in _SHARED}
        layers.append({**entry, "kept": counts[ordering.layer]})
    last = orderings[0 if direction == "top-down" else -1]
    gone = len(removed[last.layer])
    loss = last.steps[gone - 1].loss if gone else last.loss_before
    return Pruning(dict(counts), removed, {ordering.layer: ordering.features for ordering in orderings}, orderings[0],
                   {"order": LAYERS, "direction": direction, "layers": layers}, None if direction == "separate" else loss)


def by_all(ordering: GlobalOrdering, steps: int) -> Pruning:
    """The first features of the order of all layers.

    Raises
    ------
    UserError : the order has fewer steps.
    """
    removed, counts = ordering.removed(steps), ordering.counts(steps)
    layers = [{"layer": layer, "features": count, "removed": removed[layer], "kept": counts[layer]}
              for layer, count in ordering.layers.items()]
    whole = ordering.as_json()
    record = {name: whole[name] for name in ("cost", "key", "down_to", "loss_before", "cost_before")}
    return Pruning(counts, removed, dict(ordering.layers), ordering,
                   {"order": GLOBAL, "layers": layers, "global": {**record, "steps": whole["steps"][:steps]}},
                   ordering.steps[steps - 1].loss if steps else ordering.loss_before)

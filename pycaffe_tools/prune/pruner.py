"""One network being pruned: orders its features as far as needed and says which go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..base.errors import UserError, naming
from ..nets.files.schema import read_prototxt
from ..nets.model import Model
from ..nets.netgraph import NetGraph
from ..ordering.cost.model import CostModel
from ..ordering.global_order import GlobalOrdering, Stop, order_globally
from ..ordering.ordering import DEFAULTS, Ordering, OrderingOptions, order_layer, prunable_layers
from ..ordering.sample import Sample
from ..patches.database import Database
from ..surgery.blobs import check_all_weights
from ..surgery.channels import layers_that_share_parameters
from ..surgery.files import slim_training_net
from ..surgery.surgery import remove_features
from .pruning import DIRECTIONS, Pruning, by_layers


class Pruner:
    """Orders the layers of one trained network, on one set of mini-batches, for whatever counts are asked for.

    Parameters
    ----------
    source : the trained model.
    sample : the mini-batches that the loss is averaged over.
    options : how the layers are ordered; the logs of all networks that are pruned from ``source`` share one folder,
        ``orderings`` beside its weights if ``options.cache`` does not name another.
    """

    def __init__(self, source: Model, sample: Sample, options: OrderingOptions = DEFAULTS):
        self.source, self.sample, self._given = source, sample, options
        self.net: NetGraph = source.net()
        self.weights = source.load_weights()
        self.accuracy_before = source.validation_accuracy       # asked now: a damaged record is known before the work
        check_all_weights(self.net, self.weights, str(source.weights))
        train_val = source.directory / "train_val.prototxt"
        self.training_net: Optional[Any] = read_prototxt(train_val) if train_val.is_file() else None
        self.layers = prunable_layers(self.net)
        self.features = {name: self.net.layer(name).num_output for name in self.layers}
        if self.training_net is not None:
            with naming(train_val):     # tried now, so that a damaged one is known before the work
                fewer = {name: list(range(max(count - 1, 1))) for name, count in self.features.items()}
                slim_training_net(remove_features(self.net, self.weights, fewer), self.training_net)
        self._options = replace(options, cache=options.cache or source.directory / "orderings")

    @property
    def criterion(self) -> str:
        """What orders the features."""
        return self._given.criterion

    @property
    def plain(self) -> bool:
        """Whether the net is run for each candidate."""
        return self._given.plain

    def again(self, source: Model) -> Pruner:
        """The same for another network, such as this one pruned and retrained."""
        return Pruner(source, self.sample, self._given)

    def order(self, layer: str, removed_elsewhere: Mapping[str, Sequence[int]],
              stop_after: Optional[int] = None) -> Ordering:
        """Order one layer; see :func:`pycaffe_tools.ordering.ordering.order_layer`."""
        return order_layer(self.net, self.weights, layer, self.sample, self._options, removed_elsewhere=removed_elsewhere,
                           stop_after=stop_after)

    def prune(self, counts: Mapping[str, int], full_order: bool = False, direction: str = DIRECTIONS[0]) -> Pruning:
        """Choose the features to discard so that ``counts`` remain.

        Parameters
        ----------
        counts : features that stay in each layer; layers not named keep all.
        full_order : order every layer to its end, for Figure 3, not only as far as needed.
        direction : of :data:`~pycaffe_tools.prune.pruning.DIRECTIONS`.

        Raises
        ------
        UserError : an unknown layer or direction, or a count that the layer cannot have.
        """
        self.check_counts(counts)
        if direction not in DIRECTIONS:
            raise UserError(f"direction {direction!r}: is not one of {', '.join(DIRECTIONS)}")
        wanted = {name: counts.get(name, self.features[name]) for name in self.layers}
        removed: Dict[str, List[int]] = {}
        orderings = {}
        for name in reversed(self.layers) if direction == "top-down" else self.layers:
            discard = self.features[name] - wanted[name]
            orderings[name] = self.order(name, {} if direction == "separate" else removed, None if full_order else discard)
            removed[name] = orderings[name].removed(discard)
        return by_layers(wanted, [orderings[name] for name in self.layers], direction)

    def order_globally(self, cost: CostModel, stop: Stop) -> GlobalOrdering:
        """Order the features of all layers together; those of which none can be removed stay.

        See :func:`pycaffe_tools.ordering.global_order.order_globally`.
        """
        self.check_counts(stop.down_to)
        return order_globally(self.net, self.weights, self.sample, cost, self._options,
                              stop=stop._replace(down_to={**stop.down_to, **self.fixed}))

    @property
    def fixed(self) -> Dict[str, int]:
        """All features of the layers of which none can be removed without changing the function, as of layers that share
        their parameters and of those before them."""
        found = {}
        for name, count in self.features.items():
            try:
                remove_features(self.net, self.weights, {name: range(max(count - 1, 1))})
            except UserError:
                found[name] = count
        return found

    def check_counts(self, counts: Mapping[str, int]) -> None:
        """Refuse counts that cannot be.

        Raises
        ------
        UserError : an unknown layer, a count that the layer cannot have, or a layer that shares its parameters.
        """
        for name, count in counts.items():
            if not 1 <= count <= self.features.get(name, 0):
                raise UserError(f"{name}={count}: {self.source.directory} has "
                                + (f"{self.features[name]} features there; keep 1 to {self.features[name]}"
                                   if name in self.features else f"no such layer; prune {', '.join(self.layers)}"))
        self._refuse_shared(counts)

    def _refuse_shared(self, counts: Mapping[str, int]) -> None:
        # Surgery would refuse it too, but only after the orderings.
        sharing = layers_that_share_parameters(self.net)
        for name, count in counts.items():
            if name in sharing and count < self.features[name]:
                raise UserError(f"{self.source.deploy}: layer {name} shares its parameters with layer {sharing[name]}, so "
                                f"features of one alone cannot be removed; keep all {self.features[name]} of {name}")


def check_same_normalisation(source: Model, database: Database) -> None:
    """Refuse a patch database that was normalised otherwise than the model's own.

    Raises
    ------
    UserError : names both.
    """
    ours, theirs = source.info["normalisation"], database.model_normalisation()
    if ours != theirs:
        raise UserError(f"{database.directory}: its patches are normalised with {_words(theirs)}, but {source.directory} was "
                        f"trained with {_words(ours)}; use the database that the model was trained on")


def _words(normalisation: Mapping[str, Any]) -> str:
    if "by" in normalisation:
        means = ", ".join(f"{stack['mean']:.4g}" for stack in normalisation["stacks"])
        return f"the mean and standard deviation of each stack (means {means})"
    return f"mean and standard deviation {normalisation['mean']:.4g}, {normalisation['std']:.4g}"

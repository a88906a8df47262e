"""From a target to a choice of features, all at once or a part of the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional

from ...base.errors import UserError
from ...base.files import PathLike
from ...base.ranges import Pair
from ...nets import paper
from ...nets.model import Model
from ...ordering.cost.dense_time import DenseTime
from ...ordering.cost.model import ArithmeticCost, CostModel, ParameterCost
from ...ordering.cost.names import time_model_of
from ...patches.database import Database
from ..pruner import Pruner
from ..pruning import DIRECTIONS, GLOBAL, LAYERS
from .budget import Choice, Share, SlimParameters, within_accuracy_drop, within_share, within_time
from .slice_time import SliceTime
from .target import Target
from .walks import GlobalWalk, LayerWalk, Walk


class OrderOptions(NamedTuple):
    """Which order is pruned in, and what is known of costs.

    Attributes
    ----------
    globally : in one order of all layers, not in the layers' own.
    direction : in which the layers' own are made, of :data:`~pycaffe_tools.prune.pruning.DIRECTIONS`.
    cost : what a global order weighs the loss against, ``time``, ``parameters`` or ``macs``; by default what the target
        is about, else time.
    time_model : file of a time model; by default measured, and kept in the folder of orderings.
    engine : whose time it is; by default the fastest installed.
    segment_workers : threads or processes that segment; by default the cores.
    slice_shape : rows and columns of the slice whose time is asked for.
    """

    globally: bool = False
    direction: str = DIRECTIONS[0]
    cost: Optional[str] = None
    time_model: Optional[PathLike] = None
    engine: Optional[str] = None
    segment_workers: Optional[int] = None
    slice_shape: Pair = paper.SLICE_SHAPE


class Goal:
    """A target for one trained network, with the costs that it is about; these stay those of the unpruned network.

    Parameters
    ----------
    target : what is to be reached.
    order : in which order.
    source : the unpruned network.
    folder : where measured times are kept.

    Raises
    ------
    UserError : the target cannot be, or the network has no dense form whose time or arithmetic could be counted.
    """

    def __init__(self, target: Target, order: OrderOptions, source: Model, folder: Path):
        target.check()
        if order.cost is not None and not order.globally:
            raise UserError(f"--cost {order.cost}: is what a global order weighs the loss against; add --global")
        if order.direction not in DIRECTIONS:
            raise UserError(f"direction {order.direction!r}: is not one of {', '.join(DIRECTIONS)}")
        self.target, self.order = target, order
        self._net, self._weights, self._folder = source.net(), source.load_weights(), folder
        self._time: Optional[DenseTime] = None
        self._counts = paper.counts_of(target.network) if target.network is not None else target.counts

    @property
    def order_name(self) -> str:
        """``layers``, or ``global`` and what it weighs the loss against."""
        return f"{GLOBAL} by {self._order_cost}" if self.order.globally else LAYERS

    @property
    def direction(self) -> Optional[str]:
        """In which the layers' own orders are made; None for a global order."""
        return None if self.order.globally else self.order.direction

    def choose(self, pruner: Pruner, database: Database, *, part: float = 1.0, full_order: bool = False) -> Choice:
        """Choose what goes from a network that may already be pruned a part of the way.

        Parameters
        ----------
        pruner : of that network.
        database : whose validation patches a drop of the accuracy is measured on.
        part : how much of the way from the unpruned network to the target, in equal factors of what is to be saved:
            with 0.5, the share asked for is the square root of the target's.
        full_order : order layers to their ends.

        Raises
        ------
        UserError : the target cannot be reached.
        """
        found = self._choose(pruner, database, part, full_order)
        if found.time is None and self._uses_time:
            return found._replace(time=self.slice_time().as_json(found.pruning.counts))
        return found

    def _choose(self, pruner: Pruner, database: Database, part: float, full_order: bool) -> Choice:
        target = self.target
        if self._counts is not None:
            return self._to_counts(pruner, self.counts_at(part), part, full_order)
        walk = self._walk(pruner, full_order)
        if target.parameters is not None:
            parameters = SlimParameters(self._net, self._weights)
            return within_share(walk, Share("--target-parameters", "parameters", parameters, parameters.cost({}),
                                            target.parameters ** part))
        if target.macs is not None:
            macs = ArithmeticCost(self._net)
            return within_share(walk, Share("--target-macs", "multiply-accumulates", macs, macs.cost({}), target.macs ** part))
        if target.is_time:
            time = self.slice_time()
            limit = time.whole / target.speedup if target.speedup is not None else float(target.seconds or 0.0)
            return within_time(walk, time, time.whole * min(limit / time.whole, 1.0) ** part if part < 1 else limit,
                               target.asked)
        return within_accuracy_drop(walk, pruner, float(target.accuracy_drop or 0.0), database)

    def counts_at(self, part: float) -> Dict[str, int]:
        """Counts a part of the way to the counts asked for."""
        assert self._counts is not None
        if part == 1:
            return dict(self._counts)
        whole = {layer: self._net.layer(layer).num_output for layer in self._counts}
        return {layer: max(count, round(whole[layer] * (count / whole[layer]) ** part)) for layer, count in self._counts.items()}

    def slice_time(self) -> SliceTime:
        """The time of a slice on this machine, or as the file of a time model says."""
        model = self._dense_time()
        return SliceTime(model, self.order.slice_shape, self._folder / f"time-measured-{model.engine}-{model.workers}.json")

    def _to_counts(self, pruner: Pruner, counts: Mapping[str, int], part: float, full_order: bool) -> Choice:
        asked = "counts as given" if self.target.network is None else f"{self.target.network} of Table 1"
        reason = asked if part == 1 else f"{100 * part:.0f} % of the way to {asked}"
        pruner.check_counts(counts)
        if not self.order.globally:
            return Choice(pruner.prune(counts, full_order, self.order.direction), reason)
        walk = GlobalWalk(pruner, self._cost(self._order_cost), {**pruner.features, **counts})
        return Choice(walk.pruning(walk.to_the_end()), reason)

    def _walk(self, pruner: Pruner, full_order: bool) -> Walk:
        if self.order.globally:
            return GlobalWalk(pruner, self._cost(self._order_cost))
        return LayerWalk(pruner, self.order.direction, full_order)

    @property
    def _order_cost(self) -> str:
        return self.order.cost or self.target.cost

    def _cost(self, name: str) -> CostModel:
        if name == "parameters":
            return ParameterCost(self._net)
        return ArithmeticCost(self._net) if name == "macs" else self._dense_time()

    def _dense_time(self) -> DenseTime:
        if self._time is None:
            workers = self.order.segment_workers
            model = time_model_of(self._net, self.order.time_model, self._folder, self.order.engine, workers)
            if workers not in (None, model.workers):
                raise UserError(f"{self.order.time_model}: was measured with {model.workers} threads at once, not {workers}; "
                                f"leave --segment-workers or --time-model out")
            self._time = model
        return self._time

    def as_json(self) -> Dict[str, Any]:
        """What decides the choices, for the record of a work in rounds."""
        shape = list(self.order.slice_shape) if self.target.is_time else None
        return {"target": self.target.as_json(), "order": self.order_name, "direction": self.direction, "slice": shape,
                "time_model": self._dense_time().as_json() if self._uses_time else None}

    @property
    def _uses_time(self) -> bool:
        return self.target.is_time or (self.order.globally and self._order_cost == "time")

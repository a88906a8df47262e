"""The time of the dense net at any counts, from a short measurement on this machine.

The model is linear in what the dense plan does for one output pixel:

    seconds = c + sum over layers k of a(k) * multiply-accumulates of k + b * map traffic

where the traffic is the number of map elements that the plan's steps read and
write.  Its coefficients, none below 0, are fitted to the times of a few nets:
the whole one, ones with half and a quarter of the features in one layer or in
all, and ones with ever fewer in all, as far as pruning goes.  They are measured
in the tiles that a slice is segmented in, by as many threads at once as would
segment it.  An engine is known by its name alone (:mod:`pycaffe_tools.engines`), so any that is
registered there can be measured.

Real engines work on blocks of channels, so true times are stairs; the model is the ramp through them, and
:attr:`DenseTime.error` says how far from it the measured times are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy.optimize import nnls

from ... import engines
from ...base.errors import UserError
from ...base.files import PathLike, read_json, write_json
from ...base.host.machine import cores, processor
from ...base.ranges import Pair
from ...dense_plan.plan import make_plan
from ...dense_plan.steps import Convolve, sources
from ...engines.tiling import slice_tile
from ...nets import paper
from ...nets.netgraph import NetGraph
from ...oracle.oracle import prunable
from .measuring import seconds_per_pixel
from .model import with_counts

FORMAT = 2
ROUNDS = 3
SHARES = (2, 4)
"""Parts of a layer's features, and of all, that are measured."""
SHARES_OF_ALL = (8, 16, 32)
"""Parts of all layers' features that are measured besides."""


class Measurement(NamedTuple):
    """The time of a net of these counts, in seconds for one output pixel."""

    counts: Dict[str, int]
    seconds: float


class DenseTime(NamedTuple):
    """A measured time model; a cost model for :mod:`pycaffe_tools.ordering.global_order`.

    Attributes
    ----------
    graph : the net.
    engine, tile, workers, processor : what was measured, with which output tile (rows, columns), by how many threads at
        once, on what; times are those of one of the threads.
    constant : seconds for a pixel of a net without layers.
    per_multiply_accumulate : for each layer, seconds.
    per_element : seconds for a map element read or written.
    measured : what the coefficients were fitted to.
    """

    graph: NetGraph
    engine: str
    tile: Pair
    workers: int
    processor: str
    constant: float
    per_multiply_accumulate: Dict[str, float]
    per_element: float
    measured: List[Measurement]

    @property
    def unit(self) -> str:
        """See :class:`~pycaffe_tools.ordering.cost.model.CostModel`."""
        return "seconds per pixel"

    @property
    def error(self) -> float:
        """The largest relative difference of the model from what it was fitted to."""
        return max(abs(self.cost(entry.counts) / entry.seconds - 1) for entry in self.measured)

    def cost(self, counts: Mapping[str, int]) -> float:
        """See :class:`~pycaffe_tools.ordering.cost.model.CostModel`."""
        work, traffic = dense_work(with_counts(self.graph, counts))
        arithmetic = sum(self.per_multiply_accumulate[layer] * number for layer, number in work.items())
        return float(self.constant + self.per_element * traffic + arithmetic)

    def as_json(self) -> Dict[str, Any]:
        """See :class:`~pycaffe_tools.ordering.cost.model.CostModel`; also the content of the file that :func:`read_time` reads."""
        content = self._asdict()
        del content["graph"]
        return {"format": FORMAT, "cost": "time", **content, "tile": list(self.tile),
                "measured": [{**entry._asdict(), "model": self.cost(entry.counts)} for entry in self.measured]}


def dense_work(graph: NetGraph) -> Tuple[Dict[str, int], int]:
    """What the dense net does for one output pixel: multiply-accumulates of each layer, and map elements moved."""
    work = {layer.name: 0 for layer in graph.layers if layer.is_parametric}
    traffic = 0
    for step in make_plan(graph).steps:
        traffic += step.out.channels + sum(source.channels for source in sources(step))
        if isinstance(step, Convolve):
            taps = (step.rows[1] - step.rows[0]) * (step.columns[1] - step.columns[0])
            work[step.layer] += step.source.channels * step.out.channels * taps
    return work, traffic


def measure_time(graph: NetGraph, engine: Optional[str] = None, workers: Optional[int] = None,
                 seconds: Optional[Callable[[NetGraph, str, Pair, int], float]] = None,
                 progress: Callable[[str], None] = lambda note: None) -> DenseTime:
    """Measure a net's smaller relatives and fit the model.

    Parameters
    ----------
    graph : the net.
    engine : name of an engine; by default the fastest one installed.
    workers : threads at once; by default the cores.
    seconds : what measures a net, with an engine, a tile and a number of threads, in seconds per pixel;
        :func:`~pycaffe_tools.ordering.cost.measuring.seconds_per_pixel` unless another is given.
    progress : is told what is being done.

    Raises
    ------
    UserError : the net has no dense form, or the engine is not installed.
    """
    engine, workers = engine or engines.default_name(), workers or cores()
    tile = slice_tile(engine, graph, paper.SLICE_SHAPE)
    relatives = _relatives(graph)
    shortest = [math.inf] * len(relatives)
    # Round by round, so that a while in which the machine is slower does not hit one net alone.
    for number in range(ROUNDS):
        progress(f"measuring the time of the dense net in {engine}, round {number + 1} of {ROUNDS}")
        for at, counts in enumerate(relatives):
            found = (seconds or seconds_per_pixel)(with_counts(graph, counts), engine, tile, workers)
            shortest[at] = min(shortest[at], found)
    return fit(graph, engine, tile, workers, [Measurement(*entry) for entry in zip(relatives, shortest)])


def fit(graph: NetGraph, engine: str, tile: Pair, workers: int, measured: Sequence[Measurement]) -> DenseTime:
    """The coefficients, none below 0, with the least sum of squared relative errors."""
    layers = [layer.name for layer in graph.layers if layer.is_parametric]
    rows = []
    for entry in measured:
        work, traffic = dense_work(with_counts(graph, entry.counts))
        rows.append([1.0, float(traffic)] + [float(work[layer]) for layer in layers])
    table = np.array(rows)
    # Each column to the same size, for nnls' tolerance; each row relative to its time.
    scale, times = table.max(axis=0), np.array([entry.seconds for entry in measured])
    found = nnls(table / scale / times[:, None], np.ones(len(times)))[0] / scale
    return DenseTime(graph, engine, tile, workers, processor(), float(found[0]),
                     {layer: float(value) for layer, value in zip(layers, found[2:])}, float(found[1]), list(measured))


def _relatives(graph: NetGraph) -> List[Dict[str, int]]:
    whole = {layer.name: layer.num_output for layer in prunable(graph)}
    wanted = [([name], share) for name in whole for share in SHARES] + [(list(whole), share) for share in SHARES + SHARES_OF_ALL]
    parts = [{name: -(-count // share) if name in names else count for name, count in whole.items()}
             for names, share in wanted]
    return [whole, *(part for at, part in enumerate(parts) if part != whole and part not in parts[:at])]


def write_time(path: PathLike, model: DenseTime) -> None:
    """Write a time model."""
    write_json(path, model.as_json())


def read_time(path: PathLike, graph: NetGraph) -> DenseTime:
    """Read a time model for a net.

    Raises
    ------
    UserError : missing, of another form, or measured on a net with other layers.
    """
    content = read_json(path)
    try:
        if (content.pop("format"), content.pop("cost")) != (FORMAT, "time"):
            raise KeyError("format")
        content["measured"] = [Measurement(entry["counts"], entry["seconds"]) for entry in content["measured"]]
        rows, columns = content.pop("tile")
        model = DenseTime(graph, tile=(rows, columns), **content)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: is not a time model of this version; leave the option out to measure one") from None
    layers = [layer.name for layer in graph.layers if layer.is_parametric]
    if sorted(model.per_multiply_accumulate) != sorted(layers):
        raise UserError(f"{path}: was measured on a net with the layers {', '.join(model.per_multiply_accumulate)}, not "
                        f"{', '.join(layers)}; leave the option out to measure one")
    return model


def stored_time(path: PathLike, graph: NetGraph, engine: Optional[str] = None, workers: Optional[int] = None,
                progress: Callable[[str], None] = lambda note: None) -> DenseTime:
    """The time model in a file; measured and written there if there is none, so that it is the same next time."""
    if not Path(path).exists():
        write_time(path, measure_time(graph, engine, workers, progress=progress))
    return read_time(path, graph)

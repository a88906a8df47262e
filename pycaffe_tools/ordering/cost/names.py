"""The cost models by name, as ``--cost`` gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from ... import engines
from ...base.files import PathLike
from ...base.host.machine import cores
from ...nets.netgraph import NetGraph
from .dense_time import DenseTime, read_time, stored_time
from .model import ArithmeticCost, CostModel, ParameterCost

COSTS = ("time", "parameters", "macs")


def cost_model(name: str, graph: NetGraph, time_model: Optional[PathLike], folder: Path,
               engine: Optional[str] = None) -> CostModel:
    """A cost model.

    Parameters
    ----------
    name : one of ``COSTS``.
    graph : the net.
    time_model : file of measured times.
    folder : where measured times are kept if ``time_model`` is not given.
    engine : whose time is measured then; by default the fastest one installed.

    Raises
    ------
    UserError : the net has no dense form, the file is not of this net, or the engine is not installed.
    """
    if name == "parameters":
        return ParameterCost(graph)
    if name == "macs":
        return ArithmeticCost(graph)
    return time_model_of(graph, time_model, folder, engine)


def time_model_of(graph: NetGraph, time_model: Optional[PathLike], folder: Path, engine: Optional[str] = None,
                  workers: Optional[int] = None) -> DenseTime:
    """The model of the dense net's time; as for :func:`cost_model`, for so many threads at once (default: the cores).

    Raises
    ------
    UserError : as :func:`cost_model`.
    """
    if time_model is not None:
        return read_time(time_model, graph)
    engine, workers = engine or engines.default_name(), workers or cores()
    return stored_time(folder / f"time-{engine}-{workers}.json", graph, engine, workers,
                       lambda note: click.echo(note, err=True))

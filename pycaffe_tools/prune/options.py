"""The options of ``prune``, by what they are about, and how times and sizes are written in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, TypeVar

import click

from ..base.command import SEED, FiniteRange
from ..base.errors import UserError
from ..base.ranges import Pair
from ..engines import NAMES as ENGINES
from ..nets import paper
from ..ordering.cost.names import COSTS
from ..ordering.ordering import CRITERIA
from .pruning import DIRECTIONS

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "min": 60.0}


def parse_seconds(text: str) -> float:
    """Seconds of a time such as ``4s``, ``500ms``, ``1.5min`` or ``4``.

    Raises
    ------
    UserError : not of that form, or 0.

    >>> parse_seconds("1.5min")
    90.0
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|)", text.strip())
    if match is None or not 0 < float(match[1]) < 1e9:
        raise UserError(f"--target-time {text}: is not a time above 0; write for example 4s, 500ms or 1.5min")
    return float(match[1]) * _UNITS[match[2]]


def parse_slice_size(text: str) -> Pair:
    """Rows and columns of a slice that is written as in the paper, columns first.

    Raises
    ------
    UserError : not of that form.

    >>> parse_slice_size("3069x2301")
    (2301, 3069)
    """
    match = re.fullmatch(r"([1-9][0-9]{0,6})x([1-9][0-9]{0,6})", text.strip().lower())
    if match is None:
        raise UserError(f"--slice-size {text}: is not the size of a slice; write WIDTHxHEIGHT in pixels, such as 3069x2301")
    return int(match[2]), int(match[1])


def _together(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command
    return add


_SHARE = FiniteRange(0, 1, min_open=True)
_WIDTH, _HEIGHT = paper.SLICE_SHAPE[1], paper.SLICE_SHAPE[0]

target_options = _together(
    click.option("--counts", metavar="LIST", help="Own counts, such as c1=30,c2=20,c3=10,fc4=10, instead of NET."),
    click.option("--target-time", metavar="TIME", type=parse_seconds,
                 help="Time that a slice may take on this machine, such as 4s; measured."),
    click.option("--target-speedup", metavar="TIMES", type=FiniteRange(1), help="Times as fast as unpruned, both dense."),
    click.option("--target-parameters", metavar="SHARE", type=_SHARE,
                 help="Keep at most this share of the parameters; the orderings decide where."),
    click.option("--target-macs", metavar="SHARE", type=_SHARE,
                 help="Keep at most this share of the dense net's multiply-accumulates, likewise."),
    click.option("--max-accuracy-drop", metavar="POINTS", type=FiniteRange(0),
                 help="Alone: prune as far as the validation accuracy before retraining drops by at most so many percentage "
                      "points. Besides a target: refuse a network that loses more (with --rounds: after retraining)."))

time_options = _together(
    click.option("--slice-size", "slice_shape", type=parse_slice_size, default=f"{_WIDTH}x{_HEIGHT}", metavar="WxH",
                 help="Slice that --target-time is about, in pixels."),
    click.option("--segment-workers", type=click.IntRange(1),
                 help="Workers that segment it.  [default: the cores, as segment takes]"),
    click.option("--engine", type=click.Choice([name for name in ENGINES if name != "patch"]),
                 help="Engine that segments it.  [default: the fastest installed, as segment takes]"),
    click.option("--time-model", type=click.Path(path_type=Path), metavar="FILE",
                 help="Measured times, such as another machine's.  [default: measured here once, kept in --cache]"))

order_options = _together(
    click.option("--global", "globally", is_flag=True,
                 help="Prune in one order of all layers: what costs least loss for what it saves goes first."),
    click.option("--cost", type=click.Choice(COSTS),
                 help="With --global: what a removal saves.  [default: what the target is about, else time]"),
    click.option("--criterion", type=click.Choice(CRITERIA), default="loss", help="What orders the features."),
    click.option("--batches", type=click.IntRange(1), default=20, help="Mini-batches of training patches for the loss."),
    click.option("--batch-size", type=click.IntRange(1), default=128, help="Patches in each."),
    click.option("--seed", type=SEED, default=0, help="Of the draw of the mini-batches."),
    click.option("--plain", is_flag=True, help="Run the net for each candidate instead of what changes: slow, for proof."),
    click.option("--full-order", is_flag=True, help="Order each layer to its end (Figure 3), not only as far as needed."),
    click.option("--direction", type=click.Choice(DIRECTIONS), default=DIRECTIONS[0],
                 help="Layers are ordered from the bottom (the paper), from the top, or each on the whole network."),
    click.option("--max-memory", default="2G", help="Bound for all processes together."),
    click.option("--workers", type=click.IntRange(1), default=2, help="Processes of one thread that order."),
    click.option("--cache", type=click.Path(path_type=Path), help="Folder of orderings  [default: orderings in --from]"))

round_options = _together(
    click.option("--rounds", type=click.IntRange(1),
                 help="Prune a part of the way and retrain with Caffe, so many times; --out is the retrained model."),
    click.option("--retrain-iterations", type=click.IntRange(1, 2 ** 31 - 1), default=paper.RETRAIN_ITERATIONS,
                 help="With --rounds: iterations of all retrainings together."),
    click.option("--retrain-seed", type=SEED, default=1, help="With --rounds: --seed of train."),
    click.option("--retrain-tests", type=click.IntRange(1), default=5, help="With --rounds: --tests of train, in each."),
    click.option("--gpu", type=int, help="With --rounds: --gpu of train."))


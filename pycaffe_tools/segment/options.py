"""Options of how slices are computed, for every command that segments."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

import click

from ..base.command import FiniteRange

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--threshold", type=FiniteRange(0, 1),
                 help="Probability from which a pixel is membrane. [default: the model's]"),
    click.option("--mode", type=click.Choice(["dense", "patch"]), default="dense",
                 help="The exact dense evaluation, or patch by patch as in the paper (slow, the reference)."),
    click.option("--engine", type=click.Choice(["auto", "native", "onnxruntime", "caffe"]), default="auto",
                 help="What runs the dense net; auto is the first of the others that is there."),
    click.option("--tile", metavar="HxW", help="Size of a tile in pixels. [default: chosen by --max-memory]"),
    click.option("--max-memory", metavar="SIZE", help="Memory for all processes together, such as 800M or 2G. "
                 "[default: 1G for each process, at most half of what is free]"),
    click.option("--workers", type=click.IntRange(1), help="Worker processes, one thread each. [default: the cores]"),
    click.option("--calibrated", is_flag=True, help="Probabilities at the volume's own share of membrane, not at one half; see "
                 "python -m pycaffe_tools.calibrate. A given --threshold is one of these."),
    click.option("--membrane-share", type=FiniteRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
                 help="Of the volume, with --calibrated. [default: that of the model's validation slices]"),
    click.option("--dtype", type=click.Choice(["float32", "uint8"]), default="float32",
                 help="Of the probabilities; uint8 holds them times 255, rounded."),
)


def computing_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command

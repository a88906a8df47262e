"""Segmentation time T of Table 2, on this machine: patch by patch as in the paper, and dense.

A slice of 3069 x 2301 pixels is 7,061,769 patches.  Patch by patch, a sample
of them is timed and multiplied; dense, one tile.  One thread of one core,
whatever the environment says.  The shortest of several repetitions counts
(whatever else runs only ever adds), and the longest is kept as the spread.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np
from threadpoolctl import threadpool_limits

from . import engines
from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.files import refuse_existing, refuse_inputs, require_ending, write_json
from .base.host.machine import processor
from .nets import paper
from .nets.model import Model, open_model
from .nets.netgraph import NetGraph

SLICE_PIXELS = paper.SLICE_SHAPE[0] * paper.SLICE_SHAPE[1]
PATCH_ROWS = 32
DENSE_BYTES = 1_000_000_000


class Time(NamedTuple):
    """Seconds for one slice of the paper's size."""

    seconds: float
    """By the shortest repetition."""
    longest: float
    engine: str
    tile: Tuple[int, int]
    repetitions: int


def time_engine(name: str, graph: NetGraph, weights: Any, tile: Tuple[int, int], repetitions: int) -> Time:
    """Time one engine on a tile of noise, on one thread, and scale to a slice by the number of pixels."""
    engine = engines.create(name, graph, weights, tile, threads=1)
    before, after = engine.halo
    shape = (tile[0] + before + after, tile[1] + before + after)
    grey = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    # BLAS took its number of threads from the environment when numpy or Caffe loaded it.
    with threadpool_limits(limits=1):
        seconds = _repeated(lambda: engine.predict(grey), repetitions)
    scale = SLICE_PIXELS / (tile[0] * tile[1])
    return Time(min(seconds) * scale, max(seconds) * scale, name, tile, repetitions)


def _repeated(work: Callable[[], Any], repetitions: int) -> List[float]:
    work()      # buffers are allocated on the first call
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def _titles(models: Sequence[Model], by_folder: bool) -> List[str]:
    """A title for each model: its network's name, or its folder's."""
    titles = [model.directory.name if by_folder else model.name for model in models]
    for number, title in enumerate(titles):
        if title in titles[:number]:
            raise UserError(f"{models[number].directory}: is a second {title}; give each network once, or pass --by-folder")
    return titles


@click.command(context_settings=OPTIONS)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@click.option("--repetitions", type=click.IntRange(1), default=3, help="Of each measurement; the shortest counts.")
@click.option("--patches", type=click.IntRange(1), default=2048, help="Timed patch by patch; a multiple of 32.")
@click.option("--dense-tile", type=click.IntRange(16), help="Side of the dense tile  [default: the best within 1 GB]")
@click.option("--dense-only", is_flag=True, help="Do not time patch by patch.")
@click.option("--by-folder", is_flag=True, help="Name models by their folders, not by their networks.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def cli(models: Tuple[Path, ...], out: Path, repetitions: int, patches: int, dense_tile: Optional[int],
        dense_only: bool, by_folder: bool, force: bool) -> None:
    """Time the segmentation of one 3069 x 2301 slice with each of MODELS.

    \b
    python -m pycaffe_tools.timing runs/N runs/N7 -o timing.json
    """
    require_ending(out, ".json")
    refuse_inputs(out, *models)
    refuse_existing(out, force)
    opened = [open_model(directory) for directory in models]
    titles = _titles(opened, by_folder)
    dense = engines.default_name()
    content: Dict[str, Any] = {"processor": processor(), "threads": 1, "slice": list(paper.SLICE_SHAPE),
                               "pixels": SLICE_PIXELS, "models": {}}
    for model, title in zip(opened, titles):
        graph, weights = model.net(), model.load_weights()
        tile = (dense_tile, dense_tile) if dense_tile else engines.best_tile(dense, graph, DENSE_BYTES)
        times = {} if dense_only else {
            "patch": time_engine("patch", graph, weights, (PATCH_ROWS, max(patches // PATCH_ROWS, 1)), repetitions)}
        times["dense"] = time_engine(dense, graph, weights, tile, repetitions)
        content["models"][title] = {
            key: {**value._asdict(), "seconds": round(value.seconds, 2), "longest": round(value.longest, 2)}
            for key, value in times.items()}
        by_patch = "" if dense_only else f"{times['patch'].seconds:.0f} s a slice patch by patch, "
        click.echo(f"{title}: {by_patch}{times['dense'].seconds:.2f} s dense ({dense})")
    write_json(out, content)


if __name__ == "__main__":
    run(cli, "timing")

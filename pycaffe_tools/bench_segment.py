"""How fast slices are segmented: every engine side by side, on the same net and the same cores.

    python -m pycaffe_tools.bench_segment N N7

Each way runs in as many processes of one thread as there are cores, all of them
at once, and the ways take turns, so that what else happens on the machine meets
all alike:

* ``patch``: every patch by itself in Caffe, the paper's way.  It is timed on a
  sample of patches and extrapolated (marked ``~``): a slice would take hours;
* ``caffe``, ``onnxruntime``, ``native``: the exact dense net (:mod:`pycaffe_tools.dense_plan.plan`);
* ``inexact``: the usual dense net in ONNX Runtime, which takes clipped pooling
  windows for whole ones.  Its numbers are wrong; it shows what exactness costs.

The slice is the paper's, 3069 x 2301.  Times of the dense ways are those of
whole tiles, halo included, times the tiles of a slice; reading and writing
slices is not in them.  "of sgemm" is the part of the time that the
multiply-accumulates alone would take at the rate measured here for large
single-precision matrix products; ``native`` takes fewer of them and may get
above one.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np

from . import engines
from .base.command import OPTIONS, FiniteRange, run
from .base.errors import UserError
from .base.files import write_json
from .base.host.blas import CORE_TYPE, best_core_type, blas_environment
from .base.host.machine import cores, peak_so_far
from .dense_plan.plan import make_plan
from .engines import engine as engine_module
from .engines.tiling import grid, slice_tile
from .nets.files.schema import parse_prototxt
from .nets.netgraph import NetGraph
from .nets.paper import NAMES, SLICE_SHAPE, TABLE_1, deploy_prototxt
from .nets.running.runtime import random_weights

WAYS = ("patch", "caffe", "onnxruntime", "native", "inexact")
CUDA = "cuda"
"""A further way: the exact dense net in ONNX Runtime on a GPU, by one process."""
_ROUNDS = 3
_SAMPLE = (8, 64)
"""Patches of one call of the patch engine."""

_COMPARED = (12, 14)
_MATRIX = 1536


class Row(NamedTuple):
    """The figures of one net and way; times in seconds for one slice on all cores."""

    net: str
    way: str
    tile: Tuple[int, int]
    seconds: float
    processor_seconds: float
    pixels_per_second: float
    ratio: Optional[float]
    """How many times as fast as patch by patch, by processor seconds, which other programs disturb less."""
    of_sgemm: float
    peak_bytes: int
    """Largest resident memory, all processes together."""
    largest_difference: Optional[float]
    """Of probabilities, from patch by patch."""


class _Turn(NamedTuple):
    calls: int
    seconds: float
    processor_seconds: float


def graph_of(name: str) -> NetGraph:
    """A network of Table 1."""
    return NetGraph(parse_prototxt(deploy_prototxt(TABLE_1[name], name), name))


def bench(name: str, ways: Sequence[str], seconds: float, workers: int) -> List[Row]:
    """Time some ways on one network with random weights.

    Parameters
    ----------
    name : of Table 1.
    ways : some of ``WAYS``.
    seconds : for each way, besides getting ready.
    workers : processes.
    """
    graph = graph_of(name)
    tiles = {way: _tile(way, graph) for way in ways}
    sizes = {way: 1 if way == CUDA else workers for way in ways}
    crews = {way: [_Process(name, way, tiles[way]) for _ in range(sizes[way])] for way in ways}
    crews["sgemm"] = [_Process(name, "sgemm", (0, 0)) for _ in range(workers)]
    turns: Dict[str, List[_Turn]] = {way: [] for way in crews}
    compared = {}
    try:
        for way in ways:
            compared[way] = crews[way][0].ask("compare")
        for _ in range(_ROUNDS):
            for way, crew in crews.items():
                for process in crew:
                    process.send(("run", seconds / _ROUNDS))
                turns[way] += [process.receive() for process in crew]
        peaks = {way: sum(process.ask("peak") for process in crews[way]) for way in ways}
    finally:
        for crew in crews.values():
            for process in crew:
                process.close()
    operations_per_second = 2 * _MATRIX ** 3 / _per_call(turns["sgemm"]).processor_seconds
    rows = []
    for way in ways:
        one = _per_call(turns[way])
        calls = (SLICE_SHAPE[0] * SLICE_SHAPE[1] / (tiles[way][0] * tiles[way][1]) if way == "patch"
                 else len(grid(SLICE_SHAPE, tiles[way])))
        work = (graph.multiply_accumulates() if way == "patch"
                else make_plan(graph, exact=way != "inexact").multiply_accumulates())
        arithmetic = 2 * work * SLICE_SHAPE[0] * SLICE_SHAPE[1] / operations_per_second / workers
        elapsed = calls * one.seconds / sizes[way]
        # Of a GPU, what its own clock would say is not known here.
        processor = elapsed if way == CUDA else calls * one.processor_seconds / workers
        rows.append(Row(name, way, tiles[way], elapsed, processor, SLICE_SHAPE[0] * SLICE_SHAPE[1] / elapsed, None,
                        arithmetic / processor, peaks[way],
                        float(np.abs(compared[way] - compared["patch"]).max()) if "patch" in ways else None))
    slowest = [row.processor_seconds for row in rows if row.way == "patch"]
    return [row._replace(ratio=slowest[0] / row.processor_seconds) for row in rows] if slowest else rows


def _tile(way: str, graph: NetGraph) -> Tuple[int, int]:
    if way == "patch":
        return _SAMPLE
    engine = "onnxruntime" if way in ("inexact", CUDA) else way
    return slice_tile(engine, graph, SLICE_SHAPE)


def _per_call(turns: Sequence[_Turn]) -> _Turn:
    calls = sum(turn.calls for turn in turns)
    return _Turn(1, sum(turn.seconds for turn in turns) / calls, sum(turn.processor_seconds for turn in turns) / calls)


class _Process:
    """A process that makes one engine ready and runs it when told."""

    def __init__(self, name: str, way: str, tile: Tuple[int, int]):
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        # BLAS reads its number of threads when it is loaded, so it must stand in the environment before.
        os.environ.update(blas_environment())
        best = best_core_type() if way == "sgemm" else None
        if best:        # the measure of all ways is the best kernel there is, whatever is set
            os.environ[CORE_TYPE] = best
        self._process = context.Process(target=_serve, args=(other, name, way, tile), daemon=True)
        self._process.start()
        other.close()

    def send(self, message: Any) -> None:
        self._connection.send(message)

    def receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise UserError("bench_segment: a process died, probably for want of memory; "
                            "close other programs") from None

    def ask(self, message: Any) -> Any:
        self.send(message)
        return self.receive()

    def close(self) -> None:
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()


def _serve(connection: Connection, name: str, way: str, tile: Tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    if way == "sgemm":
        matrix = generator.standard_normal((_MATRIX, _MATRIX)).astype(np.float32)
        product = np.empty_like(matrix)

        def call() -> None:
            np.matmul(matrix, matrix, out=product)
    else:
        graph = graph_of(name)
        weights = random_weights(graph)
        # Random scores are so far apart that every probability is 0 or 1, which would hide all differences.
        weights["fc5"] = [array * np.float32(0.02) for array in weights["fc5"]]
        engine = _engine(way, graph, weights, tile)
        rim = sum(engine.halo)
        grey = generator.standard_normal((tile[0] + rim, tile[1] + rim)).astype(np.float32)

        def call() -> None:
            engine.predict(grey)
    call()
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        if message == "peak":
            connection.send(peak_so_far())
        elif message == "compare":
            small = np.random.default_rng(1).standard_normal([side + rim for side in _COMPARED]).astype(np.float32)
            connection.send(_engine(way, graph, weights, _COMPARED).predict(small))
        else:
            connection.send(_timed(call, message[1]))


def _engine(way: str, graph: NetGraph, weights: Any, tile: Tuple[int, int]) -> engine_module.Engine:
    if way not in ("inexact", CUDA):
        return engines.create(way, graph, weights, tile)
    from .engines import dense_onnx
    if way == CUDA:
        return dense_onnx.OnnxEngine(graph, weights, tile, 1, provider=dense_onnx.CUDA)
    return dense_onnx.OnnxEngine(graph, weights, tile, 1, make_plan(graph, exact=False))


def _timed(call: Any, seconds: float) -> _Turn:
    calls, start, processor = 0, time.perf_counter(), time.process_time()
    while calls == 0 or time.perf_counter() - start < seconds:
        call()
        calls += 1
    return _Turn(calls, time.perf_counter() - start, time.process_time() - processor)


def table(rows: Sequence[Row]) -> List[str]:
    """The figures as lines of text."""
    lines = ["net  way          s/slice  processor s  pixels/s   ratio  of sgemm  memory  largest |dp|"]
    for row in rows:
        mark = "~" if row.way == "patch" else " "
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}x"
        difference = "" if row.largest_difference is None else f"{row.largest_difference:.1e}"
        lines.append(f"{row.net:4s} {row.way:11s} {mark}{row.seconds:8.1f} {mark}{row.processor_seconds:11.1f} "
                     f"{row.pixels_per_second:9.0f} {ratio:>7s} {row.of_sgemm:8.0%} {row.peak_bytes / 1e6:6.0f}M  "
                     f"{difference}")
    return lines


def _check_gpu() -> None:
    """Say which GPU is timed, before processes are started for it.

    Raises
    ------
    UserError : there is none that ONNX Runtime can use.
    """
    import subprocess

    import onnxruntime

    from .engines.dense_onnx import CUDA as provider
    if provider not in onnxruntime.get_available_providers():
        raise UserError(f"--ways {CUDA}: this ONNX Runtime {onnxruntime.__version__} has no {provider}; install onnxruntime-gpu on "
                        f"a machine with an NVIDIA GPU")
    try:
        found = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
        click.echo(f"GPU: {found.stdout.strip() or 'unknown'}")
    except OSError:
        click.echo("GPU: unknown, since there is no nvidia-smi")


@click.command(context_settings=OPTIONS)
@click.argument("nets", nargs=-1, type=click.Choice(NAMES))
@click.option("--ways", default=",".join(WAYS), help="What to compare, of " + ", ".join(WAYS) + " and cuda.")
@click.option("--seconds", default=9.0, type=FiniteRange(0.1), help="For each net and way, besides getting ready.")
@click.option("--workers", type=click.IntRange(1), help="Processes, one thread each. [default: the cores]")
@click.option("--out", type=click.Path(dir_okay=False), help="Also write the figures as JSON.")
def cli(nets: Tuple[str, ...], ways: str, seconds: float, workers: Optional[int], out: Optional[str]) -> None:
    """Time the segmentation of one 3069 x 2301 slice, for each way and each of NETS (default: all of Table 1).

    \b
        python -m pycaffe_tools.bench_segment N N6 N7

    "processor s" is the processor time of all processes divided by their number: what the slice would take if
    nothing else ran. "~" marks what is extrapolated from a sample of patches.
    """
    chosen = [way.strip() for way in ways.split(",")]
    unknown = sorted(set(chosen) - {*WAYS, CUDA})
    if unknown:
        raise UserError(f"--ways {ways}: {unknown[0]!r} is unknown; choose of {', '.join(WAYS)} and {CUDA}")
    installed = engines.available()
    needed = {way: "onnxruntime" if way in ("inexact", CUDA) else way for way in chosen}
    for way in [way for way in chosen if needed[way] not in installed]:
        what = {"onnxruntime": "onnxruntime is not installed", "native": "its libraries are not built"}
        click.echo(f"{way}: left out, {what.get(needed[way], 'Caffe is not installed')} here")
    chosen = [way for way in chosen if needed[way] in installed]
    if CUDA in chosen:
        _check_gpu()
    count = workers or cores()
    click.echo(f"one slice of {SLICE_SHAPE[1]} x {SLICE_SHAPE[0]}, {count} processes of one thread; ~ is extrapolated "
               f"from a sample of patches")
    rows: List[Row] = []
    for name in nets or NAMES:
        found = bench(name, chosen, seconds, count)
        for line in table(found)[0 if not rows else 1:]:
            click.echo(line)
        rows += found
    if out:
        write_json(out, [row._asdict() for row in rows])
        click.echo(f"wrote {out}")


if __name__ == "__main__":
    run(cli, "bench_segment")

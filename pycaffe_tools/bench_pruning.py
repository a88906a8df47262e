"""How fast the features of a net are ordered: side by side, on the same model and mini-batches, one core each.

    python -m pycaffe_tools.bench_pruning runs/N --data data/epfl

Three ways to the loss of a candidate are compared for every layer:

* ``full``: a forward pass of the whole net in Caffe, what every public implementation does;
* ``start``: ``forward(start=layer)`` in Caffe, on a stored input of the layer;
* ``fast``: only what changes (:mod:`pycaffe_tools.oracle.incremental`).

The fast way makes the whole ordering of each layer, its preparation and its
passes for ties included.  The other two are timed on a few candidates, since
the whole would take hours; what is extrapolated from that is marked ``~``.
Times are processor seconds of the process that works, which runs one thread,
so that other programs on the machine disturb them less.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np

from .base.command import OPTIONS, SEED, run
from .base.errors import UserError
from .base.files import write_json
from .base.host.machine import Usage
from .base.ranges import parse_size
from .nets.netgraph import NetGraph
from .nets.running.runtime import Weights, random_weights
from .oracle.fast import FastOracle
from .oracle.oracle import PruningProblem
from .oracle.parts import RemotePart
from .oracle.route import obstacle
from .ordering.ordering import prunable_layers
from .ordering.sample import Sample, draw_sample


class Plain(NamedTuple):
    """A way that runs the net: processor seconds a candidate and peak memory in bytes."""

    seconds: float
    peak: int


class Fast(NamedTuple):
    """A whole ordering of a layer, incrementally: processor seconds, of them preparation; peak memory in bytes;
    evaluations on all patches that were really made, and forward passes in Caffe for ties."""

    seconds: float
    preparation: float
    peak: int
    evaluated: float
    passes: int


class Row(NamedTuple):
    """The figures of one layer."""

    layer: str
    evaluations: int
    full: Plain
    start: Plain
    fast: Fast
    undropped: Fast

    def ratio(self, plain: Plain, fast: Fast) -> float:
        """How many times faster the whole ordering is than with ``plain`` for every candidate."""
        return plain.seconds * self.evaluations / fast.seconds


def measure(graph: NetGraph, weights: Weights, layer: str, sample: Sample, candidates: int, max_memory: int) -> Row:
    """Measure one layer.

    Parameters
    ----------
    graph, weights, sample : net, weights and patches.
    layer : which layer.
    candidates : how many candidates the plain ways are timed on.
    max_memory : bytes that the fast way's process may take.

    Raises
    ------
    UserError : the layer cannot be evaluated incrementally.
    """
    reason = obstacle(graph, layer)
    if reason:
        raise UserError(f"layer {layer}: has no fast way to compare with, {reason}")
    problem = PruningProblem(graph, weights, layer, sample.data, sample.labels)
    features = graph.layer(layer).num_output
    chosen = [int(number) for number in np.linspace(0, features - 1, candidates)]
    size = sample.batch_size
    full, start = (RemotePart(problem, kind, size, max_memory) for kind in ("plain from start", "plain"))
    try:
        for part in (full, start):
            part.submit("ready")
            part.result()
        # Half of the candidates before and half after the fast way, so that a machine that slows down slows down both.
        halves = [chosen[0::2], chosen[1::2]]
        spent = [[_timed(part, half) for part in (full, start)] for half in halves[:1]]
        fast = whole_ordering(problem, size, max_memory, dropping=True)
        undropped = whole_ordering(problem, size, max_memory, dropping=False)
        spent += [[_timed(part, half) for part in (full, start)] for half in halves[1:]]
        plain = [Plain(sum(seconds) / len(chosen), _usage(part).peak)
                 for seconds, part in zip(zip(*spent), (full, start))]
    finally:
        full.close()
        start.close()
    return Row(layer, features * (features + 1) // 2, plain[0], plain[1], fast, undropped)


def whole_ordering(problem: PruningProblem, batch_size: int, max_memory: int, dropping: bool) -> Fast:
    """Order a layer in one process and say what that took."""
    part = RemotePart(problem, "incremental", batch_size, max_memory)
    try:
        features = problem.graph.layer(problem.layer).num_output
        begin = _usage(part).seconds
        oracle = FastOracle([part], len(problem.labels), features, dropping)
        prepared = _usage(part)
        while oracle.features:
            oracle.remove(oracle.smallest().feature)
        end = _usage(part)
        return Fast(end.seconds - begin, prepared.seconds - begin, end.peak, oracle.evaluated, oracle.forward_passes)
    finally:
        part.close()


def _usage(part: RemotePart) -> Usage:
    part.submit("usage")
    return Usage(*part.result())


def _timed(part: RemotePart, candidates: Sequence[int]) -> float:
    before = _usage(part).seconds
    if candidates:
        part.submit("sums", list(candidates))
        part.result()
    return _usage(part).seconds - before


def table(rows: Sequence[Row], patches: int) -> str:
    """The figures as text."""
    lines = [f"{patches} patches, one core; processor seconds, ~ extrapolated from a few candidates",
             "",
             f"{'layer':6} {'evaluations':>11} | {'full':>8} {'start':>8} {'fast':>8} ms a candidate | "
             f"{'full':>9} {'start':>9} {'fast':>8} s in all | {'/full':>6} {'/start':>6} times faster"]
    for row in rows:
        lines.append(_line(row.layer, row.evaluations, row.full.seconds, row.start.seconds, row.fast.seconds,
                           row.full.seconds * row.evaluations, row.start.seconds * row.evaluations))
    total = sum(row.evaluations for row in rows)
    full, start, fast = (sum(_seconds(row, way) for row in rows) for way in ("full", "start", "fast"))
    lines += [_line("all", total, full / total, start / total, fast, full, start), "",
              f"{'layer':6} | fast without dropping: {'s':>8} {'/full':>6} | share evaluated with dropping | "
              f"passes for ties | preparation s | peak MB full, start, fast"]
    for row in rows:
        lines.append(f"{row.layer:6} | {'':22} {row.undropped.seconds:8.2f} "
                     f"{row.ratio(row.full, row.undropped):6.0f} | {row.fast.evaluated / row.evaluations:29.2f} | "
                     f"{row.fast.passes:15} | {row.fast.preparation:13.2f} | "
                     f"{row.full.peak >> 20}, {row.start.peak >> 20}, {row.fast.peak >> 20}")
    undropped = sum(row.undropped.seconds for row in rows)
    lines.append(f"{'all':6} | {'':22} {undropped:8.2f} {full / undropped:6.0f} |")
    return "\n".join(lines)


def _line(name: str, evaluations: int, full: float, start: float, fast: float, full_all: float,
          start_all: float) -> str:
    return (f"{name:6} {evaluations:11} | {1e3 * full:8.2f} {1e3 * start:8.2f} {1e3 * fast / evaluations:8.3f}"
            f"{'':15} | {'~' + format(full_all, '.0f'):>9} {'~' + format(start_all, '.0f'):>9} {fast:8.2f}{'':9} | "
            f"{full_all / fast:6.0f} {start_all / fast:6.0f}")


def _seconds(row: Row, way: str) -> float:
    return row.fast.seconds if way == "fast" else getattr(row, way).seconds * row.evaluations


def as_json(rows: Sequence[Row], patches: int) -> Dict[str, Any]:
    """The figures for other programs; seconds are processor seconds, memory bytes."""
    return {"patches": patches, "layers": [
        {"layer": row.layer, "evaluations": row.evaluations, "ratio_to_full": row.ratio(row.full, row.fast),
         "ratio_to_start": row.ratio(row.start, row.fast),
         "ratio_to_full_without_dropping": row.ratio(row.full, row.undropped),
         **{way: getattr(row, way)._asdict() for way in ("full", "start", "fast", "undropped")}} for row in rows],
        "ratio_to_full": sum(_seconds(row, "full") for row in rows) / sum(row.fast.seconds for row in rows)}


def stand_in(batches: int, batch_size: int, seed: int) -> Tuple[NetGraph, Weights, Sample]:
    """Network N with random weights and patches of noise: times hardly depend on the values."""
    from .nets.files.schema import parse_prototxt
    from .nets.paper import TABLE_1, deploy_prototxt
    graph = NetGraph(parse_prototxt(deploy_prototxt(TABLE_1["N"], "N")))
    generator, count = np.random.RandomState(seed), batches * batch_size
    data = generator.standard_normal((count, 1, 32, 32)).astype(np.float32)
    labels = generator.randint(0, 2, count)
    return graph, random_weights(graph, seed), Sample(data, labels, list(range(count)), batches, batch_size, seed)


@click.command(context_settings=OPTIONS)
@click.argument("model_dir", required=False, type=click.Path())
@click.option("--data", "data_dir", type=click.Path(), help="Patch database; needed with MODEL_DIR.")
@click.option("--layer", "layers", multiple=True, help="Only this layer; may be repeated.")
@click.option("--batches", default=2, help="Number of mini-batches.")
@click.option("--batch-size", default=128, help="Patches in a mini-batch.")
@click.option("--seed", type=SEED, default=0, help="Seed of the draw of mini-batches.")
@click.option("--candidates", default=4, help="Candidates on which the plain ways are timed.")
@click.option("--max-memory", default="2G", help="Bound on the memory of the fast way's process.")
@click.option("-o", "--output", type=click.Path(), help="Also write the figures as JSON.")
def cli(model_dir: Optional[str], data_dir: Optional[str], layers: Sequence[str], batches: int, batch_size: int, seed: int,
        candidates: int, max_memory: str, output: Optional[str]) -> None:
    """Compare the time to order features: full forward passes, forward(start=...), and the fast way.

    \b
    python -m pycaffe_tools.bench_pruning runs/N --data data/epfl

    Without MODEL_DIR network N is taken with random weights and patches of noise.
    """
    if model_dir is None:
        graph, weights, sample = stand_in(batches, batch_size, seed)
    else:
        if data_dir is None:
            raise UserError(f"{model_dir}: also needs the patches, --data DIR")
        from .nets.model import open_model
        from .patches.database import open_database
        model = open_model(model_dir)
        graph, weights = model.net(), model.load_weights()
        sample = draw_sample(open_database(data_dir), batches, batch_size, seed)
    rows: List[Row] = []
    for layer in layers or prunable_layers(graph):
        click.echo(f"{layer} ...", err=True)
        rows.append(measure(graph, weights, layer, sample, candidates, parse_size(max_memory)))
    click.echo(table(rows, len(sample.rows)))
    if output is not None:
        write_json(output, as_json(rows, len(sample.rows)))


if __name__ == "__main__":
    run(cli, "bench_pruning")

"""The greedy order in which the features of a layer are discarded (equations 2 and 3).

    python -m pycaffe_tools.ordering runs/N --data data/epfl --layer c1 -o c1.json

One random set of mini-batches, drawn once with a recorded seed, serves every
candidate of every step and every layer.  Each step is on disk, in an
append-only log, before the next one begins; the log's name is derived from
everything that the order depends on, so it is also the cache: an interrupted
or longer run goes on where it ends, and networks that share a layer's order
share the work.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import click
import numpy as np

from .base.command import OPTIONS, SEED, run
from .base.errors import UserError
from .base.files import PathLike, read_json, refuse_existing, write_json
from .base.progress import Progress
from .base.ranges import parse_size
from .nets.netgraph import NetGraph
from .nets.schema import to_text
from .oracle.oracle import Oracle, Smallest, Task, without_features
from .ordering_log import Log, Step

FORMAT = 1
CRITERIA = ("loss", "apoz", "l1", "taylor", "random")
Weights = Mapping[str, Sequence[np.ndarray]]


class Sample(NamedTuple):
    """The mini-batches on which losses are averaged.

    Attributes
    ----------
    data, labels : patches (float32, n x 1 x size x size, normalised) and their classes (n integers).
    rows : where they stand: row numbers from 0 through the shards of ``train.txt`` in order.
    batches, batch_size, seed : how they were drawn.
    """

    data: np.ndarray
    labels: np.ndarray
    rows: List[int]
    batches: int
    batch_size: int
    seed: int


class Ordering(NamedTuple):
    """The order of a layer's features, first discarded first; ``steps`` may stop early (``stop_after``)."""

    layer: str
    criterion: str
    features: int
    rows: List[int]
    batches: int
    batch_size: int
    seed: int
    removed_below: Dict[str, List[int]]
    weights_sha256: str
    key: str
    loss_before: float
    steps: List[Step]

    def removed(self, count: int) -> List[int]:
        """The first ``count`` features of the order.

        Raises
        ------
        UserError : the order stops earlier.
        """
        if count > len(self.steps):
            raise UserError(f"layer {self.layer}: {count} features are to be discarded, but its order ends after "
                            f"{len(self.steps)} of {self.features}; make it anew without a limit")
        return [step.feature for step in self.steps[:count]]

    def as_json(self) -> Dict[str, Any]:
        """The content of an ordering file."""
        return {"format": FORMAT, **self._asdict(), "steps": [step._asdict() for step in self.steps]}

    def write(self, path: PathLike) -> None:
        """Write an ordering file."""
        write_json(path, self.as_json())


def read_ordering(path: PathLike) -> Ordering:
    """Read an ordering file.

    Raises
    ------
    UserError : missing, or not an ordering file.
    """
    content = read_json(path)
    try:
        if content.pop("format") != FORMAT:
            raise KeyError("format")
        content["steps"] = [Step(**step) for step in content["steps"]]
        return Ordering(**content)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is not an ordering file of this version; "
                        f"make it with python -m pycaffe_tools.ordering") from None


def draw_sample(database: Any, batches: int = 20, batch_size: int = 128, seed: int = 0) -> Sample:
    """Draw mini-batches of training patches, without repetition.

    Parameters
    ----------
    database : an opened patch database.
    batches, batch_size : how many mini-batches of how many patches.
    seed : of the draw.

    Raises
    ------
    UserError : the database has fewer training patches.
    """
    from .patches.database import read_rows
    wanted, count = batches * batch_size, database.train_count
    if min(batches, batch_size) < 1:
        raise UserError(f"{batches} mini-batches of {batch_size} patches: both must be at least 1")
    if wanted > count:
        raise UserError(f"{database.directory}: has {count} training patches, but {batches} mini-batches of "
                        f"{batch_size} are {wanted}; ask for fewer, or make a larger database")
    # RandomState, since its sequence of numbers is frozen for all versions of numpy.
    rows = np.random.RandomState(seed).permutation(count)[:wanted]
    data, labels = read_rows(database.train, rows)
    return Sample(data, labels.astype(np.int64), [int(row) for row in rows], batches, batch_size, seed)


def prunable_layers(graph: NetGraph) -> List[str]:
    """Names of the layers whose features can be ordered: convolutions and inner products, all but the last."""
    return [layer.name for layer in graph.layers if layer.is_parametric][:-1]


def order_layer(graph: NetGraph, weights: Weights, layer: str, sample: Sample, *,
                removed_below: Optional[Mapping[str, Sequence[int]]] = None, criterion: str = "loss",
                plain: bool = False, workers: int = 2, max_memory: int = 2 << 30, stop_after: Optional[int] = None,
                log: Optional[PathLike] = None, cache: Optional[PathLike] = None, quiet: bool = False) -> Ordering:
    """Order the features of one layer.

    Parameters
    ----------
    graph, weights : the net (deploy) and its float32 blobs by layer name.
    layer : which layer.
    sample : the patches; see :func:`draw_sample`.
    removed_below : features already discarded in lower layers, by layer name.
    criterion : ``loss`` (equations 2 and 3), or a score of :mod:`pycaffe_tools.criteria`;
        the loss along the order is evaluated either way.
    plain : run the net for every candidate instead of recomputing what changes.
    workers : processes, each with one thread and its share of the patches; 0: this process itself.
    max_memory : bytes that all processes together may take.
    stop_after : number of features to discard; by default all.
    log : the append-only log; an existing one is continued.
    cache : folder of logs named by what they depend on, used if ``log`` is not given.
    quiet : say nothing on standard error.

    Raises
    ------
    UserError : unknown layer or criterion, the output layer, a log of another ordering.
    """
    below = {name: sorted(int(feature) for feature in features)
             for name, features in (removed_below or {}).items() if len(features)}
    count = _feature_count(graph, layer, below)
    if criterion not in CRITERIA:
        raise UserError(f"criterion {criterion!r}: is not one of {', '.join(CRITERIA)}")
    if stop_after is None:
        stop_after = count
    if not 0 <= stop_after <= count:
        raise UserError(f"layer {layer}: has {count} features, so {stop_after} cannot be discarded")
    digest = weights_digest(weights)
    # No two engines share a log: the plain one is there to prove the other.
    key = _key(graph, digest, layer, sample, below, criterion, plain)
    if log is None and cache is not None:
        log = Path(cache) / f"{layer}-{criterion}{'-plain' if plain else ''}-{key[:12]}.log"
    masked = without_features(weights, below)
    task = Task(graph, masked, layer, sample.data, sample.labels)
    with Log(log, {"format": FORMAT, "layer": layer, "criterion": criterion, "plain": plain, "key": key}) as record:
        if record.loss_before is None or len(record.steps) < stop_after:
            from .oracle.fast import open_oracle
            oracle = open_oracle(task, plain=plain, workers=workers, max_memory=max_memory,
                                 batch_size=sample.batch_size, quiet=quiet)
            try:
                choose = _chooser(task, criterion, sample.seed)
                _discard(oracle, choose, record, stop_after, None if quiet else f"{layer} by {criterion}")
            finally:
                oracle.close()
        return Ordering(layer, criterion, count, list(sample.rows), sample.batches, sample.batch_size, sample.seed,
                        below, digest, key, record.loss_before, record.steps[:stop_after])


def _feature_count(graph: NetGraph, layer: str, below: Mapping[str, Any]) -> int:
    prunable = prunable_layers(graph)
    if layer not in prunable:
        graph.layer(layer)
        raise UserError(f"layer {layer}: has no features to discard, it is the output layer or has no weights; "
                        f"choose one of {', '.join(prunable)}")
    for name in below:
        if name not in prunable[:prunable.index(layer)]:
            raise UserError(f"layer {name}: features are given as removed below layer {layer}, but it is no "
                            f"prunable layer below that one")
    return graph.layer(layer).num_output


Chooser = Callable[[Oracle], Smallest]


def _chooser(task: Task, criterion: str, seed: int) -> Chooser:
    if criterion == "loss":
        return lambda oracle: oracle.smallest()
    from .criteria import scores
    return by_score(scores(task, criterion, seed))


def by_score(scores: Sequence[float]) -> Chooser:
    """Choose the feature of lowest score, the lowest number among equals, and evaluate its loss alone."""
    def choose(oracle: Oracle) -> Smallest:
        rank = sorted((float(scores[feature]), feature) for feature in oracle.features)
        (score, feature), rest = rank[0], rank[1:]
        loss = float(oracle.losses([feature])[0])
        return Smallest(feature, loss, rest[0][1], rest[0][0] - score) if rest else Smallest(feature, loss, None, None)
    return choose


def _discard(oracle: Oracle, choose: Chooser, record: Log, stop_after: int, label: Optional[str]) -> None:
    """Discard features until there are ``stop_after``, first those that the log already has."""
    for step in record.steps:
        oracle.remove(step.feature)
    if record.loss_before is None:
        record.begin(oracle.loss())
    total = len(oracle.features) + len(record.steps)
    # Work is counted in candidates: a step costs as many as features are left.
    work = [remaining_before for remaining_before in range(total, total - stop_after, -1)]
    done = sum(work[:len(record.steps)])
    with Progress(sum(work), label or "", already=done, stream=None if label else open(os.devnull, "w")) as progress:
        while len(record.steps) < stop_after:
            passes, evaluated, candidates = oracle.passes, oracle.evaluated, len(oracle.features)
            found = choose(oracle)
            record.add(Step(*found), forward_passes=oracle.passes - passes, candidates=candidates,
                       evaluated=round(oracle.evaluated - evaluated, 3))
            oracle.remove(found.feature)
            done += candidates
            progress.update(done, f"{len(record.steps)} discarded, loss {found.loss:.5f}")


def weights_digest(weights: Weights) -> str:
    """SHA-256 over the names, shapes and float32 values of all blobs, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        for blob in weights[name]:
            digest.update(f"{name}{tuple(blob.shape)}".encode())
            digest.update(np.ascontiguousarray(blob, np.float32).tobytes())
    return digest.hexdigest()


def _key(graph: NetGraph, digest: str, layer: str, sample: Sample, below: Mapping[str, List[int]], criterion: str,
         plain: bool) -> str:
    net = graph.with_batch(1)
    net.name = ""
    patches = hashlib.sha256(np.ascontiguousarray(sample.data).tobytes())
    patches.update(np.asarray(sample.labels, np.int64).tobytes())
    parts = [to_text(net), digest, layer, patches.hexdigest(), sample.rows, sample.batch_size, below, criterion,
             sample.seed if criterion == "random" else None, plain]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# -- command line ----------------------------------------------------------------------------------------------

def read_below(path: Optional[PathLike]) -> Dict[str, List[int]]:
    """Removed features by layer, from a JSON file such as ``{"c1": [3, 17]}`` or from an ordering file's folder.

    Raises
    ------
    UserError : the file is of another form.
    """
    if path is None:
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(
            isinstance(features, list) and all(isinstance(feature, int) for feature in features)
            for features in content.values()):
        raise UserError(f'{path}: must hold the numbers of the removed features by layer, like {{"c1": [3, 17]}}')
    return content


@click.command(context_settings=OPTIONS)
@click.argument("model_dir", type=click.Path())
@click.option("--data", "data_dir", required=True, type=click.Path(), help="Patch database.")
@click.option("--layer", help="Layer whose features are ordered.")
@click.option("--all-layers", is_flag=True, help="Order every layer but the last; -o is a folder then.")
@click.option("--below", type=click.Path(), help='JSON file of features removed in lower layers: {"c1": [3, 17]}.')
@click.option("--batches", type=click.IntRange(1), default=20, help="Number of mini-batches.")
@click.option("--batch-size", type=click.IntRange(1), default=128, help="Patches in a mini-batch.")
@click.option("--seed", type=SEED, default=0, help="Seed of the draw of mini-batches (and of the criterion random).")
@click.option("--criterion", default="loss", type=click.Choice(CRITERIA), help="What orders the features.")
@click.option("--plain", is_flag=True, help="Run the net for every candidate, as proof of the fast way.")
@click.option("--stop-after", type=click.IntRange(1), help="Number of features to discard; all by default.")
@click.option("--max-memory", default="2G", help="Bound on the memory of all processes together.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Processes, one thread each.")
@click.option("--cache", type=click.Path(), help="Folder of the logs; MODEL_DIR/orderings by default.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Ordering file (folder with --all-layers).")
@click.option("--force", is_flag=True, help="Replace an existing ordering file.")
def cli(model_dir, data_dir, layer, all_layers, below, batches, batch_size, seed, criterion, plain, stop_after,
        max_memory, workers, cache, output, force):
    """Order the features of a layer by the training loss without them (equations 2 and 3 of the paper).

    \b
    python -m pycaffe_tools.ordering runs/N --data data/epfl --layer c1 -o c1.json
    python -m pycaffe_tools.ordering runs/N --data data/epfl --all-layers -o runs/N/figure3

    With --all-layers each layer is ordered with nothing removed below it, which is the curve of network N in
    Figure 3; with --below the features given there are removed in the layers below the one that is ordered.
    A command that was interrupted goes on where it was when it is given again.
    """
    from .nets.model import open_model
    from .patches.database import open_database
    if bool(layer) == all_layers:
        raise click.UsageError("give either --layer NAME or --all-layers")
    model = open_model(model_dir)
    graph, weights, removed = model.net(), model.load_weights(), read_below(below)
    layers = prunable_layers(graph) if all_layers else [layer]
    files = {name: Path(output) / f"{name}.json" if all_layers else Path(output) for name in layers}
    if not all_layers:
        refuse_existing(output, force)
    sample = draw_sample(open_database(data_dir), batches, batch_size, seed)
    for name in layers:
        lower = prunable_layers(graph)[:prunable_layers(graph).index(name)] if all_layers else list(removed)
        ordering = order_layer(
            graph, weights, name, sample, removed_below={key: removed[key] for key in removed if key in lower},
            criterion=criterion, plain=plain, workers=workers, max_memory=parse_size(max_memory), stop_after=stop_after,
            cache=cache or Path(model_dir) / "orderings")
        _keep_or_write(ordering, files[name], force)
        click.echo(f"{files[name]}: {len(ordering.steps)} of {ordering.features} features of {name}, "
                   f"loss {ordering.loss_before:.5f} before")


def _keep_or_write(ordering: Ordering, path: Path, force: bool) -> None:
    """Write an ordering file; one that an interrupted run of the same command left is the same, another is refused."""
    if path.exists() and not force and read_json(path) != json.loads(json.dumps(ordering.as_json())):
        raise UserError(f"{path}: exists already and is another ordering; choose another name, or say --force")
    ordering.write(path)


if __name__ == "__main__":
    run(cli, "ordering")

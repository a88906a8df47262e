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

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..base.errors import UserError
from ..base.fields import Fields, read_fields
from ..base.files import PathLike, write_json
from ..base.progress import Progress
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights
from ..oracle.fast import open_oracle
from ..oracle.oracle import Oracle, PruningProblem, Smallest, without_features
from .criteria import scores
from .identity import key_of, weights_digest
from .log import Log, Step, read_step
from .sample import Sample

FORMAT = 1
CRITERIA = ("loss", "apoz", "l1", "taylor", "random")


@dataclass(frozen=True)
class OrderingOptions:
    """How features are ordered, whichever the layer.

    Attributes
    ----------
    criterion : ``loss`` (equations 2 and 3), or a score of :mod:`pycaffe_tools.ordering.criteria`;
        the loss along the order is evaluated either way.
    plain : run the net for every candidate instead of recomputing what changes.
    workers : processes, each with one thread and its share of the patches; 0: this process itself.
    max_memory : bytes that all processes together may take.
    cache : folder of logs named by what they depend on; None keeps no log.
    quiet : write nothing to standard error.
    """

    criterion: str = "loss"
    plain: bool = False
    workers: int = 2
    max_memory: int = 2 << 30
    cache: Optional[PathLike] = None
    quiet: bool = False


DEFAULTS = OrderingOptions()


class Ordering(NamedTuple):
    """The order of a layer's features, first discarded first; ``steps`` may stop early (``stop_after``)."""

    layer: str
    criterion: str
    features: int
    rows: List[int]
    batches: int
    batch_size: int
    seed: int
    removed_elsewhere: Dict[str, List[int]]
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
                            f"{len(self.steps)} of {self.features}; make it again without a limit")
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
    fields = read_fields(path)
    if not fields.has("format") or fields.whole("format") != FORMAT:
        raise UserError(f"{path}: is not an ordering file of this version; make it with python -m pycaffe_tools.ordering")
    elsewhere = fields.fields("removed_elsewhere")
    features = fields.whole("features", 1)
    return Ordering(
        fields.text("layer"), fields.one_of("criterion", CRITERIA), features, fields.wholes("rows"),
        fields.whole("batches", 1), fields.whole("batch_size", 1), fields.whole("seed"),
        {layer: elsewhere.wholes(layer) for layer in elsewhere.names}, fields.text("weights_sha256"), fields.text("key"),
        fields.number("loss_before"), read_steps(fields.objects("steps"), features))


def read_steps(steps: Sequence[Fields], features: int) -> List[Step]:
    """The steps of an ordering of so many features, each of which goes once at most.

    Raises
    ------
    UserError : a field that cannot be.
    """
    found: List[Step] = []
    for fields in steps:
        step = read_step(fields, Step)
        if step.feature >= features or step.feature in {before.feature for before in found}:
            raise UserError(f"{fields.where}: discards feature {step.feature} of {features}"
                            + (" twice" if step.feature < features else "") + "; restore the file or make it again")
        found.append(step)
    return found


def prunable_layers(graph: NetGraph) -> List[str]:
    """Names of the layers whose features can be ordered: convolutions and inner products, all but the last."""
    return [layer.name for layer in graph.layers if layer.is_parametric][:-1]


def order_layer(graph: NetGraph, weights: Weights, layer: str, sample: Sample, options: OrderingOptions = DEFAULTS, *,
                removed_elsewhere: Optional[Mapping[str, Sequence[int]]] = None, stop_after: Optional[int] = None,
                log: Optional[PathLike] = None) -> Ordering:
    """Order the features of one layer.

    Parameters
    ----------
    graph, weights : the net (deploy) and its float32 blobs by layer name.
    layer : which layer.
    sample : the patches; see :func:`draw_sample`.
    options : how.
    removed_elsewhere : features already discarded in other layers, by layer name: in those below, as in the paper, or
        above.
    stop_after : number of features to discard; by default all.
    log : the append-only log; an existing one is continued. By default one in the folder ``options.cache``.

    Raises
    ------
    UserError : unknown layer or criterion, the output layer, a log of another ordering.
    """
    elsewhere = {name: sorted(int(feature) for feature in features)
                 for name, features in (removed_elsewhere or {}).items() if len(features)}
    count = _feature_count(graph, layer, elsewhere)
    criterion, plain = options.criterion, options.plain
    if criterion not in CRITERIA:
        raise UserError(f"criterion {criterion!r}: is not one of {', '.join(CRITERIA)}")
    if stop_after is None:
        stop_after = count
    if not 0 <= stop_after <= count:
        raise UserError(f"layer {layer}: has {count} features, so {stop_after} cannot be discarded")
    digest = weights_digest(weights)
    # No two engines share a log: the plain one is there to prove the other.
    key = key_of(graph, digest, layer, sample, elsewhere, criterion, sample.seed if criterion == "random" else None, plain)
    if log is None and options.cache is not None:
        log = Path(options.cache) / f"{layer}-{criterion}{'-plain' if plain else ''}-{key[:12]}.log"
    masked = without_features(weights, elsewhere)
    problem = PruningProblem(graph, masked, layer, sample.data, sample.labels)
    with Log(log, {"format": FORMAT, "layer": layer, "criterion": criterion, "plain": plain, "key": key},
             Step) as record:
        if record.loss_before is None or len(record.steps) < stop_after:
            oracle = open_oracle(problem, plain=plain, workers=options.workers, max_memory=options.max_memory,
                                 batch_size=sample.batch_size, quiet=options.quiet)
            try:
                choose = _chooser(problem, criterion, sample.seed)
                _discard(oracle, choose, record, stop_after, None if options.quiet else f"{layer} by {criterion}")
            finally:
                oracle.close()
        return Ordering(layer, criterion, count, list(sample.rows), sample.batches, sample.batch_size, sample.seed,
                        elsewhere, digest, key, record.known_loss_before, record.steps[:stop_after])


def _feature_count(graph: NetGraph, layer: str, elsewhere: Mapping[str, Any]) -> int:
    prunable = prunable_layers(graph)
    if layer not in prunable:
        graph.layer(layer)
        raise UserError(f"layer {layer}: has no features to discard, it is the output layer or has no weights; "
                        f"choose one of {', '.join(prunable)}")
    for name in elsewhere:
        if name == layer or name not in prunable:
            raise UserError(f"layer {name}: features are given as removed before layer {layer} is ordered, but it is "
                            + ("that layer itself" if name == layer else "no prunable layer"))
    return graph.layer(layer).num_output


Chooser = Callable[[Oracle], Smallest]


def _chooser(problem: PruningProblem, criterion: str, seed: int) -> Chooser:
    if criterion == "loss":
        return lambda oracle: oracle.smallest()
    return by_score(scores(problem, criterion, seed).tolist())


def by_score(scores: Sequence[float]) -> Chooser:
    """Choose the feature of lowest score, the lowest number among equals, and evaluate its loss alone."""
    def choose(oracle: Oracle) -> Smallest:
        rank = sorted((float(scores[feature]), feature) for feature in oracle.features)
        (score, feature), rest = rank[0], rank[1:]
        loss = float(oracle.losses([feature])[0])
        return Smallest(feature, loss, rest[0][1], rest[0][0] - score) if rest else Smallest(feature, loss, None, None)
    return choose


def _discard(oracle: Oracle, choose: Chooser, record: Log[Step], stop_after: int, label: Optional[str]) -> None:
    """Discard features until there are ``stop_after``, first those that the log already has."""
    for step in record.steps:
        oracle.remove(step.feature)
    if record.loss_before is None:
        record.begin(oracle.loss())
    total = len(oracle.features) + len(record.steps)
    # Work is counted in candidates: a step costs as many as features are left.
    work = list(range(total, total - stop_after, -1))
    done = sum(work[:len(record.steps)])
    with Progress(sum(work), label or "", already=done, stream=None if label else open(os.devnull, "w")) as progress:
        while len(record.steps) < stop_after:
            passes, evaluated, candidates = oracle.forward_passes, oracle.evaluated, len(oracle.features)
            found = choose(oracle)
            record.add(Step(*found), forward_passes=oracle.forward_passes - passes, candidates=candidates,
                       evaluated=round(oracle.evaluated - evaluated, 3))
            oracle.remove(found.feature)
            done += candidates
            progress.update(done, f"{len(record.steps)} discarded, loss {found.loss:.5f}")

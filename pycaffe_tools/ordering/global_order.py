"""The order in which the features of all layers go, by loss for each unit of cost that their removal saves.

    python -m pycaffe_tools.ordering runs/N --data data/epfl --global --cost time -o runs/N/global.json

At each step the feature goes, of any layer, whose removal costs least loss for
what it saves (:mod:`pycaffe_tools.ordering.greedy` says what that means, and
what is exact), in seconds, parameters or multiply-accumulates (:mod:`pycaffe_tools.ordering.cost.model`).
No layer loses its last feature.  As in a layer's own ordering, one random set
of mini-batches serves all steps, and each step is on disk before the next one begins.

The file is JSON:

=================  ==========================================================================================
``format``         1
``kind``           ``global``
``layers``         features of each layer before the first step, by name, from the lowest layer up
``down_to``        features that each layer keeps at least
``cost``           the cost model, as it describes itself, with its ``unit``
``rows``,          the patches: row numbers through the shards of ``train.txt`` from 0, and how they
``batches``,       were drawn
``batch_size``,
``seed``
``weights_sha256`` digest of the net's weights
``key``            digest of everything that the order depends on
``loss_before``    mean loss of the whole net
``cost_before``    its cost
``audit``          ``loss``, the mean loss after the last step by passes of the net in Caffe, and
                   ``relative_difference``, how far the last step's is from it (at most 1e-5)
``steps``          for each step ``layer``, ``feature``, ``loss`` and ``cost`` after it, and ``ratio``, the rise of
                   the loss over the cost saved (null if nothing is saved)
=================  ==========================================================================================

The log has a header line and one line for each step with the same names, besides ``step``, counted from 1, and
``forward_passes``, ``candidates`` and ``evaluated``, as in the log of a layer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from ..base.errors import UserError
from ..base.files import PathLike, read_json, write_json
from ..base.progress import Progress
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights
from ..oracle.net_oracle import NetOracle, open_net_oracle
from ..oracle.oracle import PruningProblem, prunable
from .cost.model import CostModel
from .greedy import choose
from .identity import key_of, weights_digest
from .log import GlobalStep, Log
from .ordering import DEFAULTS, OrderingOptions
from .sample import Sample

FORMAT = 1
AUDIT_TOLERANCE = 1e-5


class Stop(NamedTuple):
    """Where a global order ends: as soon as one of these is reached.

    Attributes
    ----------
    down_to : features that a layer keeps at least, by name; 1 where none is given.
    target_cost : the largest cost, in the unit of the cost model, that the net may have at the end; None: no such end.
    steps : number of features to discard; None: no such end.
    until : the order ends once this holds for the features that are left in each layer; None: no such end.
    """

    down_to: Mapping[str, int] = {}
    target_cost: Optional[float] = None
    steps: Optional[int] = None
    until: Optional[Callable[[Mapping[str, int]], bool]] = None

    def reached(self, counts: Mapping[str, int], cost: float) -> bool:
        """Whether the order ends with these counts, of this cost; ``down_to`` and ``steps`` are not asked."""
        return ((self.target_cost is not None and cost <= self.target_cost)
                or (self.until is not None and self.until(counts)))


TO_THE_END = Stop()


class GlobalOrdering(NamedTuple):
    """The order in which features of all layers go; its fields are those of the file, see the module."""

    layers: Dict[str, int]
    down_to: Dict[str, int]
    cost: Dict[str, Any]
    rows: List[int]
    batches: int
    batch_size: int
    seed: int
    weights_sha256: str
    key: str
    loss_before: float
    cost_before: float
    audit: Dict[str, float]
    steps: List[GlobalStep]

    def removed(self, count: int) -> Dict[str, List[int]]:
        """Features of each layer among the first ``count`` steps, in the order in which they go.

        Raises
        ------
        UserError : there are fewer steps.
        """
        if count > len(self.steps):
            raise UserError(f"{count} features are to be discarded, but the global order ends after {len(self.steps)}; "
                            f"make a longer one")
        return {layer: [step.feature for step in self.steps[:count] if step.layer == layer] for layer in self.layers}

    def counts(self, count: int) -> Dict[str, int]:
        """Features that are left in each layer after ``count`` steps."""
        removed = self.removed(count)
        return {layer: features - len(removed[layer]) for layer, features in self.layers.items()}

    def as_json(self) -> Dict[str, Any]:
        """The content of the file."""
        return {"format": FORMAT, "kind": "global", **self._asdict(), "steps": [step._asdict() for step in self.steps]}

    def write(self, path: PathLike) -> None:
        """Write the file."""
        write_json(path, self.as_json())


def read_global_ordering(path: PathLike) -> GlobalOrdering:
    """Read the file of a global ordering.

    Raises
    ------
    UserError : missing, or not such a file.
    """
    content = read_json(path)
    try:
        if (content.pop("format"), content.pop("kind")) != (FORMAT, "global"):
            raise KeyError("format")
        content["steps"] = [GlobalStep(**step) for step in content["steps"]]
        return GlobalOrdering(**content)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is not the file of a global ordering of this version; "
                        f"make it with python -m pycaffe_tools.ordering --global") from None


def order_globally(graph: NetGraph, weights: Weights, sample: Sample, cost: CostModel,
                   options: OrderingOptions = DEFAULTS, *, stop: Stop = TO_THE_END,
                   log: Optional[PathLike] = None) -> GlobalOrdering:
    """Order the features of all layers.

    Parameters
    ----------
    graph, weights : the net (deploy) and its float32 blobs by layer name.
    sample : the patches; see :func:`~pycaffe_tools.ordering.sample.draw_sample`.
    cost : what the net costs at any counts.
    options : how; the criterion is the loss.
    stop : where the order ends.
    log : the append-only log; an existing one is continued. By default one in the folder ``options.cache``.

    Raises
    ------
    UserError : counts that a layer cannot have, a cost that cannot be reached, a log of another ordering.
    """
    if options.criterion != "loss":
        raise UserError(f"criterion {options.criterion!r}: a global order goes by the loss; leave the criterion out")
    layers = {layer.name: layer.num_output for layer in prunable(graph)}
    down_to = _down_to(layers, stop.down_to)
    _check_target(cost, down_to, stop.target_cost)
    digest = weights_digest(weights)
    cost_json = {**cost.as_json(), "unit": cost.unit}
    key = key_of(graph, digest, "global", sample, down_to, cost_json, options.plain)
    if log is None and options.cache is not None:
        log = Path(options.cache) / f"global-{cost_json['cost']}{'-plain' if options.plain else ''}-{key[:12]}.log"
    header = {"format": FORMAT, "kind": "global", "cost": cost_json["cost"], "plain": options.plain, "key": key}
    problem = PruningProblem(graph, weights, next(iter(layers)), sample.data, sample.labels)
    with Log(log, header, GlobalStep) as record:
        oracle = open_net_oracle(problem, plain=options.plain, workers=options.workers, max_memory=options.max_memory,
                                 batch_size=sample.batch_size, quiet=options.quiet)
        try:
            steps = _discard(oracle, record, cost, down_to, stop, options.quiet)
            audit = _audit(oracle, record.known_loss_before, steps)
        finally:
            oracle.close()
    return GlobalOrdering(layers, down_to, cost_json, list(sample.rows), sample.batches, sample.batch_size, sample.seed, digest,
                          key, record.known_loss_before, cost.cost(layers), audit, steps)


def _down_to(layers: Mapping[str, int], asked: Mapping[str, int]) -> Dict[str, int]:
    for name, count in asked.items():
        if not 1 <= count <= layers.get(name, 0):
            raise UserError(f"--down-to {name}={count}: " + (
                f"layer {name} has {layers[name]} features; keep 1 to {layers[name]}" if name in layers
                else f"there is no such layer to prune; choose among {', '.join(layers)}"))
    return {name: asked.get(name, 1) for name in layers}


def _check_target(cost: CostModel, down_to: Mapping[str, int], target: Optional[float]) -> None:
    if target is not None and cost.cost(down_to) > target:
        raise UserError(f"--target-cost: at {', '.join(f'{name} {count}' for name, count in down_to.items())} the net still "
                        f"costs {cost.cost(down_to):.4g} {cost.unit}, more than the {target:.4g} asked for; ask for more, "
                        f"or keep fewer features with --down-to")


def _discard(oracle: NetOracle, record: Log[GlobalStep], cost: CostModel, down_to: Mapping[str, int], stop: Stop,
             quiet: bool) -> List[GlobalStep]:
    """Discard features until an end is reached, first those that the log already has; the steps up to there."""
    features = {name: list(candidates.features) for name, candidates in oracle.layers.items()}
    counts = {name: len(known) for name, known in features.items()}
    if record.loss_before is None:
        record.begin(oracle.loss())
    most = sum(counts.values()) - sum(down_to.values())
    most = most if stop.steps is None else min(most, stop.steps)
    steps: List[GlobalStep] = []
    now = cost.cost(counts)
    with Progress(max(most, 1), "all layers by loss", already=min(len(record.steps), most),
                  stream=open(os.devnull, "w") if quiet else None) as progress:
        while len(steps) < most and not stop.reached(counts, now):
            if len(steps) < len(record.steps):
                step = record.steps[len(steps)]
            else:
                step = _next_step(oracle, record, cost, counts, down_to)
            oracle.remove(step.layer, step.feature)
            counts[step.layer] -= 1
            now = step.cost
            steps.append(step)
            progress.update(len(steps), f"{_listed(counts)}, loss {step.loss:.5f}, cost {step.cost:.4g}")
    return steps


def _next_step(oracle: NetOracle, record: Log[GlobalStep], cost: CostModel, counts: Mapping[str, int],
               down_to: Mapping[str, int]) -> GlobalStep:
    now = cost.cost(counts)
    after = {name: cost.cost({**counts, name: count - 1}) for name, count in counts.items() if count > down_to[name]}
    passes, evaluated = oracle.forward_passes, oracle.evaluated
    found = choose(oracle, {name: now - less for name, less in after.items()})
    step = GlobalStep(found.layer, found.feature, found.loss, after[found.layer], found.ratio)
    record.add(step, forward_passes=oracle.forward_passes - passes, candidates=sum(counts[name] for name in after),
               evaluated=round(oracle.evaluated - evaluated, 3))
    return step


def _audit(oracle: NetOracle, loss_before: float, steps: List[GlobalStep]) -> Dict[str, float]:
    """Compare the last loss with that of passes in Caffe of the net with all features of the order discarded."""
    known = steps[-1].loss if steps else loss_before
    found = oracle.exact_loss(next(iter(oracle.layers)))
    difference = abs(known - found) / max(found, 1e-30)
    if difference > AUDIT_TOLERANCE:
        raise RuntimeError(f"after {len(steps)} steps the loss is {known!r}, but passes of the net in Caffe give {found!r}: "
                           f"the incremental evaluation is wrong here, please report it")
    return {"loss": found, "relative_difference": difference}


def _listed(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name} {count}" for name, count in counts.items())

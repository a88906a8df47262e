"""The loss of every candidate by recomputing only what its removal changes; exact, not an approximation.

With weights and bias 0 a feature's map is 0 before the ReLU, after it, and
after pooling.  So discarding f changes the next layer's pre-activation by what
f contributes to it, and by nothing else:

    z_next(without f) = z_next - T_f,    T_f = W_next[:, f] * a_f

a_f is f's map after ReLU and pooling; * is the next layer's own operation.
Everything up to a_f is run once, in Caffe.  A candidate then costs T_f, one
subtraction and the layers behind z_next, which run in numpy and BLAS
(:mod:`pycaffe_tools.oracle.kernels`), since Caffe's layout of the patches makes
pooling slow.

This holds where nothing but ReLU, max or average pooling, Dropout (the
identity when testing) and Flatten stands between the layer and the next one;
:func:`obstacle` names the layer where it does not.

z_next is kept as the float64 sum of the T_f that are left, so rounding errors
do not add up over the steps.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ..base.errors import UserError
from ..nets.layers import Geometry, Layer
from ..nets.netgraph import NetGraph
from .contribution import Terms
from .kernels import dense_weight, operations
from .oracle import Task, softmax_loss
from .plain import PlainOracle, runs_alone
from .route import Route, route

STAGES = 8
"""The patches are evaluated in so many parts; after each a candidate may be dropped."""

# A chunk's pre-activations and its intermediate results stay in the processor's cache at about this size.
_CHUNK_BYTES = 3 << 20


class _Chunk(NamedTuple):
    """Some patches: their labels, the layer's maps (features x height x width x patches) and z_next."""

    labels: np.ndarray
    maps: np.ndarray
    exact: np.ndarray
    rounded: np.ndarray
    alive: np.ndarray


class Incremental:
    """The incremental evaluation of some patches in one process.

    Parameters
    ----------
    task : net, weights, layer and patches.
    batch_size : patches in one pass through Caffe.
    max_memory : bytes that this process may take; what is left over holds T_f from step to step.

    Raises
    ------
    UserError : the layer's candidates cannot be evaluated incrementally, or the memory does not suffice.
    """

    def __init__(self, task: Task, batch_size: int = 128, max_memory: int = 1 << 30):
        way, problem = route(task.graph, task.layer)
        if way is None:
            raise UserError(f"layer {task.layer}: cannot be evaluated incrementally, {problem}")
        self._plan = _Plan(task.graph, way, len(task.labels))
        needed = self._plan.bytes_needed(batch_size)
        if needed > max_memory:
            raise UserError(f"--max-memory: ordering {task.layer} on these patches needs about {needed >> 20} MB in "
                            f"each process, {max(max_memory, 0) >> 20} MB are left for it; allow more or use fewer batches")
        self._terms = self._plan.terms(task)
        self._rest = operations(task.graph, task.weights, way.rest, way.following.num_output, self._plan.output)
        self.plain = PlainOracle(task, batch_size)
        self._batch_size = batch_size
        self._removed: Set[int] = set()
        # The patches of highest loss come first: a candidate that is worse than others is found out soon.
        order = np.argsort(-self.plain.patch_losses(), kind="stable")
        self._chunks = [self._chunk(task, order[part], batch_size) for part in self._plan.parts]
        self._scratch: Dict[int, np.ndarray] = {}
        self._base: List[Optional[float]] = [None] * len(self._chunks)
        self._cache = _Cache((max_memory - needed) // self._plan.term_bytes)
        self._add_up(way.following, task)

    def _chunk(self, task: Task, rows: np.ndarray, batch_size: int) -> _Chunk:
        """Run the net up to the next layer's input on some patches."""
        features, height, width = self._plan.features, *self._plan.size
        maps = np.empty((features, height, width, len(rows)), np.float32)
        for at in range(0, len(rows), batch_size):
            part = rows[at:at + batch_size]
            values = self.plain.maps(part, self._plan.way.following.inputs[0])
            maps[..., at:at + batch_size] = values.reshape(len(part), features, height, width).transpose(1, 2, 3, 0)
        shape = self._plan.output + (self._plan.outputs, len(rows))
        return _Chunk(np.asarray(task.labels, np.int64)[rows], maps, np.zeros(shape), np.empty(shape, np.float32),
                      maps.any(axis=(1, 2, 3)))

    def _add_up(self, following: Layer, task: Task) -> None:
        """z_next as the sum of the bias and all T_f."""
        bias = task.weights[following.name][1:]
        for number, chunk in enumerate(self._chunks):
            if bias:
                chunk.exact[...] = bias[0][:, None]
            for feature in range(self._plan.features):
                if chunk.alive[feature]:
                    chunk.exact[...] += self._term(number, feature)
            np.copyto(chunk.rounded, chunk.exact, casting="same_kind")

    # -- what the coordinator asks ---------------------------------------------------------------------------

    def sums(self, candidates: Sequence[int], stages: Sequence[int] = range(STAGES)) -> np.ndarray:
        """Sums of the losses with each candidate discarded over the patches of each stage: stages x candidates."""
        number = len(self._chunks)
        totals = np.zeros((len(stages), len(candidates)))
        for total, stage in zip(totals, stages):
            for chunk in range(number * stage // STAGES, number * (stage + 1) // STAGES):
                for place, candidate in enumerate(candidates):
                    total[place] += self._chunk_loss(chunk, candidate)
        return totals

    def exact_sums(self, candidates: Sequence[int]) -> np.ndarray:
        """The same by passes of the net.

        A feature whose weights and bias are 0 has maps of 0, so the pass
        begins at the next layer, on its stored input with these maps at 0.
        """
        if not runs_alone(self._plan.graph, self._plan.way.following):
            return self.plain.sums(candidates)
        return np.array([sum(self._passed(chunk, candidate) for chunk in self._chunks) for candidate in candidates])

    def _passed(self, chunk: _Chunk, candidate: int) -> float:
        following, total = self._plan.way.following, 0.0
        absent = sorted(self._removed | ({candidate} if candidate >= 0 else set()))
        for at in range(0, chunk.labels.size, self._batch_size):
            part = slice(at, at + self._batch_size)
            values = np.ascontiguousarray(chunk.maps[..., part].transpose(3, 0, 1, 2))
            values[:, absent] = 0
            if self._plan.flat:
                values = values.reshape(len(values), -1)
            total += float(self.plain.losses_from(following.name, following.bottoms[0], values,
                                                  chunk.labels[part]).sum())
        return total

    def remove(self, feature: int) -> None:
        """Discard a feature for good."""
        for number, chunk in enumerate(self._chunks):
            if chunk.alive[feature]:
                np.subtract(chunk.exact, self._term(number, feature), out=chunk.exact)
                np.copyto(chunk.rounded, chunk.exact, casting="same_kind")
                self._base[number] = None
        self._cache.forget(feature)
        self._removed.add(feature)
        self.plain.remove(feature)

    def keep(self, features: Sequence[int]) -> None:
        """Say which features' T_f are worth keeping, the most wanted first."""
        self._cache.want(features)

    def scale(self) -> float:
        """Size of the scores: the mean over the patches of the largest absolute score."""
        total = 0.0
        for _number, chunk in enumerate(self._chunks):
            np.copyto(self._work(chunk), chunk.rounded)
            scores = self._scores(self._work(chunk), chunk.labels.size)
            total += float(np.abs(scores).max(axis=0).sum())
        return total / sum(chunk.labels.size for chunk in self._chunks)

    def dead(self) -> List[int]:
        """The features whose maps are 0 on all patches."""
        return [feature for feature in range(self._plan.features)
                if not any(chunk.alive[feature] for chunk in self._chunks)]

    # -- one candidate on one chunk --------------------------------------------------------------------------

    def _chunk_loss(self, number: int, candidate: int) -> float:
        chunk = self._chunks[number]
        if candidate >= 0 and chunk.alive[candidate]:
            maps = self._work(chunk)
            np.subtract(chunk.rounded, self._term(number, candidate), out=maps)
            return self._evaluate(maps, chunk.labels)
        # A map that is 0 on all these patches takes nothing away.
        if self._base[number] is None:
            maps = self._work(chunk)
            np.copyto(maps, chunk.rounded)
            self._base[number] = self._evaluate(maps, chunk.labels)
        return self._base[number]

    def _evaluate(self, maps: np.ndarray, labels: np.ndarray) -> float:
        return float(softmax_loss(self._scores(maps, labels.size), labels).sum())

    def _scores(self, maps: np.ndarray, patches: int) -> np.ndarray:
        for operation in self._rest:
            maps = operation(maps)
        return maps.reshape(-1, patches)

    def _term(self, number: int, feature: int) -> np.ndarray:
        """T_f, from the cache or into it or, where it has no place there, into the working array."""
        chunk = self._chunks[number]
        place, known = self._cache.place(feature, number, chunk.rounded.shape)
        if not known:
            place = self._work(chunk) if place is None else place
            self._terms.compute(feature, chunk.maps[feature], place)
        return place

    def _work(self, chunk: _Chunk) -> np.ndarray:
        patches = chunk.labels.size
        if patches not in self._scratch:
            self._scratch[patches] = np.empty(chunk.rounded.shape, np.float32)
        return self._scratch[patches]


class _Plan:
    """Shapes and sizes of an incremental evaluation of ``count`` patches."""

    def __init__(self, graph: NetGraph, way: Route, count: int):
        self.graph, self.way, self.count = graph, way, count
        self.features, self.outputs = way.layer.num_output, way.following.num_output
        incoming = graph.output_shape((way.layer, *way.carriers)[-1])
        spatial = [graph.output_shape(layer) for layer in (way.layer, *way.carriers) if layer.type != "Flatten"][-1]
        self.size = tuple(spatial[2:]) if len(spatial) == 4 else (1, 1)
        self.flat = len(incoming) == 2
        self.output = (graph.output_shape(way.following)[2:] if way.following.type == "Convolution" else (1, 1))
        elements = self.output[0] * self.output[1] * self.outputs
        patches = min(max(_CHUNK_BYTES // (4 * elements), 32), 1024)
        pieces = -(-count // patches)
        self.parts = [slice(count * piece // pieces, count * (piece + 1) // pieces) for piece in range(pieces)]
        self.largest = max(part.stop - part.start for part in self.parts)
        self.term_bytes = 4 * elements * count

    def terms(self, task: Task) -> Terms:
        """The operation that makes T_f."""
        following = self.way.following
        weight = dense_weight(following, task.weights[following.name], self.features, self.size)
        geometry = following.geometry if following.type == "Convolution" else Geometry(self.size)
        return Terms(weight, geometry, self.size, self.output)

    def bytes_needed(self, batch_size: int) -> int:
        """Memory of the process, generously: the interpreter with Caffe, the net, and the arrays kept here."""
        graph, elements = self.graph, self.term_bytes // (4 * self.count)
        interpreter = 160 << 20
        net = graph.memory_bytes() // graph.input_shape(graph.layers[0])[0] * min(batch_size, self.count)
        bottom = 4 * _elements(graph.input_shape(self.way.layer)) * self.count
        data = 2 * 4 * _elements(graph.input_shape(graph.layers[0])) * self.count
        maps = 4 * self.features * self.size[0] * self.size[1] * self.count
        pre_activations = (8 + 4) * elements * self.count
        working = 6 * 4 * elements * self.largest
        weights = 6 * 4 * graph.parameter_count()
        return interpreter + net + bottom + data + maps + pre_activations + working + weights


def _elements(shape: Sequence[int]) -> int:
    return int(np.prod(shape[1:]))


class _Cache:
    """T_f of as many features as there is memory for."""

    def __init__(self, slots: int):
        self._free: List[Dict[int, np.ndarray]] = [{} for _ in range(max(slots, 0))]
        self._taken: Dict[int, Dict[int, np.ndarray]] = {}
        self._filled: Set[Tuple[int, int]] = set()

    def want(self, features: Sequence[int]) -> None:
        """Give free slots to features, the first ones first."""
        for feature in features:
            if not self._free:
                return
            if feature not in self._taken:
                self._taken[feature] = self._free.pop()

    def forget(self, feature: int) -> None:
        """Free a feature's slot; its arrays are used again."""
        if feature in self._taken:
            self._free.append(self._taken.pop(feature))

    def place(self, feature: int, chunk: int, shape: Tuple[int, ...]) -> Tuple[Optional[np.ndarray], bool]:
        """Where a feature's T_f of a chunk stands or is to be written (None: nowhere), and whether it is there."""
        slot = self._taken.get(feature)
        if slot is None:
            return None, False
        if chunk not in slot:
            slot[chunk] = np.empty(shape, np.float32)
        known = (feature, chunk) in self._filled
        self._filled.add((feature, chunk))
        return slot[chunk], known

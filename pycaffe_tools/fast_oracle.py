"""The loss of every candidate by recomputing only what its removal changes; exact, not an approximation.

With weights and bias 0 a feature's map is 0 before the ReLU, after it, and
after pooling.  So discarding f changes the next layer's pre-activation by what
f contributes to it, and by nothing else:

    z_next(without f) = z_next - T_f,    T_f = W_next[:, f] * a_f

a_f is f's map after ReLU and pooling; * is the next layer's own operation.
Everything up to a_f is run once, in Caffe.  A candidate then costs T_f, one
subtraction and the layers behind z_next, which run in numpy and BLAS
(:mod:`pycaffe_tools.fast_kernels`); what Caffe's layout makes slow there is
the reason not to run them in Caffe.

This holds where nothing but ReLU, max or average pooling, Dropout (the identity when
testing) and Flatten stands between the layer and the next one; :func:`obstacle`
names the layer where it does not, and the plain way is taken.

Two things keep the order that of the plain oracle.  z_next is the float64 sum of the T_f
that are left, so rounding does not grow with the number of steps.  And where candidates
are closer to the smallest loss than rounding can tell, they are decided by
passes of the net itself.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from .errors import UserError
from .fast_kernels import Terms, dense_weight, operations
from .netgraph import Geometry, Layer, NetGraph
from .oracle import Oracle, PlainOracle, Smallest, Task, scores_layer, softmax_loss

NEAR = 4 * float(np.finfo(np.float32).eps)
"""Candidates whose losses are relatively closer to the smallest than this, times the size of the scores, are decided
by passes of the net: rounding makes an error in the scores that is proportional to them, and a loss changes
relatively by at most as much as a score does absolutely.  Seen with trained nets: a quarter of that."""

STAGES = 8
"""A candidate may be dropped after each of so many parts of the patches."""

LEAD = 3
"""So many candidates, the best of the step before, are evaluated first; their losses are the bound for the others."""

# A chunk's pre-activations and its intermediate results stay in the processor's cache at about this size.
_CHUNK_BYTES = 3 << 20


class Route(NamedTuple):
    """The way from a layer to the scores: what carries its maps on, the next layer with weights, and what follows."""

    layer: Layer
    carriers: List[Layer]
    following: Layer
    rest: List[Layer]


def route(graph: NetGraph, name: str) -> Tuple[Optional[Route], str]:
    """The way from a layer to the output of the net, or why it cannot be taken incrementally.

    Returns
    -------
    The route and an empty string, or None and a sentence that names the layer in the way.
    """
    layer = graph.layer(name)
    behind: List[Layer] = []
    value = layer.outputs[0]
    while graph.readers(value):
        readers = graph.readers(value)
        if len(readers) > 1:
            return None, f"{len(readers)} layers ({', '.join(reader.name for reader in readers)}) read {value.blob!r}"
        found = readers[0]
        if len(found.inputs) != 1 or len(found.outputs) != 1:
            return None, f"layer {found.name} ({found.type}) has several inputs or outputs"
        problem = _unsupported(found)
        value = found.outputs[0]
        if problem or (found.type == "Softmax" and graph.readers(value)):
            return None, f"layer {found.name}: {problem or 'a Softmax is understood at the end only'}"
        behind.append(found)
    parametric = [at for at, found in enumerate(behind) if found.is_parametric]
    if not parametric:
        return None, f"layer {name} is the output layer"
    at = parametric[0]
    return Route(layer, behind[:at], behind[at], [found for found in behind[at + 1:] if found.type != "Softmax"]), ""


def obstacle(graph: NetGraph, name: str) -> Optional[str]:
    """Why a layer's candidates cannot be evaluated incrementally, naming the layer in the way; None if they can."""
    return route(graph, name)[1] or None


def _unsupported(layer: Layer) -> Optional[str]:
    if layer.type == "Pooling" and layer.pool == "STOCHASTIC":
        return "stochastic pooling is not evaluated incrementally"
    if layer.type == "InnerProduct":
        options = layer.proto.inner_product_param
        return "has an unusual axis or transposed weights" if options.axis != 1 or options.transpose else None
    if layer.type in ("Convolution", "ReLU", "Pooling", "Dropout", "Flatten", "Softmax"):
        return None
    return f"layers of type {layer.type} are not evaluated incrementally"


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
            raise UserError(f"--max-memory: ordering {task.layer} on these patches needs about {needed >> 20} MB in each "
                            f"process, {max_memory >> 20} MB are allowed; allow more or use fewer batches")
        self._terms = self._plan.terms(task)
        self._rest = operations(task.graph, task.weights, way.rest, way.following.num_output, self._plan.output)
        self.plain = PlainOracle(task, batch_size)
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
        """The same by passes of the net."""
        return self.plain.sums(candidates)

    def remove(self, feature: int) -> None:
        """Discard a feature for good."""
        for number, chunk in enumerate(self._chunks):
            if chunk.alive[feature]:
                np.subtract(chunk.exact, self._term(number, feature), out=chunk.exact)
                np.copyto(chunk.rounded, chunk.exact, casting="same_kind")
                self._base[number] = None
        self._cache.forget(feature)
        self.plain.remove(feature)

    def keep(self, features: Sequence[int]) -> None:
        """Say which features' T_f are worth keeping, the most wanted first."""
        self._cache.want(features)

    def scale(self) -> float:
        """Size of the scores: the mean over the patches of the largest absolute score."""
        total = 0.0
        for number, chunk in enumerate(self._chunks):
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
            self._filled = {entry for entry in self._filled if entry[0] != feature}

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


class Combined(Oracle):
    """Several parts that hold a share of the patches each, asked together.

    Parameters
    ----------
    parts : objects with ``ask(method, *arguments)`` and ``answer()``, such as :class:`LocalPart`.
    count : number of patches of all parts.
    features : number of features of the layer.
    """

    def __init__(self, parts: Sequence[Any], count: int, features: int):
        super().__init__(count, features)
        self.parts = list(parts)

    def everyone(self, method: str, *arguments: Any) -> List[Any]:
        """Ask all parts, then wait for all answers."""
        for part in self.parts:
            part.ask(method, *arguments)
        return [part.answer() for part in self.parts]

    def remove(self, feature: int) -> None:
        """Discard a feature for good."""
        super().remove(feature)
        self.everyone("remove", feature)

    def close(self) -> None:
        """End the parts' processes."""
        for part in self.parts:
            part.close()


class CombinedPlain(Combined):
    """The plain oracle on several parts."""

    def sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum of the losses with each candidate discarded as well, float64."""
        self.passes += len(candidates)
        self.evaluated += len(candidates)
        return np.sum(self.everyone("sums", list(candidates)), axis=0)


class FastOracle(Combined):
    """The incremental oracle.

    Parameters
    ----------
    parts, count, features : see :class:`Combined`; the parts hold :class:`Incremental`.
    dropping : stop evaluating a candidate once the losses of the patches it has seen add up to more than the
        second-best candidate's total.  Losses are not negative, so winner, runner-up and margin are the same.
    """

    def __init__(self, parts: Sequence[Any], count: int, features: int, dropping: bool = True):
        super().__init__(parts, count, features)
        self.dropping = dropping
        self._dead = set.intersection(*(set(dead) for dead in self.everyone("dead")))
        self._near = NEAR * max(1.0, *self.everyone("scale"), 0.0)
        self._last: Dict[int, float] = {}

    def sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum of the losses with each candidate discarded as well, float64."""
        # Stage by stage, as with dropping, so that a loss has the same bits either way.
        totals = np.zeros(len(candidates))
        for more in self._stage_sums(candidates, range(STAGES)):
            totals += more
        return totals

    def _stage_sums(self, candidates: Sequence[int], stages: Sequence[int]) -> np.ndarray:
        self.evaluated += len(candidates) * len(stages) / STAGES
        return np.sum(self.everyone("sums", list(candidates), list(stages)), axis=0)

    def exact_sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum of the losses by passes of the net, which count."""
        self.passes += len(candidates)
        return np.sum(self.everyone("exact_sums", list(candidates)), axis=0)

    def smallest(self) -> Smallest:
        """The feature whose removal gives the smallest loss."""
        features = sorted(self.features, key=lambda feature: self._last.get(feature, 0))
        # The worst of the last step will stay longest, so their T_f are worth keeping.
        self.everyone("keep", features[::-1])
        if self.dropping and self._last and len(features) > LEAD:
            totals = self._with_dropping(features)
        else:
            totals = self.sums(features)
        self._last = dict(zip(features, totals))
        losses = self._decided(features, totals) / self.count
        return Smallest.of(features, losses)

    def _with_dropping(self, features: List[int]) -> np.ndarray:
        """Totals of the candidates; a dropped one's is infinite for the choice but stays known as a rank."""
        leading, others = features[:LEAD], features[LEAD:]
        totals = dict(zip(features, np.full(len(features), np.inf)))
        totals.update(zip(leading, self.sums(leading)))
        # Whatever may still tie with the winner has to be evaluated to the end as well.
        smallest, second = sorted(totals.values())[:2]
        bound = max(second, smallest * (1 + 2 * self._near))
        partial = dict.fromkeys(others, 0.0)
        for stage in range(STAGES):
            for feature, more in zip(list(partial), self._stage_sums(list(partial), [stage])[0]):
                partial[feature] += more
                if partial[feature] > bound:
                    del partial[feature]
        totals.update(partial)
        return np.array([totals[feature] for feature in features])

    def _decided(self, features: List[int], totals: np.ndarray) -> np.ndarray:
        """The totals, those that are too close to the smallest replaced by what passes of the net give."""
        near = [place for place in np.flatnonzero(totals <= totals.min() * (1 + self._near))]
        # Dead features change nothing at all: their losses are one number.
        dead = [place for place in near if features[place] in self._dead]
        different = [place for place in near if place not in dead] + dead[:1]
        if len(different) < 2:
            return totals
        totals = totals.copy()
        totals[different] = self.exact_sums([features[place] for place in different])
        totals[dead] = totals[different[-1]]
        return totals


class LocalPart:
    """An engine in this process, asked like one in another."""

    def __init__(self, engine: Any):
        self.engine = engine
        self._answer: Any = None

    def ask(self, method: str, *arguments: Any) -> None:
        """Call a method of the engine."""
        self._answer = getattr(self.engine, method)(*arguments)

    def answer(self) -> Any:
        """What the method returned."""
        return self._answer

    def close(self) -> None:
        """Nothing to end."""


def make_engine(task: Task, plain: bool, batch_size: int, max_memory: int, from_start: bool = False) -> Any:
    """The engine of one part; ``from_start`` makes the plain one run the whole net for every candidate."""
    return PlainOracle(task, batch_size, from_start) if plain else Incremental(task, batch_size, max_memory)


def open_oracle(task: Task, *, plain: bool = False, workers: int = 2, max_memory: int = 2 << 30,
                batch_size: int = 128, quiet: bool = False, dropping: bool = True) -> Oracle:
    """The oracle for a task: the incremental one where it holds, otherwise the plain one, saying why.

    Parameters
    ----------
    task : what is asked about.
    plain : the plain one in any case.
    workers : processes with one thread and a share of the patches each; 0: this process.
    max_memory : bytes that all processes may take together.
    batch_size : patches in one pass through Caffe.
    quiet : do not say why the plain way is taken.
    dropping : see :class:`FastOracle`.
    """
    problem = None if plain else obstacle(task.graph, task.layer)
    if problem and not quiet:
        import click
        click.echo(f"layer {task.layer}: takes a forward pass for every candidate, since {problem}", err=True)
    plain = plain or problem is not None
    scores_layer(task.graph)
    count, features = len(task.labels), task.graph.layer(task.layer).num_output
    parts = _parts(task, plain, max(1, min(workers, count)) if workers else 0, max_memory, batch_size)
    return (CombinedPlain(parts, count, features) if plain else FastOracle(parts, count, features, dropping))


def _parts(task: Task, plain: bool, workers: int, max_memory: int, batch_size: int) -> List[Any]:
    if not workers:
        return [LocalPart(make_engine(task, plain, batch_size, max_memory))]
    from .oracle_workers import start_parts
    return start_parts(task, plain, workers, max_memory, batch_size)

"""The loss of every candidate by recomputing only what its removal changes; exact, not an approximation.

With weights and bias 0 a feature's map is 0 before the ReLU, after it, and
after pooling.  So discarding f changes the next layer's pre-activation by what
f contributes to it, and by nothing else:

    z_next(without f) = z_next - T_f,    T_f = W_next[:, f] * a_f

a_f is f's map after ReLU and pooling; * is the next layer's own operation.
Everything up to a_f is run once, in Caffe.  A candidate then costs T_f, one
subtraction and the layers behind z_next, which run in numpy and BLAS
(:mod:`pycaffe_tools.oracle.arithmetic.candidates`), since Caffe's layout of the patches makes
pooling slow.

This holds where nothing but ReLU, max or average pooling, Dropout (the
identity when testing) and Flatten stands between the layer and the next one;
:func:`obstacle` names the layer where it does not.

z_next is kept as the float64 sum of the T_f that are left, so rounding errors
do not add up over the steps.
"""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence, Set

import numpy as np

from ..base.errors import UserError
from .arithmetic.candidates import STAGES, Candidates, Chunk
from .arithmetic.kernels import operations, parameters
from .arithmetic.layout import ChunkLayout
from .oracle import PruningProblem
from .plain import PlainOracle, runs_alone
from .route import route


def read_chunk(plain: PlainOracle, layout: ChunkLayout, labels: np.ndarray, rows: np.ndarray, batch_size: int) -> Chunk:
    """Run the net up to the next layer's input on some patches; ``following`` is left to be filled in."""
    features, height, width = layout.features, *layout.size
    maps = np.empty((features, height, width, len(rows)), np.float32)
    for at in range(0, len(rows), batch_size):
        part = rows[at:at + batch_size]
        values = plain.maps(part, layout.way.following.inputs[0])
        maps[..., at:at + batch_size] = values.reshape(len(part), features, height, width).transpose(1, 2, 3, 0)
    return Chunk(np.asarray(labels, np.int64)[rows], maps, np.empty(layout.output + (layout.outputs, len(rows)), np.float32),
                 np.asarray(maps.any(axis=(1, 2, 3))))


def add_up(candidates: Candidates, number: int, bias: Optional[np.ndarray]) -> np.ndarray:
    """Make a chunk's z_next of the bias and all T_f; their sum is returned as float64, and written down rounded."""
    chunk = candidates.chunks[number]
    exact = np.zeros(chunk.following.shape)
    if bias is not None:
        exact[...] = bias[:, None]
    for feature in np.flatnonzero(chunk.active):
        exact += candidates.term(number, int(feature))
    np.copyto(chunk.following, exact, casting="same_kind")
    return exact


def take_away(candidates: Candidates, exact: Sequence[np.ndarray], feature: int) -> None:
    """Discard a feature for good from z_next of all chunks, where it stands in float64 and rounded."""
    for number, (chunk, sums) in enumerate(zip(candidates.chunks, exact)):
        if chunk.active[feature]:
            np.subtract(sums, candidates.term(number, feature), out=sums)
            np.copyto(chunk.following, sums, casting="same_kind")
            candidates.changed(number)
    candidates.cache.forget(feature)


def loss_by_passes(plain: PlainOracle, layout: ChunkLayout, chunks: Sequence[Chunk], batch_size: int,
                   present: Mapping[int, int]) -> float:
    """Sum of the losses by passes of the net from the next layer on, on its stored input.

    ``present`` holds the features that are there, each with its place among the chunks' maps; the others' maps are 0.
    """
    following, total = layout.way.following, 0.0
    numbers, places = list(present), list(present.values())
    for chunk in chunks:
        for at in range(0, chunk.labels.size, batch_size):
            part = slice(at, at + batch_size)
            maps = chunk.maps[..., part]
            values = np.zeros((maps.shape[3], layout.features, *maps.shape[1:3]), np.float32)
            values[:, numbers] = maps[places].transpose(3, 0, 1, 2)
            if layout.flat:
                values = values.reshape(len(values), -1)
            total += float(plain.losses_from(following.name, following.bottoms[0], values, chunk.labels[part]).sum())
    return total


class Incremental:
    """The incremental evaluation of some patches in one process.

    Parameters
    ----------
    problem : net, weights, layer and patches.
    batch_size : patches in one pass through Caffe.
    max_memory : bytes that this process may take; what is left over holds T_f from step to step.

    Raises
    ------
    UserError : the layer's candidates cannot be evaluated incrementally, or the memory does not suffice.
    """

    def __init__(self, problem: PruningProblem, batch_size: int = 128, max_memory: int = 1 << 30):
        way, obstruction = route(problem.graph, problem.layer)
        if way is None:
            raise UserError(f"layer {problem.layer}: cannot be evaluated incrementally, {obstruction}")
        self._layout = ChunkLayout(problem.graph, way, len(problem.labels))
        needed = self._layout.bytes_needed(batch_size)
        if needed > max_memory:
            raise UserError(f"--max-memory: ordering {problem.layer} on these patches needs about {needed >> 20} MB in "
                            f"each process, {max(max_memory, 0) >> 20} MB are left for it; allow more or use fewer batches")
        learnt = parameters(problem.graph, problem.weights, (way.following, *way.rest))
        rest = operations(problem.graph, learnt, way.rest, self._layout.outputs, self._layout.output)
        self.plain = PlainOracle(problem, batch_size)
        self._batch_size = batch_size
        self._removed: Set[int] = set()
        # The patches of highest loss come first: a candidate that is worse than others is found out soon.
        order = np.argsort(-self.plain.patch_losses(), kind="stable")
        chunks = [read_chunk(self.plain, self._layout, problem.labels, order[part], batch_size)
                  for part in self._layout.parts]
        self._candidates = Candidates(self._layout.terms(learnt[way.following.name]), rest, chunks,
                                      (max_memory - needed) // self._layout.term_bytes)
        self._exact = [add_up(self._candidates, number, learnt[way.following.name].bias) for number in range(len(chunks))]

    def sums(self, candidates: Sequence[int], stages: Sequence[int] = range(STAGES)) -> np.ndarray:
        """Sums of the losses with each candidate discarded over the patches of each stage: stages x candidates."""
        return self._candidates.sums(candidates, stages)

    def exact_sums(self, candidates: Sequence[int]) -> np.ndarray:
        """The same over all stages, one number a candidate, by passes of the net.

        A feature whose weights and bias are 0 has maps of 0, so the pass
        begins at the next layer, on its stored input with these maps at 0.
        """
        if not runs_alone(self._layout.graph, self._layout.way.following):
            return self.plain.sums(candidates)
        return np.array([loss_by_passes(self.plain, self._layout, self._candidates.chunks, self._batch_size,
                                        {feature: feature for feature in range(self._layout.features)
                                         if feature not in self._removed and feature != candidate})
                         for candidate in candidates])

    def remove(self, feature: int) -> None:
        """Discard a feature for good."""
        take_away(self._candidates, self._exact, feature)
        self._removed.add(feature)
        self.plain.remove(feature)

    def cache_terms(self, features: Sequence[int]) -> None:
        """Say which features' T_f are worth keeping in memory, the most wanted first."""
        self._candidates.cache.assign(features)

    def scale(self) -> float:
        """Size of the scores: the mean over the patches of the largest absolute score."""
        return self._candidates.score_size()

    def dead(self) -> List[int]:
        """The features whose maps are 0 on all patches."""
        return [feature for feature in range(self._layout.features)
                if not any(chunk.active[feature] for chunk in self._candidates.chunks)]

"""The incremental evaluation of the candidates of every layer, as features go from any of them.

:mod:`pycaffe_tools.oracle.incremental` evaluates one layer; here its method
holds for all layers of a chain at once.  With z(k) the pre-activation of layer
k and a(k) its maps as layer k + 1 reads them, a candidate f of layer k needs
z(k + 1), its own T_f = W(k + 1)[:, f] * a(k)[f], and the layers behind.  When a
feature of layer k goes,

- z(k + 1) changes, and with it all maps and pre-activations above; each of them
  is computed again, which costs as much as one candidate of the lowest layer;
- the layers below lose one output: their T_f lose one map and stay as they
  are otherwise.  So the lowest layer's T_f, nearly all of the work, are kept
  from step to step where there is memory for them;
- the lowest layer's maps never change.

z(2), behind the lowest layer, is kept as the float64 sum of the T_f that are
left, and what is above is always computed from it, so rounding errors do not
add up over the steps.  Removed features are not multiplied by 0 but left out of
all arrays behind the lowest layer, so steps become cheaper as the net shrinks.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..nets.layers import product
from ..nets.netgraph import NetGraph
from .arithmetic.candidates import STAGES, Candidates, Chunk
from .arithmetic.kernels import Operation, Parameters, maps_leaving, operations, parameters
from .arithmetic.layout import ChunkLayout
from .incremental import add_up, loss_by_passes, read_chunk, take_away
from .oracle import PruningProblem, prunable
from .plain import PlainOracle, runs_alone
from .route import Route, route


class Chain(NamedTuple):
    """The ways of all layers whose features can be discarded, from the lowest up: each one's next layer is the next's own."""

    ways: List[Route]

    @property
    def names(self) -> List[str]:
        """Names of the layers."""
        return [way.layer.name for way in self.ways]


def find_chain(graph: NetGraph) -> Chain:
    """All convolutions and inner products but the last, if the incremental evaluation can follow them.

    Raises
    ------
    UserError : names the layer at which it cannot.
    """
    ways: List[Route] = []
    for name in (layer.name for layer in prunable(graph)):
        way, obstruction = route(graph, name)
        if way is None:
            raise UserError(obstruction)
        if ways and ways[-1].following.name != name:
            raise UserError(f"layer {name}: does not follow layer {ways[-1].layer.name}")
        ways.append(way)
    if not runs_alone(graph, ways[0].following):
        raise UserError(f"layer {ways[0].following.name}: the net is not a chain from there on")
    return Chain(ways)


class NetIncremental:
    """The incremental evaluation of some patches in one process, with features of any layer discarded.

    Parameters
    ----------
    problem : net, weights and patches; its layer does not matter.
    batch_size : patches in one pass through Caffe.
    max_memory : bytes that this process may take; what is left over holds T_f of the lowest layer from step to step.

    Raises
    ------
    UserError : the candidates cannot be evaluated incrementally, or the memory does not suffice.
    """

    def __init__(self, problem: PruningProblem, batch_size: int = 128, max_memory: int = 1 << 30):
        self._graph, self._batch_size = problem.graph, batch_size
        self._chain = find_chain(problem.graph)
        self._lowest = self._chain.names[0]
        self._layout = ChunkLayout(problem.graph, self._chain.ways[0], len(problem.labels))
        needed = self._layout.bytes_needed(batch_size) + self._upper_bytes()
        if needed > max_memory:
            raise UserError(f"--max-memory: ordering all layers on these patches needs about {needed >> 20} MB in each "
                            f"process, {max(max_memory, 0) >> 20} MB are left for it; allow more or use fewer batches")
        self._spare_bytes = max_memory - needed
        behind = self._chain.ways[0]
        self._learnt = parameters(problem.graph, problem.weights, (behind.following, *behind.rest))
        self._alive: Dict[str, List[int]] = {way.layer.name: list(range(way.layer.num_output)) for way in self._chain.ways}
        self._plain = PlainOracle(problem._replace(layer=self._lowest), batch_size)
        # The patches of highest loss come first: a candidate that is worse than others is found out soon.
        order = np.argsort(-self._plain.patch_losses(), kind="stable")
        chunks = [read_chunk(self._plain, self._layout, problem.labels, order[part], batch_size)
                  for part in self._layout.parts]
        self._levels: Dict[str, Candidates] = {}
        self._open_lowest(chunks)
        bias = self._learnt[behind.following.name].bias
        self._exact = [add_up(self._levels[self._lowest], number, bias) for number in range(len(chunks))]
        self._is_current = False

    def _upper_bytes(self) -> int:
        """Memory of the maps and pre-activations behind the second layer."""
        elements = sum(layer.num_output * product(maps_leaving(self._graph, layer))
                       for way in self._chain.ways[1:] for layer in (way.layer, way.following))
        return 2 * 4 * elements * self._layout.count

    # -- what the coordinator submits ------------------------------------------------------------------------

    def sums(self, layer: str, candidates: Sequence[int], stages: Sequence[int] = range(STAGES)) -> np.ndarray:
        """Sums of the losses with each candidate of a layer discarded over the patches of each stage: stages x candidates."""
        return self._level(layer).sums([self._position(layer, candidate) for candidate in candidates], stages)

    def exact_sums(self, layer: str, candidates: Sequence[int]) -> np.ndarray:
        """The same over all stages, one number a candidate, by passes of the net from the next layer on.

        The maps that the next layer reads are the same for all candidates of a layer, and so are their rounding errors.
        """
        chunks = self._level(layer).chunks
        layout = ChunkLayout(self._graph, self._way(layer), self._layout.count)
        return np.array([loss_by_passes(self._plain, layout, chunks, self._batch_size, {
            feature: self._position(layer, feature) for feature in self._alive[layer] if feature != candidate})
            for candidate in candidates])

    def remove(self, layer: str, feature: int) -> None:
        """Discard a feature for good."""
        if layer == self._lowest:
            take_away(self._levels[layer], self._exact, feature)
            self._alive[layer].remove(feature)
        else:
            position = self._position(layer, feature)
            self._plain.net.set_feature(layer, feature, (0, 0))
            self._alive[layer].remove(feature)
            if layer == self._chain.ways[0].following.name:
                self._narrow_lowest(position)
        self._is_current = False

    def cache_terms(self, layer: str, features: Sequence[int]) -> None:
        """Say which features' T_f are worth keeping in memory, the most wanted first."""
        if layer == self._lowest:
            self._levels[layer].cache.assign(features)

    def scale(self, layer: str) -> float:
        """Size of the scores: the mean over the patches of the largest absolute score."""
        return self._level(layer).score_size()

    def dead(self, layer: str) -> List[int]:
        """The layer's features whose maps are 0 on all patches."""
        chunks = self._level(layer).chunks
        return [feature for feature in self._alive[layer]
                if not any(chunk.active[self._position(layer, feature)] for chunk in chunks)]

    # -- the layers ------------------------------------------------------------------------------------------

    def _position(self, layer: str, feature: int) -> int:
        """Where a feature stands in its layer's arrays: in the lowest layer all have their places for good."""
        return feature if layer == self._lowest or feature < 0 else self._alive[layer].index(feature)

    def _way(self, layer: str) -> Route:
        return self._chain.ways[self._chain.names.index(layer)]

    def _part(self, way: Route, channels: Optional[Sequence[int]] = None) -> Parameters:
        """The next layer's parameters for the features that are left of both layers."""
        learnt, following = self._learnt[way.following.name], way.following
        outputs = self._alive.get(following.name, range(following.num_output))
        return learnt.part(outputs, self._alive[way.layer.name] if channels is None else channels)

    def _rest(self, at: int, learnt: Dict[str, Parameters]) -> List[Operation]:
        way = self._chain.ways[at]
        return operations(self._graph, learnt, way.rest, len(learnt[way.following.name].weight),
                          maps_leaving(self._graph, way.following))

    def _open_lowest(self, chunks: Sequence[Chunk]) -> None:
        way = self._chain.ways[0]
        part = self._part(way, range(way.layer.num_output))
        term_bytes = self._layout.term_bytes * len(part.weight) // self._layout.outputs
        self._levels[self._lowest] = Candidates(self._layout.terms(part), [], chunks, self._spare_bytes // max(term_bytes, 1))

    def _narrow_lowest(self, position: int) -> None:
        """Take one of the second layer's maps out of the arrays behind the lowest layer."""
        self._exact = [np.delete(sums, position, axis=2) for sums in self._exact]
        old = self._levels[self._lowest].chunks
        self._open_lowest([chunk._replace(following=sums.astype(np.float32)) for chunk, sums in zip(old, self._exact)])

    def _level(self, layer: str) -> Candidates:
        if not self._is_current:
            self._recompute()
            self._is_current = True
        return self._levels[layer]

    def _recompute(self) -> None:
        """Everything that depends on the lowest layer's z_next, with the features that are left."""
        ways = self._chain.ways
        learnt = {way.following.name: self._part(way) for way in ways}
        below = self._levels[self._lowest]
        below.replace_rest(self._rest(0, learnt))
        for at, way in enumerate(ways[1:], start=1):
            size = maps_leaving(self._graph, way.layer)
            carry = operations(self._graph, {}, way.carriers, len(self._alive[way.layer.name]), size)
            layout = ChunkLayout(self._graph, way, self._layout.count)
            follow = operations(self._graph, learnt, [way.following], len(self._alive[way.layer.name]), layout.size)
            chunks = [_next_chunk(chunk, carry, follow) for chunk in below.chunks]
            below = Candidates(layout.terms(learnt[way.following.name]), self._rest(at, learnt), chunks)
            self._levels[way.layer.name] = below


def _next_chunk(below: Chunk, carry: Sequence[Operation], follow: Sequence[Operation]) -> Chunk:
    """A chunk one layer further up."""
    maps = below.following.copy()
    for operation in carry:
        maps = operation(maps)
    maps = maps.copy()
    following = maps
    for operation in follow:
        following = operation(following)
    # The operations' arrays are written again with the next chunk.
    maps = maps.transpose(2, 0, 1, 3)
    return Chunk(below.labels, maps, following.copy(), np.asarray(maps.any(axis=(1, 2, 3))))

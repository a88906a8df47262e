"""The losses of one layer's candidates on chunks of patches: subtract what a candidate contributes, run what follows."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ..oracle import softmax_loss
from .contribution import Terms
from .kernels import Operation

STAGES = 8
"""The patches are evaluated in so many parts; after each a candidate may be dropped."""


class Chunk(NamedTuple):
    """As many patches as fit into the processor's cache, and what the layer and the next one make of them.

    Attributes
    ----------
    labels : class numbers, int64, one a patch.
    maps : the layer's maps as the next layer reads them (a_f), float32, features x height x width x patches.
    following : the next layer's pre-activation (z_next), float32, height x width x outputs x patches.
    active : for each feature whether its map differs from 0 on any of these patches, bool.
    """

    labels: np.ndarray
    maps: np.ndarray
    following: np.ndarray
    active: np.ndarray


class TermCache:
    """T_f of as many features as there is memory for."""

    def __init__(self, slots: int):
        self._free: List[Dict[int, np.ndarray]] = [{} for _ in range(max(slots, 0))]
        self._taken: Dict[int, Dict[int, np.ndarray]] = {}
        self._filled: Set[Tuple[int, int]] = set()

    def assign(self, features: Sequence[int]) -> None:
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
            self._filled = {known for known in self._filled if known[0] != feature}

    def term(self, feature: int, chunk: int, compute: Callable[[np.ndarray], None], spare: np.ndarray) -> np.ndarray:
        """T_f of a chunk: what is stored, or else computed, into the feature's slot if it has one and into ``spare`` if not.

        Parameters
        ----------
        feature, chunk : which.
        compute : writes T_f into the array that it is given.
        spare : an array of T_f's shape.
        """
        slot = self._taken.get(feature)
        if slot is None:
            compute(spare)
            return spare
        if (feature, chunk) not in self._filled:
            compute(slot.setdefault(chunk, np.empty_like(spare)))
            self._filled.add((feature, chunk))
        return slot[chunk]


class Candidates:
    """The candidates of one layer on some patches.

    Parameters
    ----------
    terms : makes a feature's T_f.
    rest : the layers behind the next layer's pre-activation, up to the scores.
    chunks : the patches.
    slots : number of features whose T_f may be kept from step to step.
    """

    def __init__(self, terms: Terms, rest: Sequence[Operation], chunks: Sequence[Chunk], slots: int = 0):
        self.chunks = list(chunks)
        self.cache = TermCache(slots)
        self._terms, self._rest = terms, list(rest)
        self._unchanged: List[Optional[float]] = [None] * len(self.chunks)
        self._scratch: Dict[int, np.ndarray] = {}

    def sums(self, candidates: Sequence[int], stages: Sequence[int] = range(STAGES)) -> np.ndarray:
        """Sums of the losses with each candidate discarded over the patches of each stage, float64, stages x candidates.

        Candidate -1 discards nothing more.
        """
        number = len(self.chunks)
        totals = np.zeros((len(stages), len(candidates)))
        for total, stage in zip(totals, stages):
            for chunk in range(number * stage // STAGES, number * (stage + 1) // STAGES):
                for at, candidate in enumerate(candidates):
                    total[at] += self._loss(chunk, candidate)
        return totals

    def term(self, number: int, feature: int) -> np.ndarray:
        """T_f of a chunk, float32, height x width x outputs x patches; the next call may overwrite it."""
        chunk = self.chunks[number]
        return self.cache.term(feature, number, lambda out: self._terms.compute(feature, chunk.maps[feature], out),
                               self._work(chunk))

    def replace_rest(self, rest: Sequence[Operation]) -> None:
        """Take other layers behind the next layer's pre-activation from now on."""
        self._rest = list(rest)
        self._unchanged = [None] * len(self.chunks)

    def changed(self, number: int) -> None:
        """Say that a chunk's ``following`` is another one now."""
        self._unchanged[number] = None

    def score_size(self) -> float:
        """The mean over the patches of the largest absolute score."""
        total = 0.0
        for chunk in self.chunks:
            np.copyto(self._work(chunk), chunk.following)
            total += float(np.abs(self._scores(self._work(chunk), chunk.labels.size)).max(axis=0).sum())
        return total / sum(chunk.labels.size for chunk in self.chunks)

    def _loss(self, number: int, candidate: int) -> float:
        chunk = self.chunks[number]
        if candidate >= 0 and chunk.active[candidate]:
            maps = self._work(chunk)
            np.subtract(chunk.following, self.term(number, candidate), out=maps)
            return self._sum_of_losses(maps, chunk.labels)
        # A map that is 0 on all these patches takes nothing away.
        known = self._unchanged[number]
        if known is None:
            maps = self._work(chunk)
            np.copyto(maps, chunk.following)
            known = self._unchanged[number] = self._sum_of_losses(maps, chunk.labels)
        return known

    def _sum_of_losses(self, maps: np.ndarray, labels: np.ndarray) -> float:
        return float(softmax_loss(self._scores(maps, labels.size), labels).sum())

    def _scores(self, maps: np.ndarray, patches: int) -> np.ndarray:
        for operation in self._rest:
            maps = operation(maps)
        return maps.reshape(-1, patches)

    def _work(self, chunk: Chunk) -> np.ndarray:
        patches = chunk.labels.size
        if patches not in self._scratch:
            self._scratch[patches] = np.empty(chunk.following.shape, np.float32)
        return self._scratch[patches]

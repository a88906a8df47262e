"""The fast oracle: incremental evaluation on several processes, with the plain oracle's answers.

Each process holds a share of the patches (:mod:`pycaffe_tools.oracle.incremental`);
the sums of their losses are added up here.  Where candidates are closer to the
smallest loss than rounding can tell, they are decided by passes of the net
itself, so that the order is that of the plain oracle.  Where a layer does not
allow the incremental way, the plain one is taken.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Set

import click
import numpy as np

from .arithmetic.candidates import STAGES
from .oracle import Oracle, PruningProblem, Smallest, scores_layer
from .parts import Part, open_parts
from .route import obstacle

NEAR = 4 * float(np.finfo(np.float32).eps)
"""Candidates whose losses are relatively closer to the smallest than this, times the size of the scores, are decided
by passes of the net: rounding makes an error in the scores that is proportional to them, and a loss changes
relatively by at most as much as a score does absolutely.  Seen with trained nets: a quarter of that."""

LEAD = 3
"""So many candidates, the best of the step before, are evaluated first; their losses are the bound for the others."""


class DistributedOracle(Oracle):
    """An oracle whose patches are divided among several parts, which work at the same time.

    Parameters
    ----------
    parts : the engines.
    count : number of patches of all parts.
    features : number of features of the layer.
    """

    def __init__(self, parts: Sequence[Part], count: int, features: int):
        super().__init__(count, features)
        self.parts = list(parts)

    def broadcast(self, method: str, *arguments: Any) -> List[Any]:
        """Submit a request to all parts, then wait for all results."""
        for part in self.parts:
            part.submit(method, *arguments)
        return [part.result() for part in self.parts]

    def total(self, method: str, *arguments: Any) -> np.ndarray:
        """Submit a request to all parts; the sum of their results."""
        return np.asarray(np.sum(self.broadcast(method, *arguments), axis=0))

    def remove(self, feature: int) -> None:
        """Discard a feature for good."""
        super().remove(feature)
        self.broadcast("remove", feature)

    def close(self) -> None:
        """End the parts' processes."""
        for part in self.parts:
            part.close()


class DistributedPlainOracle(DistributedOracle):
    """The plain oracle, its patches divided among several parts."""

    def sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum of the losses with each candidate discarded as well, float64."""
        self.forward_passes += len(candidates)
        self.evaluated += len(candidates)
        return self.total("sums", list(candidates))


class FastOracle(DistributedOracle):
    """The incremental oracle.

    Parameters
    ----------
    parts, count, features : see :class:`DistributedOracle`; the parts hold :class:`Incremental`.
    dropping : stop evaluating a candidate once the losses of the patches it has seen add up to more than the
        second-best candidate's total.  Losses are not negative, so winner, runner-up and margin are the same.
    """

    def __init__(self, parts: Sequence[Part], count: int, features: int, dropping: bool = True):
        super().__init__(parts, count, features)
        self.dropping = dropping
        self.dead = self.find_dead()
        self.near = self.find_near()
        self._last: Dict[int, float] = {}

    def find_dead(self) -> Set[int]:
        """The features whose maps are 0 on all patches; others, when features of a layer below are removed."""
        return set.intersection(*(set(dead) for dead in self.broadcast("dead")))

    def find_near(self) -> float:
        """The relative difference of two losses below which passes of the net decide; it depends on the scores."""
        return NEAR * max(1.0, *(float(scale) for scale in self.broadcast("scale")), 0.0)

    def sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum of the losses with each candidate discarded as well, float64."""
        # Stage by stage, as with dropping, so that a loss has the same bits either way.
        totals = np.zeros(len(candidates))
        for more in self._stage_sums(candidates, range(STAGES)):
            totals += more
        return totals

    def _stage_sums(self, candidates: Sequence[int], stages: Sequence[int]) -> np.ndarray:
        self.evaluated += len(candidates) * len(stages) / STAGES
        return self.total("sums", list(candidates), list(stages))

    def exact_sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum of the losses by passes of the net, which count."""
        self.forward_passes += len(candidates)
        return self.total("exact_sums", list(candidates))

    def smallest(self) -> Smallest:
        """The feature whose removal gives the smallest loss."""
        features = sorted(self.features, key=lambda feature: self._last.get(feature, 0))
        # The worst of the last step will stay longest, so their T_f are worth their memory.
        self.broadcast("cache_terms", features[::-1])
        if self.dropping and self._last and len(features) > LEAD:
            totals = self._with_dropping(features)
        else:
            totals = self.sums(features)
        self._last = dict(zip(features, totals))
        losses = self._decided(features, totals) / self.count
        return Smallest.of(features, losses.tolist())

    def smallest_below(self, limit: float) -> Optional[Smallest]:
        """Like :meth:`smallest`, but None where even the smallest loss is above ``limit``, and often without a runner-up.

        The fewer candidates are below the limit, the less work is done: what is above it is dropped.
        """
        features = sorted(self.features, key=lambda feature: self._last.get(feature, 0))
        self.broadcast("cache_terms", features[::-1])
        totals: Dict[int, float] = {}
        bound = limit * self.count
        for group in (features[:LEAD], features[LEAD:]):
            totals.update(self._below(group, bound))
            if totals:
                bound = min(bound, min(totals.values()) * (1 + 2 * self.near))
        self._last.update(totals)
        if not totals:
            return None
        found = list(totals)
        losses = self._decided(found, np.array(list(totals.values()))) / self.count
        return Smallest.of(found, losses.tolist())

    def _below(self, features: Sequence[int], bound: float) -> Dict[int, float]:
        """Totals of the candidates that are not above a bound."""
        partial = dict.fromkeys(features, 0.0)
        for stage in range(STAGES):
            if partial:
                for feature, more in zip(list(partial), self._stage_sums(list(partial), [stage])[0]):
                    partial[feature] += more
                    if self.dropping and partial[feature] > bound:
                        del partial[feature]
        return partial

    def _with_dropping(self, features: List[int]) -> np.ndarray:
        """Totals of the candidates; a dropped one's is infinite for the choice but stays known as a rank."""
        leading, others = features[:LEAD], features[LEAD:]
        totals = dict(zip(features, np.full(len(features), np.inf)))
        totals.update(zip(leading, self.sums(leading)))
        # Whatever may still tie with the winner has to be evaluated to the end as well.
        smallest, second = sorted(totals.values())[:2]
        bound = max(second, smallest * (1 + 2 * self.near))
        totals.update(self._below(others, bound))
        return np.array([totals[feature] for feature in features])

    def _decided(self, features: List[int], totals: np.ndarray) -> np.ndarray:
        """The totals, in which those too close to the smallest are replaced by what passes of the net give."""
        near = list(np.flatnonzero(totals <= totals.min() * (1 + self.near)))
        # Dead features change nothing at all: their losses are one number.
        dead = [at for at in near if features[at] in self.dead]
        different = [at for at in near if at not in dead] + dead[:1]
        if len(different) < 2:
            return totals
        totals = totals.copy()
        totals[different] = self.exact_sums([features[at] for at in different])
        totals[dead] = totals[different[-1]]
        return totals


def open_oracle(problem: PruningProblem, *, plain: bool = False, workers: int = 2, max_memory: int = 2 << 30,
                batch_size: int = 128, quiet: bool = False, dropping: bool = True) -> Oracle:
    """The oracle for a problem: the incremental one where it holds, otherwise the plain one, saying why.

    Parameters
    ----------
    problem : what is asked about.
    plain : the plain one in any case.
    workers : processes with one thread and a share of the patches each; 0: this process.
    max_memory : bytes that all processes may take together.
    batch_size : patches in one pass through Caffe.
    quiet : do not say why the plain way is taken.
    dropping : see :class:`FastOracle`.
    """
    reason = None if plain else obstacle(problem.graph, problem.layer)
    if reason and not quiet:
        click.echo(f"layer {problem.layer}: takes a forward pass for every candidate, since {reason}", err=True)
    plain = plain or reason is not None
    scores_layer(problem.graph)
    count, features = len(problem.labels), problem.graph.layer(problem.layer).num_output
    parts = open_parts(problem, "plain" if plain else "incremental", workers, max_memory, batch_size)
    return (DistributedPlainOracle(parts, count, features) if plain else FastOracle(parts, count, features, dropping))

"""The loss of a net with one more feature of *any* layer discarded: an oracle for each layer, on the same parts.

>>> oracle = open_net_oracle(problem)                                    # doctest: +SKIP
>>> oracle.layers["c2"].smallest().feature, oracle.layers["fc4"].smallest().feature  # doctest: +SKIP
>>> oracle.remove("c2", 17)                                              # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any, Dict, Sequence, Type

import click

from ..base.errors import UserError
from .fast import DistributedOracle, DistributedPlainOracle, FastOracle
from .net_incremental import find_chain
from .oracle import PruningProblem, prunable, scores_layer
from .parts import Part, open_parts


class LayerPart:
    """A part that holds the candidates of every layer, as one that holds those of one layer; see :class:`Part`."""

    def __init__(self, part: Part, layer: str):
        self._part, self._layer = part, layer

    def submit(self, method: str, *arguments: Any) -> None:
        """Start a method of the engine for this layer."""
        self._part.submit(method, self._layer, *arguments)

    def result(self) -> Any:
        """Wait for what the method returns."""
        return self._part.result()

    def close(self) -> None:
        """Nothing: the part is not this layer's own."""


class NetOracle:
    """Losses of a net with features of any layer discarded.

    Attributes
    ----------
    layers : for each layer the oracle of its candidates, given all that was removed so far, from the lowest layer up.
    count : number of patches.
    """

    def __init__(self, parts: Sequence[Part], layers: Dict[str, DistributedOracle], count: int):
        self.layers, self.count = layers, count
        self._parts = list(parts)
        self._order = list(layers)

    @property
    def forward_passes(self) -> int:
        """Passes made in Caffe so far, each over all patches."""
        return sum(oracle.forward_passes for oracle in self.layers.values())

    @property
    def evaluated(self) -> float:
        """Evaluations of candidates so far; one on a part of the patches counts as that part."""
        return sum(oracle.evaluated for oracle in self.layers.values())

    @property
    def near(self) -> float:
        """Losses that differ relatively by less cannot be told apart but by passes of the net; 0 if all are such."""
        return max(oracle.near if isinstance(oracle, FastOracle) else 0.0 for oracle in self.layers.values())

    def loss(self) -> float:
        """Mean loss with what was removed so far."""
        return self.layers[self._order[-1]].loss()

    def exact_loss(self, layer: str, candidate: int = -1) -> float:
        """Mean loss with a feature of a layer discarded as well, by passes of the net; -1 discards nothing more."""
        return float(self.layers[layer].exact_sums([candidate])[0]) / self.count

    def is_dead(self, layer: str, feature: int) -> bool:
        """Whether a feature is known to have maps of 0 on all patches, so that its removal changes no bit of the loss."""
        oracle = self.layers[layer]
        return isinstance(oracle, FastOracle) and feature in oracle.dead

    def remove(self, layer: str, feature: int) -> None:
        """Discard a feature for good."""
        self.layers[layer].remove(feature)

    def refresh(self) -> None:
        """Find out again what changed in the layers since features were removed elsewhere; call it before each step."""
        top = self.layers[self._order[-1]]
        # All layers have the same scores, and the highest has them soonest.
        near = top.find_near() if isinstance(top, FastOracle) else 0.0
        for oracle in self.layers.values():
            if isinstance(oracle, FastOracle):
                oracle.dead, oracle.near = oracle.find_dead(), near

    def close(self) -> None:
        """End the parts' processes."""
        for part in self._parts:
            part.close()


def open_net_oracle(problem: PruningProblem, *, plain: bool = False, workers: int = 2, max_memory: int = 2 << 30,
                    batch_size: int = 128, quiet: bool = False) -> NetOracle:
    """The oracle for all layers: the incremental one where it holds, otherwise the plain one, saying why.

    Parameters
    ----------
    problem : net, weights and patches; its layer does not matter.
    plain : the plain one in any case.
    workers : processes with one thread and a share of the patches each; 0: this process.
    max_memory : bytes that all processes may take together.
    batch_size : patches in one pass through Caffe.
    quiet : do not say why the plain way is taken.
    """
    scores_layer(problem.graph)
    if not plain:
        try:
            find_chain(problem.graph)
        except UserError as reason:
            plain = True
            if not quiet:
                click.echo(f"all layers: take a forward pass for every candidate, since {reason}", err=True)
    parts = open_parts(problem, "net plain" if plain else "net incremental", workers, max_memory, batch_size)
    count = len(problem.labels)
    kind: Type[DistributedOracle] = DistributedPlainOracle if plain else FastOracle
    layers = {layer.name: kind([LayerPart(part, layer.name) for part in parts], count, layer.num_output)
              for layer in prunable(problem.graph)}
    return NetOracle(parts, layers, count)

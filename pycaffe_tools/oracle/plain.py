"""The plain oracle: the whole net runs once for each candidate."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..nets.layers import Layer, Value
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import CaffeNet
from .oracle import Oracle, PruningProblem, prunable, scores_layer, softmax_loss


def runs_alone(graph: NetGraph, layer: Layer) -> bool:
    """Whether the layers from ``layer`` on need nothing from before it but its own input, which nothing else reads."""
    needed = {value for later in graph.layers[layer.index:] for value in later.inputs if value.layer < layer.index}
    return needed == {layer.inputs[0]} and len(graph.readers(layer.inputs[0])) == 1


def refuse_transposed(layer: Layer) -> None:
    """Raise :class:`UserError` if the layer's features are the columns of its weights, not the rows."""
    if layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose:
        raise UserError(f"layer {layer.name}: has transposed weights, whose features cannot be discarded here; "
                        f"write its prototxt and weights without transpose")


@contextmanager
def discarded(net: CaffeNet, layer: str, feature: int) -> Iterator[None]:
    """While this lasts, the weights and the bias of a feature are 0; -1 discards nothing."""
    if feature < 0:
        yield
        return
    saved = net.feature(layer, feature)
    net.set_feature(layer, feature, (0, 0))
    try:
        yield
    finally:
        net.set_feature(layer, feature, saved)


class PlainOracle(Oracle):
    """The loss by running the net in Caffe with the weights and the bias of the feature set to 0.

    Parameters
    ----------
    problem : net, weights, layer and patches.
    batch_size : patches in one forward pass.
    from_start : run the whole net for every candidate, from its input on.
        By default only the layers from ``problem.layer`` on are run, on stored
        copies of that layer's input, which is the same computation (in a net
        with branches around the layer the whole net is run all the same).
    """

    def __init__(self, problem: PruningProblem, batch_size: int = 128, from_start: bool = False):
        layer = problem.graph.layer(problem.layer)
        refuse_transposed(layer)
        super().__init__(len(problem.labels), layer.num_output)
        self.labels = np.asarray(problem.labels, dtype=np.int64)
        self.batches = [slice(at, min(at + batch_size, self.count)) for at in range(0, self.count, batch_size)]
        self.net = CaffeNet(problem.graph, problem.weights, min(batch_size, self.count))
        scores = scores_layer(problem.graph)
        self._scores, self._scores_layer = scores.tops[0], scores.name
        self._layer = layer.name
        if from_start or not runs_alone(problem.graph, layer):
            self._bottom, self._start = self.net.input, None
            self._stored = [np.ascontiguousarray(problem.data[batch], np.float32) for batch in self.batches]
        else:
            self._bottom, self._start = layer.bottoms[0], layer.name
            self._stored = [self.net.run(problem.data[batch], layer.inputs[0]).copy() for batch in self.batches]

    def sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Sum over the patches of the loss with each candidate discarded; -1 discards nothing more."""
        return np.array([self.patch_losses(candidate).sum() for candidate in candidates])

    def patch_losses(self, candidate: int = -1) -> np.ndarray:
        """Loss of each patch with the candidate discarded as well, float64; -1 discards nothing more."""
        with discarded(self.net, self._layer, candidate):
            losses = [self.losses_from(self._start, self._bottom, bottom, self.labels[batch])
                      for batch, bottom in zip(self.batches, self._stored)]
        self.forward_passes += 1
        self.evaluated += 1
        return np.concatenate(losses)

    def losses_from(self, start: Optional[str], bottom: str, values: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Loss of each patch, float64, by running the layers from ``start`` on, on these values of its ``bottom``."""
        self.net.put(bottom, values)
        scores = self.net.forward(start, self._scores_layer, self._scores)
        return softmax_loss(scores.reshape(len(values), -1).T, labels)

    def maps(self, rows: np.ndarray, value: Value) -> np.ndarray:
        """What the layer's features become further on, where ``value`` is made, for some patches; a view."""
        batch = self.batches[0].stop
        bottoms = np.stack([self._stored[row // batch][row % batch] for row in rows])
        self.net.put(self._bottom, bottoms)
        return self.net.forward(self._start, self.net.graph.layers[value.layer].name, value.blob)

    def remove(self, feature: int) -> None:
        """Set the feature's weights and bias to 0 for good."""
        super().remove(feature)
        self.net.set_feature(self._layer, feature, (0, 0))


class NetPlain:
    """The plain evaluation of any layer's candidates on some patches: every time the whole net runs.

    Parameters
    ----------
    problem : net, weights and patches; its layer does not matter.
    batch_size : patches in one forward pass.
    """

    def __init__(self, problem: PruningProblem, batch_size: int = 128):
        layers = prunable(problem.graph)
        for layer in layers:
            refuse_transposed(layer)
        self._oracle = PlainOracle(problem._replace(layer=layers[0].name), batch_size, from_start=True)

    def sums(self, layer: str, candidates: Sequence[int]) -> np.ndarray:
        """Sum over the patches of the loss with each candidate of a layer discarded; -1 discards nothing more."""
        return np.array([self._sum(layer, candidate) for candidate in candidates])

    exact_sums = sums

    def _sum(self, layer: str, candidate: int) -> float:
        with discarded(self._oracle.net, layer, candidate):
            return float(self._oracle.patch_losses().sum())

    def remove(self, layer: str, feature: int) -> None:
        """Set a feature's weights and bias to 0 for good."""
        self._oracle.net.set_feature(layer, feature, (0, 0))

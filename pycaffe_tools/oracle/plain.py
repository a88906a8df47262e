"""The plain oracle: the whole net runs once for each candidate."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..nets.layers import Layer, Value
from ..nets.netgraph import NetGraph
from ..nets.runtime import CaffeNet
from .oracle import Oracle, PruningProblem, scores_layer, softmax_loss


def runs_alone(graph: NetGraph, layer: Layer) -> bool:
    """Whether the layers from ``layer`` on need nothing from before it but its own input, which nothing else reads."""
    needed = {value for later in graph.layers[layer.index:] for value in later.inputs if value.layer < layer.index}
    return needed == {layer.inputs[0]} and len(graph.readers(layer.inputs[0])) == 1


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
        if layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose:
            raise UserError(f"layer {layer.name}: has transposed weights, whose features cannot be discarded here; "
                            f"write its prototxt and weights without transpose")
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
        if candidate >= 0:
            saved = self.net.feature(self._layer, candidate)
            self.net.set_feature(self._layer, candidate, (0, 0))
        losses = []
        for batch, bottom in zip(self.batches, self._stored):
            losses.append(self.losses_from(self._start, self._bottom, bottom, self.labels[batch]))
        if candidate >= 0:
            self.net.set_feature(self._layer, candidate, saved)
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

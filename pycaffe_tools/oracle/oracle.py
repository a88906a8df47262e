"""The training loss of a net with features of one layer discarded, in real Caffe.

Equations 2 and 3 of Roels et al. (ISBI 2017) ask one question again and again:
what is the loss if feature f of a layer is discarded as well?  An *oracle*
answers it.  There are two, with one interface (:class:`Oracle`) and the same
answers: :class:`~pycaffe_tools.oracle.plain.PlainOracle` sets the weights and
the bias of f to 0 and runs the net;
:class:`~pycaffe_tools.oracle.fast.FastOracle` recomputes only what changes.
:class:`~pycaffe_tools.oracle.net_oracle.NetOracle` has an oracle for each layer of a net.

The loss is the mean softmax loss over the given patches, without the weight
penalty of equation 1 (the paper does not say whether the penalty takes part
in the ordering).
"""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..nets.layers import Layer
from ..nets.netgraph import NetGraph

TIE = 1e-7
"""Relative difference below which two losses count as equal; the lowest feature number is taken then."""

# Caffe's SoftmaxWithLoss takes -log(max(probability, FLT_MIN)), so no patch costs more than this.
LARGEST_LOSS = float(-np.log(np.finfo(np.float32).tiny))


class PruningProblem(NamedTuple):
    """A layer whose features are to be pruned, with its net and the patches that the loss is averaged over.

    Attributes
    ----------
    graph : the net, a deploy net with one input and one output (class scores or their Softmax).
    weights : float32 blobs by layer name, what is discarded below already set to 0.
    layer : name of the layer whose features are discarded.
    data : patches, float32, n x channels x height x width, normalised.
    labels : class numbers, n integers.
    """

    graph: NetGraph
    weights: Mapping[str, Sequence[np.ndarray]]
    layer: str
    data: np.ndarray
    labels: np.ndarray


def softmax_loss(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Softmax loss of each patch, as Caffe's SoftmaxWithLoss defines it, in float64.

    Parameters
    ----------
    scores : what enters the Softmax, classes x n.
    labels : class numbers, n integers.
    """
    scores = scores.astype(np.float64)
    largest = scores.max(axis=0)
    chosen = scores[labels, np.arange(labels.size)]
    scores -= largest
    np.exp(scores, out=scores)
    loss = np.log(scores.sum(axis=0))
    loss += largest - chosen
    return np.asarray(np.minimum(loss, LARGEST_LOSS))


def first_of_ties(features: Sequence[int], losses: Sequence[float]) -> int:
    """The feature of smallest loss; the lowest number among those within ``TIE`` of the minimum."""
    bound = min(losses) * (1 + TIE)
    return min(feature for feature, loss in zip(features, losses) if loss <= bound)


def scores_layer(graph: NetGraph) -> Layer:
    """The layer whose top holds the class scores: the one before the final Softmax, or the last one.

    Raises
    ------
    UserError : the net has several outputs.
    """
    if len(graph.outputs) != 1:
        raise UserError(f"net {graph.name}: has {len(graph.outputs)} outputs where the loss needs one; "
                        f"use a deploy prototxt")
    last = graph.layers[graph.outputs[0].layer]
    return graph.layers[last.inputs[0].layer] if last.type == "Softmax" else last


def prunable(graph: NetGraph) -> List[Layer]:
    """The layers whose features can be discarded, from the lowest up: convolutions and inner products, all but the last.

    Raises
    ------
    UserError : there is none.
    """
    layers = [layer for layer in graph.layers if layer.is_parametric][:-1]
    if not layers:
        raise UserError(f"net {graph.name}: has no layer whose features could be discarded")
    return layers


def without_features(weights: Mapping[str, Sequence[np.ndarray]],
                     removed: Mapping[str, Sequence[int]]) -> Dict[str, List[np.ndarray]]:
    """Copies of the weights in which the removed features of each layer have weights and bias 0.

    Raises
    ------
    UserError : an unknown layer, or a feature number that the layer does not have.
    """
    result = {name: [np.array(blob, np.float32) for blob in blobs] for name, blobs in weights.items()}
    for name, features in removed.items():
        if name not in result:
            raise UserError(f"layer {name}: features are to be removed from it, but the weights hold no such layer")
        count = result[name][0].shape[0]
        wrong = [feature for feature in features if not 0 <= feature < count]
        if wrong:
            raise UserError(f"layer {name}: has features 0 to {count - 1}, so {wrong} cannot be removed")
        for blob in result[name]:
            blob[list(features)] = 0
    return result


class Oracle:
    """Losses of a net with features of one layer discarded.

    Attributes
    ----------
    count : number of patches.
    features : numbers of the features not yet removed, ascending.
    forward_passes : passes made in Caffe so far, each over all patches.
    evaluated : evaluations of a candidate so far; one on a part of the patches counts as that part.
    """

    def __init__(self, count: int, features: int):
        self.count = count
        self.features = list(range(features))
        self.forward_passes = 0
        self.evaluated = 0.0

    def losses(self, candidates: Sequence[int]) -> np.ndarray:
        """Mean loss with each candidate discarded in addition to what was removed, float64, one number a candidate."""
        return self.sums(candidates) / self.count

    def loss(self) -> float:
        """Mean loss with what was removed so far."""
        return float(self.sums([-1])[0]) / self.count

    def sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Like :meth:`losses`, but the sum over the patches; candidate -1 discards nothing more."""
        raise NotImplementedError

    def exact_sums(self, candidates: Sequence[int]) -> np.ndarray:
        """Like :meth:`sums`, by passes of the net itself through Caffe."""
        return self.sums(candidates)

    def remove(self, feature: int) -> None:
        """Discard a feature for good."""
        self.features.remove(feature)

    def smallest(self) -> Smallest:
        """The feature whose removal gives the smallest loss (equation 3)."""
        return Smallest.of(self.features, self.losses(self.features).tolist())

    def smallest_below(self, limit: float) -> Optional[Smallest]:
        """Like :meth:`smallest`; None is allowed where the loss would be above ``limit``, and so is no runner-up."""
        return self.smallest()

    def close(self) -> None:
        """Give back processes and memory."""


class Smallest(NamedTuple):
    """The outcome of one step: the feature chosen, its loss, the best of the others, and how much more that one costs.

    Where two tie, the one of lower number is chosen, so the margin may be below 0 by the width of a tie.
    """

    feature: int
    loss: float
    runner_up: Optional[int]
    margin: Optional[float]

    @classmethod
    def of(cls, features: Sequence[int], losses: Sequence[float]) -> Smallest:
        """Choose among features with these losses."""
        known = {feature: float(loss) for feature, loss in zip(features, losses)}
        chosen = first_of_ties(list(known), list(known.values()))
        loss = known.pop(chosen)
        if not known:
            return cls(chosen, loss, None, None)
        runner_up = first_of_ties(list(known), list(known.values()))
        return cls(chosen, loss, runner_up, known[runner_up] - loss)

"""Scores of a layer's features that need no loss of the net without them: the baselines of Table 2 and a control.

The feature of *lowest* score is discarded first, whichever the criterion.
The paper compares with "the method proposed in [16]", which it describes as
"weight sparsity" and whose reference is not in its text as we have it: APoZ
and L1 are both fair readings of that.

=========  ============================================  ==========================================
criterion  score                                         source
=========  ============================================  ==========================================
apoz       minus the average fraction of zeros after     Hu et al. 2016, arXiv:1607.03250
           the ReLU: most zeros discarded first
l1         sum of absolute weights: smallest first       Li et al. 2017, arXiv:1608.08710
taylor     absolute first-order change of the loss:      Molchanov et al. 2017, arXiv:1611.06440
           smallest first
random     a random order with a seed: the control
=========  ============================================  ==========================================
"""

from __future__ import annotations

import zlib
from typing import Callable, Dict, Iterator

import numpy as np

from ..base.errors import UserError
from ..nets.layers import Layer
from ..nets.running.runtime import CaffeNet
from ..oracle.oracle import PruningProblem, scores_layer

BATCH = 128


def scores(problem: PruningProblem, criterion: str, seed: int = 0) -> np.ndarray:
    """Score of each feature of ``problem.layer``, float64; the lowest is discarded first.

    Parameters
    ----------
    problem : net, weights, layer and patches.
    criterion : ``apoz``, ``l1``, ``taylor`` or ``random``.
    seed : of the random order.
    """
    if criterion == "random":
        return random_order(problem.graph.layer(problem.layer).num_output, problem.layer, seed)
    table: Dict[str, Callable[[PruningProblem], np.ndarray]] = {
        "apoz": lambda known: -fraction_of_zeros(known), "l1": absolute_weights, "taylor": first_order_change}
    return table[criterion](problem)


def fraction_of_zeros(problem: PruningProblem) -> np.ndarray:
    """Average percentage of zeros (APoZ, as a fraction) of each feature's map after the ReLU.

    Hu et al., "Network Trimming", 2016 (arXiv:1607.03250), equation 1: the
    number of zeros among all patches and positions, over the number of both.
    A feature of *high* APoZ is redundant.

    Raises
    ------
    UserError : no ReLU follows the layer.
    """
    rectifier = _rectifier(problem)
    net = CaffeNet(problem.graph, problem.weights, min(BATCH, len(problem.data)))
    zeros = np.zeros(problem.graph.layer(problem.layer).num_output)
    total = 0
    for part in _batches(problem):
        maps = net.run(problem.data[part], rectifier.outputs[0])
        maps = maps.reshape(maps.shape[0], maps.shape[1], -1)
        zeros += np.count_nonzero(maps == 0, axis=(0, 2))
        total += maps.shape[0] * maps.shape[2]
    return np.asarray(zeros / total)


def absolute_weights(problem: PruningProblem) -> np.ndarray:
    """Sum of the absolute weights of each feature's filter, without its bias (L1 norm).

    Li et al., "Pruning Filters for Efficient ConvNets", 2017 (arXiv:1608.08710), section 3.1: the
    filters of *smallest* sum are pruned.
    """
    weight = np.asarray(problem.weights[problem.layer][0], np.float64)
    return np.asarray(np.abs(weight).reshape(weight.shape[0], -1).sum(axis=1))


def first_order_change(problem: PruningProblem) -> np.ndarray:
    """First-order Taylor expansion of the change of the loss when each feature's map becomes 0.

    Molchanov et al., "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", 2017 (arXiv:1611.06440), equations 7 and 8: for each patch the absolute value of
    the mean, over the map's positions, of activation times gradient of the loss; then the mean over
    the patches.  The *smallest* is pruned.  (The normalisation between layers in their section 2.2 does not
    change an order within one layer.)
    """
    layer, last = problem.graph.layer(problem.layer), scores_layer(problem.graph)
    net = CaffeNet(problem.graph, problem.weights, min(BATCH, len(problem.data)), force_backward=True)
    total = np.zeros(layer.num_output)
    for part in _batches(problem):
        values = net.run(problem.data[part], last.outputs[0])
        shape, values = values.shape, values.reshape(values.shape[0], -1).astype(np.float64)
        # The gradient of the softmax loss by its input is probability less one for the right class.
        gradient = np.exp(values - values.max(axis=1, keepdims=True))
        gradient /= gradient.sum(axis=1, keepdims=True)
        gradient[np.arange(len(values)), problem.labels[part]] -= 1
        activation, slope = net.backward(last, gradient.reshape(shape), layer)
        # Behind a ReLU in place the activation is the one after it and the gradient the one before it; the product
        # is the same on either side, since both are 0 where the ReLU cuts off.
        product = activation.astype(np.float64) * slope
        total += np.abs(product.reshape(product.shape[0], product.shape[1], -1).mean(axis=2)).sum(axis=0)
    return total / len(problem.data)


def random_order(count: int, layer: str, seed: int) -> np.ndarray:
    """A random rank for each of ``count`` features; each layer has its own order under one seed."""
    return np.random.RandomState((seed + zlib.crc32(layer.encode())) % 2 ** 32).permutation(count).astype(np.float64)


def _rectifier(problem: PruningProblem) -> Layer:
    layer = problem.graph.layer(problem.layer)
    for reader in problem.graph.consumers(layer):
        if reader.type == "ReLU":
            return reader
    raise UserError(f"layer {layer.name}: no ReLU follows it directly, so its zeros cannot be counted; "
                    f"choose another criterion than apoz")


def _batches(problem: PruningProblem) -> Iterator[slice]:
    for at in range(0, len(problem.data), BATCH):
        yield slice(at, min(at + BATCH, len(problem.data)))

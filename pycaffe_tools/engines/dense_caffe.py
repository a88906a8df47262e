"""The exact dense net in stock Caffe."""

from __future__ import annotations

import numpy as np

from ..base.ranges import Pair
from ..dense_plan.caffe_printer import OUTPUT, dense_net, dense_weights
from ..dense_plan.kernels import kernels
from ..dense_plan.plan import make_plan
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import PYCAFFE_BYTES, Weights, check_weights, load_net
from .engine import Engine

TILE_SIDES = (192, 160, 128, 112, 96, 80, 64, 48, 32, 16)


class CaffeEngine(Engine):
    """One net for tiles of one size; smaller ones are filled up."""

    name = "caffe"

    def __init__(self, graph: NetGraph, weights: Weights, tile: Pair):
        super().__init__(graph, tile)
        check_weights(graph, weights)
        plan = make_plan(graph)
        self._net = load_net(dense_net(plan, rounded_tile(plan.first_stride, tile)),
                             dense_weights(plan, kernels(graph, weights)))

    def predict(self, grey: np.ndarray) -> np.ndarray:
        data = self._net.blobs["data"].data
        data[...] = 0
        data[0, 0, :grey.shape[0], :grey.shape[1]] = grey
        self._net.forward()
        before, after = self.halo
        rows, columns = (length - before - after for length in grey.shape)
        return np.array(self._net.blobs[OUTPUT].data[0, 0, :rows, :columns])


def rounded_tile(stride: Pair, tile: Pair) -> Pair:
    """The smallest tile that holds ``tile`` and is a multiple of the first pooling's strides."""
    return -(-tile[0] // stride[0]) * stride[0], -(-tile[1] // stride[1]) * stride[1]


def create(graph: NetGraph, weights: Weights, tile: Pair, threads: int) -> CaffeEngine:
    """See :func:`pycaffe_tools.engines.create`."""
    return CaffeEngine(graph, weights, tile)


def predicted_bytes(graph: NetGraph, tile: Pair, threads: int) -> int:
    """See :func:`pycaffe_tools.engines.predicted_bytes`.

    Caffe keeps every blob, an index for each element of a maximum, and one
    im2col buffer for each convolution.
    """
    plan = make_plan(graph)
    net = NetGraph(dense_net(plan, rounded_tile(plan.first_stride, tile)))
    elements = 0
    for layer in net.layers:
        if layer.bottoms == layer.tops or layer.type == "Reshape":
            continue
        size = int(np.prod(net.output_shape(layer)))
        is_maximum = (layer.type == "Pooling" and layer.pool == "MAX") or (
            layer.type == "Eltwise" and layer.proto.eltwise_param.operation == 2)
        elements += size * (2 if is_maximum else 1)
        if layer.type == "Convolution" and layer.geometry.kernel != (1, 1):
            shape = net.output_shape(layer)
            elements += net.input_shape(layer)[1] * int(np.prod(layer.geometry.kernel)) * shape[2] * shape[3]
    return PYCAFFE_BYTES + int(1.06 * 4 * elements) + 16 * graph.parameter_count()

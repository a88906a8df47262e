"""Every patch by itself in Caffe: the paper's way of segmenting, and the reference for the dense engines."""

from __future__ import annotations

import numpy as np

from ..base.ranges import Pair
from ..nets.classifier import lacks_softmax
from ..nets.netgraph import NetGraph
from ..nets.paper import MEMBRANE
from ..nets.running.runtime import PYCAFFE_BYTES, Weights, load_net
from .engine import Engine, patch_size

BATCH = 256
"""Patches in one forward pass; more gains nothing on a processor."""

TILE_SIDES = (512, 256, 128, 64, 32, 16)


class PatchEngine(Engine):
    """Cuts a tile into patches and runs each through the net."""

    name = "patch"

    def __init__(self, graph: NetGraph, weights: Weights, tile: Pair):
        super().__init__(graph, tile)
        self._side = patch_size(graph)
        self._output = graph.chain()[-1].tops[0]
        self._add_softmax = lacks_softmax(graph)
        self._net = load_net(graph.with_batch(BATCH), weights)

    def predict(self, grey: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(grey, (self._side, self._side))
        height, width = windows.shape[:2]
        source = self._net.blobs[self._net.inputs[0]]
        result = np.empty(height * width, np.float32)
        for start in range(0, result.size, BATCH):
            rows, columns = np.unravel_index(np.arange(start, min(start + BATCH, result.size)), (height, width))
            source.data[:len(rows), 0] = windows[rows, columns]
            self._net.forward()
            classes = self._net.blobs[self._output].data[:len(rows)].reshape(len(rows), -1)
            if self._add_softmax:
                from scipy.special import softmax  # most nets do not need it
                classes = softmax(classes, axis=1)
            result[start:start + len(rows)] = classes[:, MEMBRANE]
        return result.reshape(height, width)


def create(graph: NetGraph, weights: Weights, tile: Pair, threads: int) -> PatchEngine:
    """See :func:`pycaffe_tools.engines.create`."""
    return PatchEngine(graph, weights, tile)


def predicted_bytes(graph: NetGraph, tile: Pair, threads: int) -> int:
    """See :func:`pycaffe_tools.engines.predicted_bytes`: the net's blobs and pooling masks for one batch."""
    one = graph.memory_bytes() // graph.input_shape(graph.chain()[0])[0]
    grown = (tile[0] + 2 * patch_size(graph)) * (tile[1] + 2 * patch_size(graph)) * 4 * 2
    return PYCAFFE_BYTES + int(1.15 * BATCH * one) + 8 * graph.parameter_count() + grown

"""Weights of a dense plan's convolutions: the patch net's kernels, ungrouped and cut into parts."""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np

from ..nets.kernels import ungrouped
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights


def kernels(graph: NetGraph, weights: Weights) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Every parametric layer as a convolution.

    Returns
    -------
    For each layer name the kernel, float32 O x I x kh x kw, and the bias,
    float32 O (zeros where the layer has none).  An inner product becomes a
    kernel as large as its input; a grouped convolution one with zeros between
    the groups.
    """
    result = {}
    rows, columns = graph.input_shape(graph.chain()[0])[2:]
    channels = graph.input_shape(graph.chain()[0])[1]
    for layer in graph.chain():
        if layer.is_parametric:
            blobs = weights[layer.name]
            if layer.type == "Convolution":
                kernel = ungrouped(blobs[0], layer.geometry.group)
            else:
                kernel = np.asarray(blobs[0], np.float32).reshape(layer.num_output, channels, rows, columns)
            bias = (np.asarray(blobs[1], np.float32) if layer.bias_term
                    else np.zeros(layer.num_output, np.float32))
            result[layer.name] = kernel, bias
        shape = graph.output_shape(layer)
        channels, (rows, columns) = shape[1], (tuple(shape[2:]) + (1, 1))[:2]
    return result

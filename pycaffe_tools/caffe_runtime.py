"""Nets in this process: what pycaffe would answer with an abort is checked first.

A failed check inside Caffe ends the Python process without a word to the
user.  So a prototxt is read and its shapes compared with the weights before
Caffe sees either.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from .base.errors import UserError
from .caffe_schema import to_text
from .netgraph import NetGraph

Weights = Mapping[str, Sequence[np.ndarray]]

PYCAFFE_BYTES = 140_000_000
"""Resident memory of a process with numpy and pycaffe loaded, before any net; 135 MB measured."""


def import_caffe() -> Any:
    """The ``caffe`` module, without its INFO lines (unless GLOG_minloglevel says otherwise).

    Raises
    ------
    UserError : Caffe is not installed in this Python.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        import caffe
    except ImportError as error:
        raise UserError(f"Caffe: cannot be imported here ({error}); run `make env` and use .caffe/bin/python") from None
    return caffe


def check_weights(net: NetGraph, weights: Weights, where: str = "the weights") -> None:
    """Compare the weights of all convolutions and inner products with the shapes that a net asks for.

    Raises
    ------
    UserError : names the layer, both shapes and ``where`` the weights came from.
    """
    for layer in net.layers:
        wanted = net.parameter_shapes(layer)
        if not wanted:
            continue
        have = [tuple(array.shape) for array in weights.get(layer.name, ())]
        if not have:
            raise UserError(f"{where}: hold nothing for layer {layer.name} of net {net.name}; "
                            f"they belong to another network")
        if have != wanted:
            raise UserError(f"{where}: layer {layer.name} has blobs {have}, but net {net.name} asks for {wanted}; "
                            f"they belong to another network")


def load_net(proto: Any, weights: Optional[Weights] = None) -> Any:
    """A ``caffe.Net`` in phase TEST, made from a NetParameter and given weights.

    Parameters
    ----------
    proto : NetParameter whose inputs state their shapes; see :meth:`NetGraph.cut` for parts of nets.
    weights : blobs by layer name; layers that the net has not are passed over.

    Raises
    ------
    UserError : the net does not fit together, or the weights do not fit the net.
    """
    graph = NetGraph(proto)
    for value in graph.outputs:
        graph.shape(value)
    if weights is not None:
        check_weights(graph, weights)
    caffe = import_caffe()
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(to_text(proto))
        net = caffe.Net(path, caffe.TEST)
    finally:
        Path(path).unlink()
    if weights is not None:
        set_weights(net, weights)
    return net


def set_weights(net: Any, weights: Weights) -> None:
    """Copy blobs into a ``caffe.Net`` by layer name."""
    for name, blobs in net.params.items():
        if name not in weights:
            continue
        for blob, array in zip(blobs, weights[name]):
            blob.data[...] = array


def forward_patches(net: Any, data: np.ndarray, output: str = "prob") -> np.ndarray:
    """Run patches through a net in batches of its own size.

    Parameters
    ----------
    net : ``caffe.Net`` with one input, as from :func:`load_net`.
    data : float32, n x channels x rows x columns; n need not be a multiple of the net's batch.
    output : blob to collect.

    Returns
    -------
    float32, n x the blob's other axes.
    """
    source = net.blobs[net.inputs[0]]
    batch = source.shape[0]
    collected: List[np.ndarray] = []
    for start in range(0, len(data), batch):
        piece = data[start:start + batch]
        source.data[:len(piece)] = piece
        net.forward()
        collected.append(net.blobs[output].data[:len(piece)].copy())
    return np.concatenate(collected)


def random_weights(net: NetGraph, seed: int = 0, scale: float = 1.0) -> Dict[str, List[np.ndarray]]:
    """Random weights of a net: normal, of the variance that keeps the signal's size (He et al. 2015), small biases."""
    generator = np.random.default_rng(seed)
    result = {}
    for layer in net.layers:
        shapes = net.parameter_shapes(layer)
        if shapes:
            fan_in = int(np.prod(shapes[0][1:]))
            arrays = [generator.standard_normal(shapes[0]) * scale * (2 / fan_in) ** 0.5]
            arrays += [0.1 * generator.standard_normal(shape) for shape in shapes[1:]]
            result[layer.name] = [array.astype(np.float32) for array in arrays]
    return result

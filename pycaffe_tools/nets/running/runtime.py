"""Nets in this process: what pycaffe would answer with an abort is checked first.

A failed check inside Caffe ends the Python process without a word to the
user.  So a prototxt is read and its shapes compared with the weights before
Caffe sees either.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.host.blas import kernel_environment
from ..files.schema import schema, to_text
from ..layers import Layer, Value
from ..netgraph import NetGraph

Weights = Mapping[str, Sequence[np.ndarray]]
"""Blobs of a net by layer name."""

PYCAFFE_BYTES = 140_000_000
"""Resident memory of a process with numpy and pycaffe loaded, before any net; 135 MB measured."""


def import_caffe() -> Any:
    """The ``caffe`` module, without its INFO lines (unless GLOG_minloglevel says otherwise).

    Raises
    ------
    UserError : Caffe is not installed in this Python.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    if "caffe" not in sys.modules:
        os.environ.update(kernel_environment())     # its BLAS looks when it is loaded
    try:
        import caffe
    except ImportError as error:
        raise UserError(f"Caffe: cannot be imported here ({error}); run `make env` and use .caffe/bin/python") from None
    return caffe


def check_weights(net: NetGraph, weights: Weights, where: str = "the weights") -> None:
    """Compare the weights of all convolutions and inner products with the shapes that a net asks for.

    Raises
    ------
    UserError : names the layer, both shapes and ``where`` the weights came from; or the layer that holds values that
        are no numbers; or two layers that share a parameter but come with different values of it.
    """
    for layer in net.layers:
        for number, array in enumerate(weights.get(layer.name, ())):
            if not np.isfinite(array).all():
                raise UserError(f"{where}: blob {number} of layer {layer.name} holds values that are no numbers (NaN or "
                                f"infinite); train it again, or take an earlier snapshot")
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
    for (first, number), (second, other) in net.shared_parameters():
        if not np.array_equal(weights[first][number], weights[second][other]):
            raise UserError(f"{where}: layers {first} and {second} share a parameter in net {net.name}, but hold "
                            f"different values of it; write the caffemodel with Caffe, or give them parameters of their own")


def load_net(proto: Any, weights: Optional[Weights] = None) -> Any:
    """A ``caffe.Net`` in phase TEST, made from a NetParameter and given weights.

    Parameters
    ----------
    proto : NetParameter whose inputs state their shapes; see :meth:`NetGraph.cut` for parts of nets.
    weights : blobs by layer name; layers that the net has not are ignored.

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
    proto = _for_any_processor(proto)
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


def _for_any_processor(proto: Any) -> Any:
    """The net without ``engine: CUDNN``, which says how to compute, not what, and ends a Caffe that has no cuDNN."""
    result = schema().NetParameter()
    result.CopyFrom(proto)
    for layer in result.layer:
        for field, options in layer.ListFields():
            if field.message_type and not field.label == field.LABEL_REPEATED and "engine" in options.DESCRIPTOR.fields_by_name:
                options.ClearField("engine")
    return result


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


class CaffeNet:
    """A ``caffe.Net`` made from a graph and weights in memory, run in parts.

    Parameters
    ----------
    graph : the net, without data layers.
    weights : blobs by layer name.
    batch : length of the batch axis.
    force_backward : prepare for :meth:`backward`.

    Raises
    ------
    UserError : the weights do not fit the net, or Caffe is not installed.
    """

    def __init__(self, graph: NetGraph, weights: Mapping[str, Sequence[np.ndarray]], batch: int,
                 force_backward: bool = False):
        self.graph = graph
        self.input = next(value.blob for value in graph.inputs if graph.readers(value))
        proto = graph.with_batch(batch)
        proto.force_backward = force_backward
        self.net = load_net(proto, weights)
        self._index = {name: index for index, name in enumerate(self.net._layer_names)}

    def put(self, blob: str, values: np.ndarray) -> None:
        """Write a blob, adopting the values' shape (the layers behind it adopt theirs when they run)."""
        target = self.net.blobs[blob]
        if target.data.shape != values.shape:
            target.reshape(*values.shape)
        target.data[...] = values

    def forward(self, first: Optional[str], last: str, blob: str) -> np.ndarray:
        """Run the layers ``first`` (None: from the input on) to ``last``; a view of a blob afterwards."""
        # Net.forward(end=...) of pycaffe 1.0 takes the layer's name for a blob's, so its inner function is called.
        self.net._forward(0 if first is None else self._index[first], self._index[last])
        values: np.ndarray = self.net.blobs[blob].data
        return values

    def run(self, data: np.ndarray, value: Value) -> np.ndarray:
        """Run the net on patches up to the layer that makes ``value``; a view of that value."""
        self.put(self.input, data)
        producer = self.graph.producer(value)
        if producer is None:
            given: np.ndarray = self.net.blobs[value.blob].data
            return given
        return self.forward(None, producer.name, value.blob)

    def backward(self, last: Layer, gradient: np.ndarray, layer: Layer) -> Tuple[np.ndarray, np.ndarray]:
        """After a forward pass, go back from ``last`` with the gradient by its top to the layer after ``layer``.

        Returns
        -------
        Views of that layer's top and of the gradient by it.
        """
        self.net.blobs[last.tops[0]].diff[...] = gradient
        nearest = self.graph.consumers(layer)[0]
        self.net._backward(self._index[last.name], self._index[nearest.name])
        return self.net.blobs[layer.tops[0]].data, self.net.blobs[layer.tops[0]].diff

    def feature(self, layer: str, number: int) -> List[np.ndarray]:
        """Copies of the weights and the bias of one feature."""
        return [blob.data[number].copy() for blob in self.net.params[layer]]

    def set_feature(self, layer: str, number: int, values: Sequence[Any]) -> None:
        """Write the weights and the bias of one feature."""
        for blob, value in zip(self.net.params[layer], values):
            blob.data[number] = value

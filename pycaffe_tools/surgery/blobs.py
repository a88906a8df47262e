"""Blobs of a net whose channels are removed: zeroed in the original shapes, or cut out.

One function a form, one case a layer type; :mod:`pycaffe_tools.surgery.channels` says
which channels, :mod:`pycaffe_tools.surgery` puts the nets together.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..nets.layers import Layer
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights, check_weights
from .channels import Channels
from .rules import affine_axis

Blobs = List[np.ndarray]

_NORMALISING_TYPES = frozenset(("BatchNorm", "Scale", "Bias", "PReLU"))


def masked_weights(channels: Channels, weights: Weights) -> Dict[str, Blobs]:
    """Blobs of the original shapes, with zeros for whatever makes a removed channel."""
    return {layer.name: _masked_blobs(channels, layer, blobs) if channels.touches(layer) else blobs
            for layer, blobs in _copies(channels.net, weights)}


def slim_weights(channels: Channels, weights: Weights) -> Dict[str, Blobs]:
    """Blobs without removed channels, neither as outputs nor as inputs."""
    return {layer.name: _slim_blobs(channels, layer, blobs) if channels.touches(layer) else blobs
            for layer, blobs in _copies(channels.net, weights)}


def check_all_weights(net: NetGraph, weights: Weights, where: str = "the weights") -> None:
    """:func:`pycaffe_tools.nets.running.runtime.check_weights`, and the blobs of BatchNorm, Scale, Bias and PReLU as well.

    Raises
    ------
    UserError : names the layer, both shapes and ``where`` the weights came from.
    """
    check_weights(net, weights, where)
    for layer in net.layers:
        if layer.type not in _NORMALISING_TYPES or len(layer.inputs) > 1:
            continue
        wanted = _normalising_shapes(layer, net.input_shape(layer))
        have = [tuple(np.shape(blob)) for blob in weights.get(layer.name, ())]
        # Old files write a single number with one axis, newer ones with none.
        if [shape or (1,) for shape in have] != [shape or (1,) for shape in wanted]:
            raise UserError(f"{where}: layer {layer.name} has blobs {have or 'missing'}, but net {net.name} asks for "
                            f"{wanted}; they belong to another network")


def _normalising_shapes(layer: Layer, shape: Sequence[int]) -> List[Sequence[int]]:
    if layer.type == "BatchNorm":
        return [(shape[1],), (shape[1],), (1,)]
    if layer.type == "PReLU":
        return [() if layer.proto.prelu_param.channel_shared else (shape[1],)]
    options = getattr(layer.proto, f"{layer.type.lower()}_param")
    start = layer.axis(options.axis, len(shape))
    part = tuple(shape[start:] if options.num_axes == -1 else shape[start:start + options.num_axes])
    return [part] * (2 if layer.type == "Scale" and options.bias_term else 1)


def _copies(net: NetGraph, weights: Weights) -> Iterator[Tuple[Layer, Blobs]]:
    for layer in net.layers:
        if weights.get(layer.name):
            yield layer, [np.array(blob, np.float32) for blob in weights[layer.name]]


def _masked_blobs(channels: Channels, layer: Layer, blobs: Blobs) -> Blobs:
    """The layer's blobs with zeros for whatever makes a removed channel of its output."""
    removed = channels.removed(layer.outputs[0])
    if removed is None or layer.type == "PReLU":
        return blobs
    if layer.type == "BatchNorm":
        blobs[0][removed] = 0
    elif layer.type in ("Scale", "Bias"):
        axis = affine_axis(layer, len(channels.net.input_shape(layer)))
        if axis is not None:
            for blob in blobs:
                blob[(slice(None),) * axis + (removed,)] = 0
    else:
        if layer.type == "Deconvolution":
            per_group = removed.reshape(layer.parameters.group, -1)
            blobs[0][np.repeat(per_group, len(blobs[0]) // len(per_group), axis=0)] = 0
        elif layer.type == "InnerProduct" and layer.parameters.transpose:
            blobs[0][:, removed] = 0
        else:
            blobs[0][removed] = 0
        for bias in blobs[1:]:
            bias[removed] = 0
    return blobs


def _slim_blobs(channels: Channels, layer: Layer, blobs: Blobs) -> Blobs:
    """The layer's blobs without removed outputs and without the weights of removed inputs."""
    net = channels.net
    outputs = channels.kept(layer.outputs[0])
    if layer.type == "BatchNorm":
        return [blobs[0][outputs], blobs[1][outputs], blobs[2]]
    if layer.type == "PReLU":
        return blobs if layer.proto.prelu_param.channel_shared else [blobs[0][outputs]]
    if layer.type in ("Scale", "Bias"):
        axis = affine_axis(layer, len(net.input_shape(layer)))
        return blobs if axis is None else [np.take(blob, outputs, axis) for blob in blobs]
    if layer.type == "InnerProduct":
        # A kept channel keeps all its rows x columns.
        size = int(np.prod(net.input_shape(layer)[2:], dtype=int))
        columns = (channels.kept(layer.inputs[0])[:, None] * size + np.arange(size)).ravel()
        pick = np.ix_(columns, outputs) if layer.parameters.transpose else np.ix_(outputs, columns)
    else:
        # Deconvolution blobs are inputs x outputs/group, convolution blobs outputs x inputs/group.
        first, second = channels.kept(layer.outputs[0]), channels.kept(layer.inputs[0])
        size_first, size_second = net.output_shape(layer)[1], net.input_shape(layer)[1]
        if layer.type == "Deconvolution":
            first, second, size_first, size_second = second, first, size_second, size_first
        per_first, per_second = (size // layer.parameters.group for size in (size_first, size_second))
        within = {group: second[second // per_second == group] % per_second for group in channels.groups(layer)}
        pick = (first[:, None], np.stack([within[group] for group in (first // per_first).tolist()]))
    return [blobs[0][pick]] + [bias[outputs] for bias in blobs[1:]]

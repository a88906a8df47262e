"""The layers behind a pruned layer in numpy, on arrays with the patches last (:mod:`pycaffe_tools.oracle.arithmetic.arrays`).

Arrays for intermediate results are kept from call to call, since fresh memory
costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...base.ranges import Pair
from ...nets.kernels import ungrouped
from ...nets.layers import Geometry, Layer
from ...nets.netgraph import NetGraph
from .arrays import PatchMaps, Scratch
from .convolutions import BandedConvolve, WindowConvolve, WinogradConvolve

Operation = Callable[[PatchMaps], PatchMaps]


def rectify(slope: float) -> Operation:
    """ReLU, in place; ``slope`` is Caffe's ``negative_slope``."""
    def apply(maps: PatchMaps) -> PatchMaps:
        if slope:
            np.multiply(maps, np.float32(slope), out=maps, where=maps < 0)
        else:
            np.maximum(maps, 0, out=maps)
        return maps
    return apply


class Slide(NamedTuple):
    """One element of a pooling window, along one axis: output positions and the input positions it meets there."""

    outputs: slice
    inputs: slice
    everywhere: bool


def window_slides(length: int, output: int, kernel: int, stride: int, pad: int) -> List[Slide]:
    """For each element of the window, which outputs have it inside the map; those that all outputs have come first."""
    slides = []
    for offset in range(kernel):
        first = max(0, -((offset - pad) // stride))
        last = min(output - 1, (length - 1 + pad - offset) // stride)
        if first <= last:
            start = first * stride - pad + offset
            slides.append(Slide(slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride),
                                last - first + 1 == output))
    return sorted(slides, key=lambda slide: not slide.everywhere)


class SeparablePool:
    """Max or average pooling, one axis after the other, windows clipped at the border as in Caffe.

    Parameters
    ----------
    geometry : the window.
    size, output : height and width of the input and of the output.
    channels : number of maps.
    average : average instead of maximum.
    """

    def __init__(self, geometry: Geometry, size: Pair, output: Pair, channels: int, average: bool):
        self._combine = np.add if average else np.maximum
        self._empty = np.float32(0 if average else -np.inf)
        axes = list(zip(size, output, geometry.kernel, geometry.stride, geometry.pad))
        self._slides = [window_slides(*axis) for axis in axes]
        self._columns = Scratch(size[0], output[1], channels)
        self._rows = Scratch(output[0], output[1], channels)
        self._scale: Optional[np.ndarray] = None
        if average:
            heights, widths = (self._lengths(*axis) for axis in axes)
            self._scale = (1 / np.outer(heights, widths)).astype(np.float32)[:, :, None, None]

    @staticmethod
    def _lengths(length: int, output: int, kernel: int, stride: int, pad: int) -> np.ndarray:
        """Caffe divides an average by the window's length within the padded map."""
        starts = np.arange(output) * stride - pad
        return np.minimum(starts + kernel, length + pad) - starts

    def __call__(self, maps: PatchMaps) -> PatchMaps:
        columns = self._columns.of(maps.shape[-1])
        self._slide(maps.swapaxes(0, 1), columns.swapaxes(0, 1), self._slides[1])
        rows = self._rows.of(maps.shape[-1])
        self._slide(columns, rows, self._slides[0])
        if self._scale is not None:
            rows *= self._scale
        return rows

    def _slide(self, maps: PatchMaps, out: PatchMaps, slides: Sequence[Slide]) -> None:
        """Combine the window's elements along the first axis."""
        whole = [slide for slide in slides if slide.everywhere][:2]
        if len(whole) == 2:
            self._combine(maps[whole[0].inputs], maps[whole[1].inputs], out=out)
        elif whole:
            out[...] = maps[whole[0].inputs]
        else:
            out[...] = self._empty
        for slide in slides[len(whole):]:
            self._combine(out[slide.outputs], maps[slide.inputs], out=out[slide.outputs])


class MatrixProduct:
    """An inner product; its weight's columns follow the order of the maps here, height x width x channels."""

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray], size: Pair):
        outputs = weight.shape[0]
        self._matrix = np.ascontiguousarray(weight.reshape((outputs, -1) + size).transpose(0, 2, 3, 1),
                                            np.float32).reshape(outputs, -1)
        self._bias = None if bias is None else np.asarray(bias, np.float32)[:, None]
        self._out = Scratch(1, 1, outputs)

    def __call__(self, maps: PatchMaps) -> PatchMaps:
        patches = maps.shape[-1]
        out = self._out.of(patches)
        np.matmul(self._matrix, maps.reshape(-1, patches), out=out[0, 0])
        if self._bias is not None:
            out += self._bias
        return out


class Parameters(NamedTuple):
    """What a convolution or an inner product has learnt, both written as a convolution.

    Attributes
    ----------
    weight : float32, outputs x channels x kernel height x kernel width; between groups it is 0, and the kernel of
        an inner product is as large as its input.
    bias : float32, one number for each output; None where the layer has none.
    """

    weight: np.ndarray
    bias: Optional[np.ndarray]

    def part(self, outputs: Sequence[int], channels: Sequence[int]) -> Parameters:
        """The parameters that connect some of the channels with some of the outputs."""
        weight = np.ascontiguousarray(self.weight[list(outputs)][:, list(channels)])
        return Parameters(weight, None if self.bias is None else self.bias[list(outputs)])


def parameters(graph: NetGraph, weights: Mapping[str, Sequence[np.ndarray]],
               layers: Sequence[Layer]) -> Dict[str, Parameters]:
    """What the convolutions and inner products among these layers have learnt, by the layers' names."""
    result = {}
    for layer in layers:
        if layer.is_parametric:
            blobs = [np.asarray(blob, np.float32) for blob in weights[layer.name]]
            if layer.type == "Convolution":
                weight = ungrouped(blobs[0], layer.geometry.group)
            else:
                channels, size = maps_entering(graph, layer)
                weight = blobs[0].reshape((layer.num_output, channels) + size)
            result[layer.name] = Parameters(weight, blobs[1] if len(blobs) > 1 else None)
    return result


def maps_entering(graph: NetGraph, layer: Layer) -> Tuple[int, Pair]:
    """Number and size of the maps that a layer reads, before any Flatten."""
    value = layer.inputs[0]
    producer = graph.producer(value)
    while producer is not None and producer.type == "Flatten":
        value = producer.inputs[0]
        producer = graph.producer(value)
    shape = graph.shape(value)
    return shape[1], (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def maps_leaving(graph: NetGraph, layer: Layer) -> Pair:
    """Size of the maps that a layer makes; a number by itself is a map of one pixel."""
    shape = graph.output_shape(layer)
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def operations(graph: NetGraph, learnt: Mapping[str, Parameters], layers: Sequence[Layer], channels: int,
               size: Pair) -> List[Operation]:
    """The given layers of a chain, in numpy.

    Parameters
    ----------
    graph : the net.
    learnt : its parameters by layer name, see :func:`parameters`; they may be those of fewer features than in ``graph``.
    layers : consecutive layers of these types: Convolution, InnerProduct, ReLU, Pooling, Dropout, Flatten, Softmax.
    channels, size : of what enters the first of them.

    Returns
    -------
    Functions to be applied in turn; they may overwrite their argument, and return arrays that the next call overwrites.
    """
    result: List[Operation] = []
    for layer in _pooled_before_rectified(list(layers)):
        if layer.type == "ReLU":
            result.append(rectify(layer.proto.relu_param.negative_slope))
        elif layer.type == "Pooling":
            geometry, output = pooling_window(layer, size), maps_leaving(graph, layer)
            result.append(SeparablePool(geometry, size, output, channels, layer.pool == "AVE"))
            size = output
        elif layer.is_parametric:
            weight, bias = learnt[layer.name]
            output = maps_leaving(graph, layer)
            result.append(_product(layer, weight, bias, size, output))
            channels, size = len(weight), output
    return result


def _product(layer: Layer, weight: np.ndarray, bias: Optional[np.ndarray], size: Pair, output: Pair) -> Operation:
    """A convolution or an inner product, in the way that is fastest for its size."""
    if layer.type == "InnerProduct":
        return MatrixProduct(weight, bias, size)
    if WinogradConvolve.fits(layer.geometry, size):
        return WinogradConvolve(weight, bias)
    if BandedConvolve.excess(layer.geometry, size) <= 2:
        return BandedConvolve(weight, bias, layer.geometry, size, output)
    return WindowConvolve(weight, bias, layer.geometry, size, output)


def pooling_window(layer: Layer, size: Pair) -> Geometry:
    """Window of a pooling layer over maps of a known size; global pooling has the whole map as its window."""
    return Geometry(size) if layer.proto.pooling_param.global_pooling else layer.geometry


def _pooled_before_rectified(layers: List[Layer]) -> List[Layer]:
    """Exchange a ReLU with the max-pooling behind it: the same numbers, since both keep the order, in less time."""
    for at in range(len(layers) - 1):
        first, second = layers[at:at + 2]
        if (first.type == "ReLU" and first.proto.relu_param.negative_slope >= 0 and second.type == "Pooling"
                and second.pool == "MAX"):
            layers[at:at + 2] = [second, first]
    return layers

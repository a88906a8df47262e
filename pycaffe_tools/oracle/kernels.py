"""The layers behind a pruned layer in numpy, with the patches on the last axis.

Maps are float32 arrays ``height x width x channels x patches``.  With the
patches last every operation runs over long contiguous stretches: pooling is a
maximum of a few slices, and a row of a map is, as it stands, a matrix that
BLAS multiplies.  (With the patches first, as in Caffe, half of the time went
into pooling.)  Arrays for intermediate results are kept from call to call,
since fresh memory costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..nets.layers import Geometry, Layer
from ..nets.netgraph import NetGraph

Spatial = Tuple[int, int]
Map = np.ndarray


class Scratch:
    """Arrays of one shape in height, width and channels for any number of patches, made once for each number."""

    def __init__(self, *shape: int):
        self.shape = shape
        self._arrays: Dict[int, np.ndarray] = {}

    def of(self, patches: int) -> np.ndarray:
        """The array for so many patches; its content is whatever the last user left."""
        if patches not in self._arrays:
            self._arrays[patches] = np.empty(self.shape + (patches,), np.float32)
        return self._arrays[patches]


Operation = Callable[[Map], Map]


def rectify(slope: float) -> Operation:
    """ReLU, in place; ``slope`` is Caffe's ``negative_slope``."""
    def apply(maps: Map) -> Map:
        if slope:
            return np.where(maps > 0, maps, np.float32(slope) * maps)
        return np.maximum(maps, 0, out=maps)
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


class Pool:
    """Max or average pooling, one axis after the other, windows clipped at the border as in Caffe.

    Parameters
    ----------
    geometry : the window.
    size, output : height and width of the input and of the output.
    channels : number of maps.
    average : average instead of maximum.
    """

    def __init__(self, geometry: Geometry, size: Spatial, output: Spatial, channels: int, average: bool):
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

    def __call__(self, maps: Map) -> Map:
        columns = self._columns.of(maps.shape[-1])
        self._slide(maps.swapaxes(0, 1), columns.swapaxes(0, 1), self._slides[1])
        rows = self._rows.of(maps.shape[-1])
        self._slide(columns, rows, self._slides[0])
        if self._scale is not None:
            rows *= self._scale
        return rows

    def _slide(self, maps: Map, out: Map, slides: Sequence[Slide]) -> None:
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


class Convolve:
    """A convolution, row of outputs by row of outputs.

    A row of outputs depends on a few rows of the input, which lie one after
    the other in memory, so it is one matrix product, of a matrix that holds the kernel
    once for every output of the row with zeros between.  For small maps the multiplications with
    zeros cost less than copying windows would.
    """

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray], geometry: Geometry, size: Spatial,
                 output: Spatial):
        outputs, channels, kernel_h, kernel_w = weight.shape
        (height, width), (stride_h, stride_w) = size, geometry.stride
        (pad_h, pad_w), (dilation_h, dilation_w) = geometry.pad, geometry.dilation
        self._bias = None if bias is None else np.asarray(bias, np.float32)[:, None]
        self._out = Scratch(output[0], output[1], outputs)
        span = (kernel_h - 1) * dilation_h + 1
        banded = np.zeros((output[1], outputs, span, width, channels), np.float32)
        for x in range(output[1]):
            for i in range(kernel_w):
                column = x * stride_w - pad_w + i * dilation_w
                if 0 <= column < width:
                    for j in range(kernel_h):
                        banded[x, :, j * dilation_h, column] = weight[:, :, j, i]
        self._banded = banded.reshape(output[1] * outputs, span * width * channels)
        self._rows: List[Tuple[slice, slice]] = []
        for y in range(output[0]):
            top = y * stride_h - pad_h
            first, stop = max(0, top), min(height, top + span)
            self._rows.append((slice(first, stop), slice((first - top) * width * channels,
                                                         (stop - top) * width * channels)))

    @staticmethod
    def excess(geometry: Geometry, size: Spatial) -> float:
        """How many times more multiplications this takes than the convolution has."""
        return size[1] / geometry.kernel[1] * ((geometry.kernel[0] - 1) * geometry.dilation[0] + 1) / geometry.kernel[0]

    def __call__(self, maps: Map) -> Map:
        patches = maps.shape[-1]
        out = self._out.of(patches)
        for y, (rows, columns) in enumerate(self._rows):
            np.matmul(self._banded[:, columns], maps[rows].reshape(-1, patches), out=out[y].reshape(-1, patches))
        if self._bias is not None:
            out += self._bias
        return out


class ConvolveTile:
    """A 3x3 convolution of a 4x4 map, which is one tile of Winograd's minimal filtering: 16 products where it has 36.

    A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks",
    2016 (arXiv:1509.09308), section 4.1, F(2x2, 3x3): both axes are transformed by sums and differences,
    multiplied, and transformed back.  In float32 the result is as close to the exact one as that of the
    ordinary sum, within a small factor.
    """

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray]):
        outputs, channels = weight.shape[:2]
        transform = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
        self._weight = np.ascontiguousarray(
            np.einsum("ia,ocab,jb->ijoc", transform, weight.astype(np.float64), transform), np.float32)
        self._bias = None if bias is None else np.asarray(bias, np.float32)[:, None]
        self._half, self._whole = Scratch(4, 4, channels), Scratch(4, 4, channels)
        self._product, self._narrow = Scratch(4, 4, outputs), Scratch(2, 4, outputs)
        self._out = Scratch(2, 2, outputs)

    @staticmethod
    def fits(geometry: Geometry, size: Spatial) -> bool:
        """Whether a convolution is of this kind."""
        return size == (4, 4) and geometry == Geometry((3, 3))

    def __call__(self, maps: Map) -> Map:
        half, whole, product, narrow, out = (scratch.of(maps.shape[-1]) for scratch in (
            self._half, self._whole, self._product, self._narrow, self._out))
        self._forth(maps, half)
        self._forth(half.swapaxes(0, 1), whole.swapaxes(0, 1))
        np.matmul(self._weight, whole, out=product)
        self._back(product, narrow)
        self._back(narrow.swapaxes(0, 1), out.swapaxes(0, 1))
        if self._bias is not None:
            out += self._bias
        return out

    @staticmethod
    def _forth(maps: Map, out: Map) -> None:
        np.subtract(maps[0], maps[2], out=out[0])
        np.add(maps[1], maps[2], out=out[1])
        np.subtract(maps[2], maps[1], out=out[2])
        np.subtract(maps[1], maps[3], out=out[3])

    @staticmethod
    def _back(products: Map, out: Map) -> None:
        np.add(products[0], products[1], out=out[0])
        out[0] += products[2]
        np.subtract(products[1], products[2], out=out[1])
        out[1] -= products[3]


class ConvolveWindows:
    """A convolution by writing down every output's window; for maps much larger than the kernel."""

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray], geometry: Geometry, size: Spatial,
                 output: Spatial):
        outputs, channels, kernel_h, kernel_w = weight.shape
        self._geometry, self._size, self._output = geometry, size, output
        self._matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 1), np.float32).reshape(outputs, -1)
        self._bias = None if bias is None else np.asarray(bias, np.float32)[:, None]
        (pad_h, pad_w) = geometry.pad
        self._padded = Scratch(size[0] + 2 * pad_h, size[1] + 2 * pad_w, channels) if pad_h or pad_w else None
        self._windows = Scratch(output[1], kernel_h, kernel_w, channels)
        self._out = Scratch(output[0], output[1], outputs)

    def __call__(self, maps: Map) -> Map:
        patches = maps.shape[-1]
        if self._padded is not None:
            padded = self._padded.of(patches)
            (pad_h, pad_w), (height, width) = self._geometry.pad, self._size
            padded[...] = 0
            padded[pad_h:pad_h + height, pad_w:pad_w + width] = maps
            maps = padded
        (stride_h, stride_w), (dilation_h, dilation_w) = self._geometry.stride, self._geometry.dilation
        row, column, channel, patch = maps.strides
        windows, out = self._windows.of(patches), self._out.of(patches)
        for y in range(self._output[0]):
            np.copyto(windows, as_strided(maps[y * stride_h:], windows.shape, (
                stride_w * column, dilation_h * row, dilation_w * column, channel, patch)))
            np.matmul(self._matrix, windows.reshape(self._output[1], -1, patches), out=out[y])
        if self._bias is not None:
            out += self._bias
        return out


class Multiply:
    """An inner product; its weight's columns follow the order of the maps here, height x width x channels."""

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray], size: Spatial):
        outputs = weight.shape[0]
        self._matrix = np.ascontiguousarray(weight.reshape((outputs, -1) + size).transpose(0, 2, 3, 1),
                                            np.float32).reshape(outputs, -1)
        self._bias = None if bias is None else np.asarray(bias, np.float32)[:, None]
        self._out = Scratch(1, 1, outputs)

    def __call__(self, maps: Map) -> Map:
        patches = maps.shape[-1]
        out = self._out.of(patches)
        np.matmul(self._matrix, maps.reshape(-1, patches), out=out[0, 0])
        if self._bias is not None:
            out += self._bias
        return out


def dense_weight(layer: Layer, blobs: Sequence[np.ndarray], channels: int, size: Spatial) -> np.ndarray:
    """Weights as outputs x channels x height x width; what is outside a group is 0."""
    weight = np.asarray(blobs[0], np.float32)
    if layer.type == "InnerProduct":
        return weight.reshape((weight.shape[0], channels) + size)
    groups = layer.geometry.group
    if groups == 1:
        return weight
    dense = np.zeros((weight.shape[0], channels) + weight.shape[2:], np.float32)
    outputs, inputs = weight.shape[0] // groups, channels // groups
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        dense[rows, group * inputs:(group + 1) * inputs] = weight[rows]
    return dense


def operations(graph: NetGraph, weights, layers: Sequence[Layer], channels: int, size: Spatial) -> List[Operation]:
    """The given layers of a chain, in numpy.

    Parameters
    ----------
    graph, weights : the net and its blobs.
    layers : consecutive layers of these types: Convolution, InnerProduct, ReLU, Pooling, Dropout, Flatten, Softmax.
    channels, size : of what enters the first of them.

    Returns
    -------
    Functions to be applied in turn; they may overwrite their argument, and return arrays that the next call overwrites.
    """
    result: List[Operation] = []
    for layer in _pooled_before_rectified(list(layers)):
        blobs = weights.get(layer.name, ())
        bias = blobs[1] if len(blobs) > 1 else None
        if layer.type == "ReLU":
            result.append(rectify(layer.proto.relu_param.negative_slope))
        elif layer.type == "Pooling":
            geometry, output = pooling_window(layer, size), graph.output_shape(layer)[2:]
            result.append(Pool(geometry, size, output, channels, layer.pool == "AVE"))
            size = output
        elif layer.type == "Convolution":
            weight, output = dense_weight(layer, blobs, channels, size), graph.output_shape(layer)[2:]
            if ConvolveTile.fits(layer.geometry, size):
                result.append(ConvolveTile(weight, bias))
            else:
                kind = Convolve if Convolve.excess(layer.geometry, size) <= 2 else ConvolveWindows
                result.append(kind(weight, bias, layer.geometry, size, output))
            channels, size = layer.num_output, output
        elif layer.type == "InnerProduct":
            result.append(Multiply(np.asarray(blobs[0]), bias, size))
            channels, size = layer.num_output, (1, 1)
    return result


def pooling_window(layer: Layer, size: Spatial) -> Geometry:
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

"""Three ways to convolve maps with the patches on the last axis, for maps small, tiny and large beside the kernel."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...base.ranges import Pair
from ...nets.layers import Geometry
from .arrays import PatchMaps, Scratch


class BandedConvolve:
    """A convolution, row of outputs by row of outputs.

    A row of outputs depends on a few rows of the input, which lie one after
    the other in memory, so it is one matrix product, of a matrix that holds the kernel
    once for every output of the row with zeros between.  For small maps the multiplications with
    zeros cost less than copying windows would.
    """

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray], geometry: Geometry, size: Pair,
                 output: Pair):
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
    def excess(geometry: Geometry, size: Pair) -> float:
        """How many times more multiplications this takes than the convolution has."""
        return size[1] / geometry.kernel[1] * ((geometry.kernel[0] - 1) * geometry.dilation[0] + 1) / geometry.kernel[0]

    def __call__(self, maps: PatchMaps) -> PatchMaps:
        patches = maps.shape[-1]
        out = self._out.of(patches)
        for y, (rows, columns) in enumerate(self._rows):
            np.matmul(self._banded[:, columns], maps[rows].reshape(-1, patches), out=out[y].reshape(-1, patches))
        if self._bias is not None:
            out += self._bias
        return out


class WinogradConvolve:
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
    def fits(geometry: Geometry, size: Pair) -> bool:
        """Whether a convolution is of this kind."""
        return size == (4, 4) and geometry == Geometry((3, 3))

    def __call__(self, maps: PatchMaps) -> PatchMaps:
        half, whole, product, narrow, out = (scratch.of(maps.shape[-1]) for scratch in (
            self._half, self._whole, self._product, self._narrow, self._out))
        self._transform_input(maps, half)
        self._transform_input(half.swapaxes(0, 1), whole.swapaxes(0, 1))
        np.matmul(self._weight, whole, out=product)
        self._transform_output(product, narrow)
        self._transform_output(narrow.swapaxes(0, 1), out.swapaxes(0, 1))
        if self._bias is not None:
            out += self._bias
        return out

    @staticmethod
    def _transform_input(maps: PatchMaps, out: PatchMaps) -> None:
        np.subtract(maps[0], maps[2], out=out[0])
        np.add(maps[1], maps[2], out=out[1])
        np.subtract(maps[2], maps[1], out=out[2])
        np.subtract(maps[1], maps[3], out=out[3])

    @staticmethod
    def _transform_output(products: PatchMaps, out: PatchMaps) -> None:
        np.add(products[0], products[1], out=out[0])
        out[0] += products[2]
        np.subtract(products[1], products[2], out=out[1])
        out[1] -= products[3]


class WindowConvolve:
    """A convolution by writing down every output's window; for maps much larger than the kernel."""

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray], geometry: Geometry, size: Pair,
                 output: Pair):
        outputs, channels, kernel_h, kernel_w = weight.shape
        self._geometry, self._size, self._output = geometry, size, output
        self._matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 1), np.float32).reshape(outputs, -1)
        self._bias = None if bias is None else np.asarray(bias, np.float32)[:, None]
        (pad_h, pad_w) = geometry.pad
        self._padded = Scratch(size[0] + 2 * pad_h, size[1] + 2 * pad_w, channels) if pad_h or pad_w else None
        self._windows = Scratch(output[1], kernel_h, kernel_w, channels)
        self._out = Scratch(output[0], output[1], outputs)

    def __call__(self, maps: PatchMaps) -> PatchMaps:
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

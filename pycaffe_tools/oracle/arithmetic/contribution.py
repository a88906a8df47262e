"""What one feature contributes to the next layer's input, as terms that can be subtracted."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...base.ranges import Pair
from ...nets.layers import Geometry
from .arrays import PatchMaps, Scratch


class Terms:
    """What one feature contributes to the next layer's pre-activation: T_f = W_next[:, f] * a_f.

    Parameters
    ----------
    weight : the next layer's weights, outputs x features x kernel height x kernel width.
    geometry : its window.
    size : height and width of its input.
    output : height and width of its output.
    """

    def __init__(self, weight: np.ndarray, geometry: Geometry, size: Pair, output: Pair):
        self.geometry, self.size, self.output = geometry, size, output
        outputs, features, kernel_h, kernel_w = weight.shape
        # Per feature a matrix outputs x (kernel width * kernel height), the window's columns one after the other.
        self._matrices = np.ascontiguousarray(weight.transpose(1, 0, 3, 2), np.float32).reshape(
            features, outputs, kernel_w * kernel_h)
        (pad_h, pad_w), kernel = geometry.pad, geometry.kernel
        self._padded = Scratch(size[0] + 2 * pad_h, size[1] + 2 * pad_w) if pad_h or pad_w else None
        # With undilated kernels the windows of a row of outputs overlap, so the input is written down only once for
        # each row of the kernel; with dilated ones it is written down for each of the kernel's elements.
        self._overlapping = geometry.dilation[1] == 1
        width = size[1] + 2 * pad_w
        self._lowered = (Scratch(output[0], width, kernel[0]) if self._overlapping
                         else Scratch(output[0], output[1], kernel[1], kernel[0]))

    def compute(self, feature: int, incoming: np.ndarray, out: PatchMaps) -> None:
        """Write T_f (output height x width x outputs x patches) of f's map (height x width x patches)."""
        matrix = self._matrices[feature]
        if matrix.shape[1] == 1 and self.output == self.size == (1, 1):
            np.multiply(matrix, incoming.reshape(1, -1), out=out[0, 0])
            return
        np.matmul(matrix, self._windows(incoming), out=out)

    def _windows(self, incoming: np.ndarray) -> np.ndarray:
        """Output height x width x (kernel width * kernel height) x patches: what each output looks at."""
        (stride_h, stride_w), (dilation_h, dilation_w) = self.geometry.stride, self.geometry.dilation
        kernel_h, kernel_w = self.geometry.kernel
        patches = incoming.shape[-1]
        padded = self._pad(incoming)
        row, column, patch = padded.strides
        lowered = self._lowered.of(patches)
        if self._overlapping:
            np.copyto(lowered, as_strided(padded, lowered.shape, (stride_h * row, column, dilation_h * row, patch)))
            return as_strided(lowered, self.output + (kernel_w * kernel_h, patches),
                              (lowered.strides[0], stride_w * lowered.strides[1]) + lowered.strides[2:])
        np.copyto(lowered, as_strided(padded, lowered.shape, (
            stride_h * row, stride_w * column, dilation_w * column, dilation_h * row, patch)))
        return lowered.reshape(self.output + (kernel_w * kernel_h, patches))

    def _pad(self, incoming: np.ndarray) -> np.ndarray:
        if self._padded is None:
            return incoming
        padded = self._padded.of(incoming.shape[-1])
        (pad_h, pad_w), (height, width) = self.geometry.pad, self.size
        padded[...] = 0
        padded[pad_h:pad_h + height, pad_w:pad_w + width] = incoming
        return padded

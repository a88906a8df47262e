"""Convolution kernels of other forms than Caffe's."""

from __future__ import annotations

import numpy as np


def ungrouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """The kernel of an ordinary convolution that does what a grouped one does: zeros join inputs to other groups.

    Parameters
    ----------
    kernel : outputs x inputs of a group x height x width, as Caffe stores it.
    groups : ``group`` of the layer.

    Returns
    -------
    float32, outputs x inputs x height x width.
    """
    kernel = np.asarray(kernel, np.float32)
    if groups == 1:
        return kernel
    outputs, inputs = kernel.shape[0] // groups, kernel.shape[1]
    whole = np.zeros((kernel.shape[0], inputs * groups) + kernel.shape[2:], np.float32)
    for group in range(groups):
        own_outputs = slice(group * outputs, (group + 1) * outputs)
        whole[own_outputs, group * inputs:(group + 1) * inputs] = kernel[own_outputs]
    return whole

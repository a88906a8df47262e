"""What a patch is: the square window around its pixel, with a mirrored border."""

from __future__ import annotations

import numpy as np

from ..nets.paper import PATCH_SIZE, centre


def reflect_pad(image: np.ndarray, before: int = centre(PATCH_SIZE), after: int = PATCH_SIZE - centre(PATCH_SIZE) - 1) -> np.ndarray:
    """A slice with its mirrored border (numpy's ``reflect``, repeated where the slice is smaller than the border).

    Parameters
    ----------
    image : y by x, any data type.
    before, after : pixels added above and to the left, below and to the right.

    Returns
    -------
    (y + before + after) by (x + before + after), of the same data type.
    """
    return np.pad(image, (before, after), mode="reflect")


def extract_patches(image: np.ndarray, ys: np.ndarray, xs: np.ndarray, size: int = PATCH_SIZE) -> np.ndarray:
    """The patches of the pixels (ys[i], xs[i]) of a slice: n x size x size, of the slice's data type.

    Pixel (ys[i], xs[i]) is element (centre(size), centre(size)) of patch i.
    """
    padded = reflect_pad(image, centre(size), size - centre(size) - 1)
    patches: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, (size, size))[ys, xs]
    return patches

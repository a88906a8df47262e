"""What a patch is: the 32 x 32 window around its pixel, with a mirrored border."""

from __future__ import annotations

import numpy as np

from ..nets.paper import CENTRE, PATCH_SIZE


def reflect_pad(image: np.ndarray, before: int = CENTRE, after: int = PATCH_SIZE - CENTRE - 1) -> np.ndarray:
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

    Pixel (ys[i], xs[i]) is element (size // 2, size // 2) of patch i.
    """
    padded = reflect_pad(image, size // 2, size - size // 2 - 1)
    patches: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, (size, size))[ys, xs]
    return patches

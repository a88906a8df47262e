"""Pictures to look at: the outline of a mask, coloured, on the grey image."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import numpy as np

from ..base.files import atomic_file

MEMBRANE_COLOUR = (255, 60, 30)
"""Red, green, blue of the outline."""


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have one of their four neighbours outside of it; the image's border does not count."""
    inside = np.pad(mask, 1, mode="edge")
    surrounded: np.ndarray = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return np.asarray(mask & ~surrounded)


def as_bytes(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values as uint8 for a screen: ``low`` is black, ``high`` is white."""
    scaled = (grey.astype(np.float32) - np.float32(low)) * np.float32(255 / max(high - low, 1e-6))
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def contrast_of(grey: np.ndarray) -> Tuple[float, float]:
    """Grey values to be shown as black and as white: all but the darkest and the brightest two-hundredth."""
    darkest, brightest = np.percentile(grey[::4, ::4], (0.5, 99.5))
    return float(darkest), float(brightest)


def overlay(grey: np.ndarray, mask: np.ndarray, contrast: Tuple[float, float]) -> np.ndarray:
    """A coloured picture.

    Parameters
    ----------
    grey : rows x columns, any data type.
    mask : bool, of the same shape.
    contrast : grey values shown as black and as white.

    Returns
    -------
    uint8, rows x columns x 3.
    """
    picture = np.repeat(as_bytes(grey, *contrast)[:, :, None], 3, axis=2)
    picture[outline(mask)] = MEMBRANE_COLOUR
    return picture


def reduced(grey: np.ndarray, mask: np.ndarray, side: int) -> Tuple[np.ndarray, np.ndarray]:
    """Grey values (float32) and mask of an image made at most ``side`` pixels high and wide, for a small picture.

    A pixel is the mean of a square of pixels, and in the mask if half of them are.
    """
    step = max(1, -(-max(grey.shape) // side))
    rows, columns = (max(1, size // step) for size in grey.shape)
    means = [image[:rows * step, :columns * step].reshape(rows, min(step, grey.shape[0]), columns, min(step, grey.shape[1]))
             .mean(axis=(1, 3), dtype=np.float32) for image in (grey, mask)]
    return means[0], means[1] >= 0.5


def write_overlay(path: Path, grey: np.ndarray, mask: np.ndarray, contrast: Tuple[float, float]) -> None:
    """Write :func:`overlay` as a PNG, atomically; there may be thousands in its folder."""
    from matplotlib.image import imsave

    with atomic_file(path, tidy=False) as temporary:
        imsave(temporary, overlay(grey, mask, contrast))

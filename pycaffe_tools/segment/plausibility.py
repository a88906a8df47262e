"""Is a volume like those that a model was trained on?  Warnings with both numbers where it is not."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..nets.model import Model
from ..volumes.volume import Volume

SAMPLED_SLICES = 3
SAMPLED_PIXELS = 250_000
"""Pixels of each of them, at most, on a regular grid: memory stays small, and the mean of so many is exact enough."""

PIXEL_SIZE_TOLERANCE = 0.25
"""Relative difference of pixel sizes from which a warning is given."""

STD_RATIO = 2.0
"""Ratio of standard deviations, either way, from which a warning is given."""


class GreyValues(NamedTuple):
    """Mean and standard deviation of some slices' grey values."""

    mean: float
    std: float


def sample_grey_values(volume: Volume, slices: Sequence[int]) -> Optional[GreyValues]:
    """Grey values of a few slices evenly spread over ``slices``; None if none of them can be read."""
    count = min(SAMPLED_SLICES, len(slices))
    chosen = [slices[(2 * number + 1) * len(slices) // (2 * count)] for number in range(count)]
    step = 1 + int((volume.shape[1] * volume.shape[2] / SAMPLED_PIXELS) ** 0.5)
    samples = []
    for z in chosen:
        try:
            samples.append(volume.read(z)[::step, ::step].astype(np.float32).reshape(-1))
        except UserError:
            continue            # it will be a failed slice; here it only does not count
    if not samples:
        return None
    values = np.concatenate(samples)
    values = values[np.isfinite(values)]
    return GreyValues(float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))) if len(values) else None


def warnings_of(volume: Volume, grey: Optional[GreyValues], model: Model) -> List[str]:
    """Sentences on a pixel size or a distribution of grey values that is far from the model's own.

    Parameters
    ----------
    volume : the input.
    grey : of the input, see :func:`sample_grey_values`.
    model : the model to be used.
    """
    found = []
    for axis, here, there in zip("zyx", volume.pixel_size, model.pixel_size_nm):
        if here and there and not 1 / (1 + PIXEL_SIZE_TOLERANCE) <= here / there <= 1 + PIXEL_SIZE_TOLERANCE:
            found.append(f"{volume.path}: its pixel size along {axis} is {here:g} nm, the model was trained at "
                         f"{there:g} nm; resample the volume, or train on data like it")
    if grey is not None and not model.normalised_by_stack:
        mean, std = model.normalisation
        if abs(grey.mean - mean) > std:
            found.append(f"{volume.path}: its mean grey value is {grey.mean:.1f}, the model's training data had "
                         f"{mean:.1f} (standard deviation {std:.1f}); bring the grey values in line")
        if grey.std * STD_RATIO < std or grey.std > std * STD_RATIO:
            found.append(f"{volume.path}: the standard deviation of its grey values is {grey.std:.1f}, the model's "
                         f"training data had {std:.1f}; bring the contrast in line")
    return found

"""Is a volume like those that a model was trained on?  Warnings with both numbers where it is not."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..nets.model import Model, Normalisation
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
    step = _step(volume.shape[1:])
    samples = []
    for z in chosen:
        try:
            samples.append(_sample(volume.read(z), step))
        except UserError:
            continue            # it will be a failed slice; here it only does not count
    return _summary(np.concatenate(samples)) if samples else None


def grey_values_of(image: np.ndarray) -> Optional[GreyValues]:
    """Grey values of one slice (rows x columns), from pixels on a regular grid; None if none of them is finite."""
    return _summary(_sample(image, _step(image.shape)))


def _step(shape: Sequence[int]) -> int:
    return 1 + int((shape[0] * shape[1] / SAMPLED_PIXELS) ** 0.5)


def _sample(image: np.ndarray, step: int) -> np.ndarray:
    return np.asarray(image[::step, ::step].astype(np.float32).reshape(-1))


def _summary(values: np.ndarray) -> Optional[GreyValues]:
    values = values[np.isfinite(values)]
    return GreyValues(float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))) if len(values) else None


class Drift(NamedTuple):
    """A word on each way in which grey values are far from a model's training data; None where they are not."""

    brightness: Optional[str]
    """``darker`` or ``brighter``: the means differ by more than the training data's standard deviation."""
    contrast: Optional[str]
    """``less contrast`` or ``more contrast``: the standard deviations differ by more than ``STD_RATIO``."""

    @property
    def words(self) -> str:
        """Both in words; empty where the grey values are usual."""
        return " and ".join(word for word in self if word)


def drift_of(grey: GreyValues, usual: Normalisation) -> Drift:
    """Compare grey values with those that a model was trained on.

    >>> drift_of(GreyValues(90.0, 12.0), Normalisation(128.0, 30.0)).words
    'darker and less contrast'
    >>> drift_of(GreyValues(130.0, 31.0), Normalisation(128.0, 30.0)).words
    ''
    """
    mean, std = usual
    brightness = ("darker" if grey.mean < mean else "brighter") if abs(grey.mean - mean) > std else None
    contrast = ("less contrast" if grey.std * STD_RATIO < std else
                "more contrast" if grey.std > std * STD_RATIO else None)
    return Drift(brightness, contrast)


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
        drift = drift_of(grey, model.normalisation)
        if drift.brightness:
            found.append(f"{volume.path}: its mean grey value is {grey.mean:.1f}, the model's training data had "
                         f"{mean:.1f} (standard deviation {std:.1f}); bring the grey values in line")
        if drift.contrast:
            found.append(f"{volume.path}: the standard deviation of its grey values is {grey.std:.1f}, the model's "
                         f"training data had {std:.1f}; bring the contrast in line")
    return found

"""Do probabilities mean what they say?  Of the pixels given 30 %, three tenths should be membrane."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence

import numpy as np

from .histogram import ScoreHistogram


class Bin(NamedTuple):
    """Pixels whose probabilities are about alike.

    Attributes
    ----------
    predicted : their mean probability.
    observed : the share of them that is membrane.
    pixels : how many.
    """

    predicted: float
    observed: float
    pixels: int


def reliability(histogram: ScoreHistogram, bins: int = 10) -> List[Bin]:
    """Bins of equal width from 0 to 1, those without a pixel left out.

    A score stands for the middle of its fine bin on the scale of log-odds, one of 8 bits for itself.
    """
    upper = np.append(histogram.edges[1:], 1.0)
    odds = [np.log(edge) - np.log1p(-edge) for edge in (np.clip(histogram.edges, 1e-9, 1 - 1e-9), np.clip(upper, 1e-9, 1 - 1e-9))]
    middle = 1 / (1 + np.exp(-(odds[0] + odds[1]) / 2))
    if histogram.exact:
        values = np.arange(256) / 255.0
        middle[np.searchsorted(histogram.edges, values, side="right") - 1] = values
    place = np.minimum((middle * bins).astype(int), bins - 1)
    counts = histogram.positive + histogram.negative
    pixels = np.bincount(place, counts, bins)
    predicted, positive = np.bincount(place, counts * middle, bins), np.bincount(place, histogram.positive, bins)
    return [Bin(float(predicted[number] / pixels[number]), float(positive[number] / pixels[number]), int(pixels[number]))
            for number in range(bins) if pixels[number]]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of what is predicted from what is observed, by pixels."""
    total = sum(part.pixels for part in bins)
    return sum(part.pixels * abs(part.predicted - part.observed) for part in bins) / max(total, 1)

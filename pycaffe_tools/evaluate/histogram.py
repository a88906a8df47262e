"""Scores of a whole stack in constant memory: a histogram of probabilities of each class."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .pixels import BestThreshold, Confusion, _area, _best_f1, _ratio, _same_shape


class ScoreHistogram:
    """Probabilities counted class by class in fine bins, for volumes larger than memory.

    The bins are equally wide in log-odds, since a trained network's
    probabilities crowd at 0 and 1.  Floating-point scores in one bin count as
    tied: :attr:`auc_error` bounds what that can do to the area, and thresholds
    are edges of bins.  Integer scores (uint8 probability maps) are taken as
    value / 255, each in a bin of its own, and nothing is lost.

    Parameters
    ----------
    bins : number of bins, at least 4096, which keeps 256 grey values apart.
    """

    LOG_ODDS = 17.0  # of 1 - 4e-8; float32 knows nothing between that and 1

    def __init__(self, bins: int = 1 << 16):
        if bins < 4096:
            raise ValueError(f"{bins} bins cannot keep 256 grey values apart")
        inner = np.linspace(-self.LOG_ODDS, self.LOG_ODDS, bins - 1)
        self.edges = np.concatenate([[0.0], 1 / (1 + np.exp(-inner))])
        """Lower edges of the bins, ascending from 0."""
        self.exact = True
        self.positive = np.zeros(bins, dtype=np.int64)
        self.negative = np.zeros(bins, dtype=np.int64)

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Count the pixels of one slice.

        Parameters
        ----------
        scores : uint8 (0 to 255), bool, or floating point from 0 to 1.
        labels : of the same shape; not 0 is membrane.

        Raises
        ------
        ValueError : shapes that differ, scores that are NaN or outside 0 to 1.
        """
        scores, labels = np.asarray(scores), np.asarray(labels) != 0
        _same_shape(scores, labels)
        if scores.dtype == bool:
            scores = scores * 1.0
        elif scores.dtype == np.uint8:
            scores = scores / 255.0
        else:
            self.exact = False
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError("scores have to lie between 0 and 1")
        index = np.searchsorted(self.edges, scores.astype(np.float64), side="right") - 1
        self.positive += np.bincount(index[labels], minlength=len(self.edges))
        self.negative += np.bincount(index[~labels], minlength=len(self.edges))

    def without(self, part: ScoreHistogram) -> ScoreHistogram:
        """What was counted here and not in ``part``, of as many bins, whose pixels are all counted here too."""
        rest = ScoreHistogram(len(self.positive))
        rest.exact = self.exact
        rest.positive, rest.negative = self.positive - part.positive, self.negative - part.negative
        return rest

    def auc(self) -> float:
        """Area under the ROC curve, with the scores of a bin tied; NaN if a class is missing."""
        return _area(self.positive, self.negative)

    @property
    def auc_error(self) -> float:
        """How far :meth:`auc` is from the exact area at most: half the share of pairs that share a bin."""
        if self.exact:
            return 0.0
        tied = float(self.positive.astype(np.float64) @ self.negative.astype(np.float64))
        return _ratio(tied / 2, float(self.positive.sum()) * float(self.negative.sum()))

    def best_threshold(self, positive_fraction: Optional[float] = None) -> BestThreshold:
        """As :func:`best_threshold`, among the edges of the bins."""
        index, f1 = _best_f1(self.positive, self.negative, positive_fraction)
        return BestThreshold(float(self.edges[index]), f1)

    def at(self, threshold: float) -> Confusion:
        """Counts at a threshold, which is taken as the next edge of a bin."""
        first = int(np.searchsorted(self.edges, threshold))
        called_positive, called_negative = int(self.positive[first:].sum()), int(self.negative[first:].sum())
        return Confusion(called_positive, called_negative, int(self.positive.sum()) - called_positive,
                         int(self.negative.sum()) - called_negative)

"""How well pixels are classified: accuracy, precision, recall, F1, ROC AUC, and the best threshold.

Membrane is the positive class everywhere, and a pixel is called membrane where
its score is at least the threshold.  What is not defined (precision where
nothing was called membrane) is NaN, never a made-up 0 or 1.

    counts = confusion(probability >= 0.5, labels)
    counts.accuracy, counts.balanced_accuracy, counts.f1
    roc_auc(probability, labels)
    best_threshold(probability, labels, positive_fraction=0.03)

Volumes that do not fit into memory go through :class:`ScoreHistogram`, slice by slice.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np


class Confusion(NamedTuple):
    """Numbers (or, with weighted pixels, shares) of true and false positives and negatives."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float

    def plus(self, other: Confusion) -> Confusion:
        """The counts of both together; scores of a volume come from its summed counts."""
        return Confusion(*(a + b for a, b in zip(self, other)))

    @property
    def accuracy(self) -> float:
        """Share of pixels that are classified rightly."""
        return _ratio(self.true_positive + self.true_negative, sum(self))

    @property
    def balanced_accuracy(self) -> float:
        """Mean of recall and specificity: the accuracy if both classes were equally frequent, as in the paper's A."""
        return (self.recall + self.specificity) / 2

    @property
    def precision(self) -> float:
        """Share of what is called membrane that is membrane."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of membrane that is called membrane; also sensitivity, true positive rate."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of the rest that is called the rest; 1 - false positive rate."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; the Dice coefficient of the two masks."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    def scores(self) -> Dict[str, float]:
        """All scores by name, in the order of a report."""
        names = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1")
        return {name: getattr(self, name) for name in names}


class BestThreshold(NamedTuple):
    """The threshold with the highest F1, and that F1."""

    threshold: float
    f1: float


def confusion(predicted: np.ndarray, labels: np.ndarray) -> Confusion:
    """Compare two masks.

    Parameters
    ----------
    predicted, labels : of one shape; not 0 is membrane.

    Raises
    ------
    ValueError : shapes that differ.
    """
    predicted, labels = np.asarray(predicted) != 0, np.asarray(labels) != 0
    _same_shape(predicted, labels)
    both, called, positive = (int(np.count_nonzero(mask)) for mask in (predicted & labels, predicted, labels))
    return Confusion(both, called - both, positive - both, labels.size - called - positive + both)


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, exactly, in memory.

    It is the probability that a random membrane pixel scores higher than a
    random other one, where a tie counts one half (Mann and Whitney, 1947).

    Parameters
    ----------
    scores : of any real data type and scale; the higher, the more membrane.
    labels : of the same shape; not 0 is membrane.

    Returns
    -------
    The area; NaN if a class is missing.

    Raises
    ------
    ValueError : shapes that differ, NaN scores.
    """
    _, positive, negative = _counts_by_score(scores, labels)
    return _area(positive, negative)


def best_threshold(scores: np.ndarray, labels: np.ndarray,
                   positive_fraction: Optional[float] = None) -> BestThreshold:
    """The threshold that maximises F1, exactly, in memory.

    Parameters
    ----------
    scores, labels : see :func:`roc_auc`.
    positive_fraction : share of membrane in the volume that the threshold is
        for.  Samples drawn half and half overstate the precision there; with
        this fraction every sample is weighted so that the classes have the
        volume's balance.  By default the samples' own balance counts.

    Returns
    -------
    The threshold, half-way between two scores that occur, so that rounding
    does not matter (the lowest score where calling everything membrane is
    best), and the expected F1 there.  Of equally good ones the highest.

    Raises
    ------
    ValueError : no membrane pixel among the labels, a fraction outside (0, 1),
        shapes that differ, NaN scores.
    """
    values, positive, negative = _counts_by_score(scores, labels)
    index, f1 = _best_f1(positive, negative, positive_fraction)
    threshold = values[index] if index == 0 else (values[index] + values[index - 1]) / 2
    return BestThreshold(float(threshold), f1)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _same_shape(one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape:
        raise ValueError(f"shapes differ: {one.shape} and {other.shape}")


def _counts_by_score(scores: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that occur, ascending, and how many pixels of each class have them."""
    scores, labels = np.asarray(scores), np.asarray(labels) != 0
    _same_shape(scores, labels)
    # In double precision two neighbouring float32 scores have a number half-way between them.
    scores = scores.ravel().astype(np.float64)
    if np.isnan(scores).any():
        raise ValueError("scores are NaN")
    values, index = np.unique(scores, return_inverse=True)
    index, labels = index.ravel(), labels.ravel()
    return (values, np.bincount(index[labels], minlength=len(values)),
            np.bincount(index[~labels], minlength=len(values)))


def _area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Mann-Whitney's statistic from the counts at ascending scores, as a share of all pairs."""
    # In float64: counts of large volumes multiply to more than an int64 holds.
    positive, negative = positive.astype(np.float64), negative.astype(np.float64)
    below = np.cumsum(negative) - negative
    return _ratio(float(positive @ (below + negative / 2)), float(positive.sum() * negative.sum()))


def _best_f1(positive: np.ndarray, negative: np.ndarray,
             positive_fraction: Optional[float]) -> Tuple[int, float]:
    """Index of the lowest score to call membrane, and F1 then, from the counts at ascending scores."""
    positives, negatives = float(positive.sum()), float(negative.sum())
    if not positives:
        raise ValueError("there is no membrane pixel, so no threshold is best")
    weight, other_weight = 1.0, 1.0
    if positive_fraction is not None:
        if not 0 < positive_fraction < 1:
            raise ValueError(f"the positive fraction {positive_fraction} does not lie between 0 and 1")
        weight = positive_fraction / positives
        other_weight = (1 - positive_fraction) / negatives if negatives else 0.0
    hit = weight * np.cumsum(positive[::-1])[::-1]
    false_alarm = other_weight * np.cumsum(negative[::-1])[::-1]
    # Every threshold is a score that occurs, so hits and false alarms are never both 0, except in empty bins.
    f1 = 2 * hit / np.maximum(hit + false_alarm + weight * positives, np.finfo(float).tiny)
    index = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return index, float(f1[index])

"""Compare a probability map with labels, slice by slice.

    python -m pycaffe_tools.evaluate probability.tif membranes.tif

Membrane is the positive class.  The paper's A is the accuracy on as many
membrane as other pixels: of the numbers printed here the balanced accuracy.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike
from ..base.progress import Progress
from ..base.ranges import parse_slices
from ..patches.making import RIM
from ..patches.sources import EXCLUDED, POSITIVE, Pair, Source
from .histogram import ScoreHistogram
from .pixels import BestThreshold, Confusion, confusion
from .segments import Best, ThresholdScores

ROUNDING = 1e-5
"""How far a probability may lie outside 0 to 1 by float32's arithmetic."""


class Evaluation(NamedTuple):
    """What :func:`evaluate` found; scores that are not defined are NaN."""

    slices: List[int]
    excluded: int
    """Pixels that were left out."""
    threshold: float
    counts: Confusion
    """At ``threshold``."""
    best: Optional[BestThreshold]
    """Highest F1 on these pixels; None where there is no membrane.  Chosen on the pixels it is stated for, so a
    little too good: a threshold for other volumes has to come from validation slices."""
    best_counts: Optional[Confusion]
    auc: float
    auc_error: float
    """``auc`` is at most this far from the exact area."""
    segments: Optional[Dict[str, Best]]
    """``v_rand`` and ``v_info`` at their best thresholds, if asked for."""

    @property
    def positive_fraction(self) -> float:
        """Share of membrane among the pixels that count."""
        return (self.counts.true_positive + self.counts.false_negative) / max(sum(self.counts), 1)

    def as_dict(self) -> Dict[str, Any]:
        """Everything, for JSON; what is not defined is null."""
        content: Dict[str, Any] = {
            "slices": self.slices, "pixels": sum(self.counts), "excluded": self.excluded,
            "positive_fraction": self.positive_fraction, "auc": self.auc, "auc_error": self.auc_error,
            "at_threshold": {"threshold": self.threshold, **self.counts.scores(), **self.counts._asdict()}}
        if self.best is not None and self.best_counts is not None:
            content["at_best_f1"] = {"threshold": self.best.threshold, **self.best_counts.scores(),
                                     **self.best_counts._asdict()}
        for name, best in (self.segments or {}).items():
            content[name] = best._asdict()
        return _finite(content)


def evaluate(probability: PathLike, labels: PathLike, labels_are: str = "membrane", membrane_value: int = 255,
             rim: float = RIM, threshold: float = 0.5, exclude: Optional[PathLike] = None,
             add_labels: Optional[PathLike] = None, slices: Optional[str] = None, segments: bool = False,
             thin_truth: bool = False, crop: Optional[str] = None, axes: Optional[str] = None) -> Evaluation:
    """Compare a probability map (or a mask) with labels.

    Memory is that of a slice and of a histogram, whatever the volume.

    Parameters
    ----------
    probability : volume of float32 from 0 to 1, or uint8, where 255 is
        probability 1 (a mask of 0 and 1 is recognised by its highest value).
    labels, labels_are, membrane_value, rim, exclude, add_labels : what is
        membrane, as for :func:`pycaffe_tools.patches.making.make_database`.
    threshold : a pixel is called membrane where its probability is at least this.
    slices : half-open ranges of the labels' slices such as ``0:4,9``; all by
        default.  The map may hold all slices or just these.
    segments : compute V-Rand and V-Info too; see :mod:`pycaffe_tools.evaluate.segments`.
    thin_truth : for these, thin the labels' membranes.
    crop : ``Y0:Y1,X0:X1`` of the labels' slices, which is all that the map holds; whole slices by default.
    axes : of the files, where they are not YX or ZYX.

    Raises
    ------
    UserError : shapes that differ, values that are no probabilities, labels of more than two values.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold}: is not a probability; give a number from 0 to 1")
    pair = Pair(str(probability), str(labels), _text(exclude), _text(add_labels))
    with closing(Source(pair, labels_are, membrane_value, rim, axes, slices, crop)) as source:
        chosen = parse_slices(slices, source.labels.volume.shape[0])
        scale = _scale(source, chosen)
        histogram, counts, excluded = ScoreHistogram(), Confusion(0, 0, 0, 0), 0
        separated = ThresholdScores(thin_truth=thin_truth) if segments else None
        with Progress(len(chosen), "evaluating") as progress:
            for done, z in enumerate(chosen, 1):
                scores, classes = _probability(source, z, scale), source.classes(z)
                counted, membrane = classes != EXCLUDED, classes == POSITIVE
                histogram.add(scores[counted], membrane[counted])
                counts = counts.plus(confusion(_as_float(scores)[counted] >= threshold, membrane[counted]))
                excluded += int(counted.size - np.count_nonzero(counted))
                if separated is not None:
                    separated.add(_as_float(scores), membrane, ~counted)
                progress.update(done)
    best = histogram.best_threshold() if histogram.positive.any() else None
    return Evaluation(chosen, excluded, threshold, counts, best, histogram.at(best.threshold) if best else None,
                      histogram.auc(), histogram.auc_error, separated.best() if separated else None)


def _text(path: Optional[PathLike]) -> Optional[str]:
    return None if path is None else str(path)


def _scale(source: Source, chosen: List[int]) -> int:
    """What an integer map is multiplied with to span 0 to 255: 255 for a mask of 0 and 1, otherwise 1."""
    volume = source.raw
    if volume.dtype.kind == "f":
        return 1
    if volume.dtype != np.uint8:
        raise UserError(f"{volume.path}: is {volume.dtype}; give probabilities as float32 from 0 to 1 or as uint8 "
                        f"from 0 to 255")
    return 1 if any(source.grey(z).max() > 1 for z in chosen) else 255


def _probability(source: Source, z: int, scale: int) -> np.ndarray:
    """Slice ``z`` as :class:`ScoreHistogram` takes it: floating point from 0 to 1, or uint8 from 0 to 255."""
    scores = source.grey(z)
    if scores.dtype == np.uint8:
        return scores * np.uint8(scale)
    if scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING:
        raise UserError(f"{source.raw.path}: slice {z} holds values from {scores.min():g} to {scores.max():g}; "
                        f"give probabilities from 0 to 1 (or uint8 from 0 to 255)")
    return np.clip(scores, 0, 1)


def _as_float(scores: np.ndarray) -> np.ndarray:
    return scores / 255.0 if scores.dtype == np.uint8 else scores


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

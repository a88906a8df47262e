"""Compare a probability map with labels, slice by slice.

    python -m pycaffe_tools.evaluate probability.tif membranes.tif

Membrane is the positive class.  The paper's A is the accuracy on as many
membrane as other pixels: of the numbers printed here the balanced accuracy.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike
from ..base.progress import Progress
from ..patches.labels import RIM, LabelCoding
from ..patches.sources import POSITIVE, LabelledStack, Source
from ..volumes.paths import split_dataset
from .alignment import MapAlignment, crop_text
from .histogram import ScoreHistogram
from .pixels import BestThreshold, Confusion, confusion
from .reliability import Bin, expected_calibration_error, reliability
from .scores import ScoreScale, as_float
from .segments import Best, ThresholdScores


class Across(NamedTuple):
    """Scores with thresholds that come from other slices than those that are scored."""

    thresholds: Dict[int, float]
    """For each slice, the threshold of the highest F1 on all the others."""
    counts: Confusion
    """Summed over the slices, each at its own threshold."""


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
    crop: Optional[str]
    """Part of each slice that was evaluated, ``Y0:Y1,X0:X1``; None is all of it."""
    warnings: List[str]
    """Sentences on what makes the numbers doubtful."""
    across: Optional[Across] = None
    """If asked for."""
    reliability: Optional[List[Bin]] = None
    """If asked for."""

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
        if self.across is not None:
            content["across_slices"] = {"thresholds": {str(z): value for z, value in self.across.thresholds.items()},
                                        **self.across.counts.scores(), **self.across.counts._asdict()}
        if self.reliability is not None:
            content["reliability"] = {"expected_calibration_error": expected_calibration_error(self.reliability),
                                      "bins": [part._asdict() for part in self.reliability]}
        for name, best in (self.segments or {}).items():
            content[name] = best._asdict()
        if self.warnings:
            content["warnings"] = self.warnings
        finite: Dict[str, Any] = _finite(content)
        return finite


def evaluate(probability: PathLike, labels: PathLike, labels_are: str = "membrane",
             membrane_value: Optional[int] = None, rim: float = RIM, threshold: float = 0.5,
             exclude: Optional[PathLike] = None, add_labels: Optional[PathLike] = None, slices: Optional[str] = None,
             segments: bool = False, thin_truth: bool = False, crop: Optional[str] = None,
             axes: Optional[str] = None, *, ignore_values: Sequence[int] = (), full_scale: Optional[float] = None,
             ignore_slice_names: bool = False, across_slices: bool = False,
             reliable: bool = False, force: bool = False) -> Evaluation:
    """Compare a probability map (or a mask) with labels.

    Memory is that of a slice and of a histogram, whatever the volume.

    Parameters
    ----------
    probability : volume of float32 from 0 to 1, or uint8, where 255 is
        probability 1 (a mask of 0 and 1 is recognised by its highest value).
    labels, labels_are, membrane_value, rim, exclude, add_labels, ignore_values, ignore_slice_names : what is
        membrane, as for :func:`pycaffe_tools.patches.making.make_database`.
    threshold : a pixel is called membrane where its probability is at least this.
    slices : half-open ranges of the labels' slices such as ``0:4,9``; by default all that the map holds.  The map
        may hold all slices or just these; the provenance record beside it says which, where there is one.
    segments : compute V-Rand and V-Info too; see :mod:`pycaffe_tools.evaluate.segments`.
    thin_truth : for these, thin the labels' membranes.
    crop : ``Y0:Y1,X0:X1`` of the labels' slices, which is all that the map holds; by default what its provenance
        record says, or whole slices.
    axes : of the files, where they are not YX or ZYX.
    full_scale : value of the map that is probability 1, where it is not as above.
    across_slices : score each slice at the threshold of the highest F1 on the other slices, too; takes 1 MB a slice.
    reliable : compare probabilities with how often they are right; see :mod:`pycaffe_tools.evaluate.reliability`.
    force : accept labels of which more than half is membrane.

    Raises
    ------
    UserError : shapes that differ, values that are no probabilities, a map of other slices or another crop, labels
        that are not clear or mark more than half of the pixels, a single slice with ``across_slices``.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold}: is not a probability; give a number from 0 to 1")
    _refuse_same(probability, labels)
    stack = LabelledStack(str(probability), str(labels), _text(exclude), _text(add_labels))
    coding = LabelCoding(labels_are, membrane_value, tuple(ignore_values), rim)
    alignment = MapAlignment(slices, crop)
    with closing(Source(stack, coding, axes, ignore_slice_names, alignment.place)) as source:
        chosen, region = list(source.placement.raw_slices), source.placement.region
        if across_slices and len(chosen) < 2:
            raise UserError(f"{probability}: one slice is evaluated, and --across-slices takes thresholds from others; "
                            f"choose more with --slices")
        scale, by_slice = ScoreScale(source, chosen, full_scale), {}
        histogram, counts, excluded = ScoreHistogram(), Confusion(0, 0, 0, 0), 0
        separated = ThresholdScores(thin_truth=thin_truth) if segments else None
        with Progress(len(chosen), "evaluating") as progress:
            for done, z in enumerate(chosen, 1):
                part = source.read(z)
                scores, counted, membrane = scale.scores(part, z), part.counted, part.classes == POSITIVE
                histogram.add(scores[counted], membrane[counted])
                if across_slices:
                    by_slice[z] = ScoreHistogram()
                    by_slice[z].add(scores[counted], membrane[counted])
                counts = counts.plus(confusion(as_float(scores)[counted] >= threshold, membrane[counted]))
                excluded += int(counted.size - np.count_nonzero(counted))
                if separated is not None:
                    separated.add(as_float(scores), membrane, ~counted)
                progress.update(done)
        if not force:
            source.refuse_mostly_marked()
        auc = histogram.auc()
        doubts = alignment.warnings + source.doubts() + _worse_than_chance(auc, source)
        whole = region.shape == source.labels.volume.shape[1:] and crop is None
    best = histogram.best_threshold() if histogram.positive.any() else None
    return Evaluation(chosen, excluded, threshold, counts, best, histogram.at(best.threshold) if best else None, auc,
                      histogram.auc_error, separated.best() if separated else None,
                      None if whole else crop or crop_text(region), doubts,
                      _across(histogram, by_slice) if across_slices else None,
                      reliability(histogram) if reliable else None)


def _across(whole: ScoreHistogram, by_slice: Mapping[int, ScoreHistogram]) -> Optional[Across]:
    """Each slice at the best threshold of the others; None where the others of a slice have no membrane."""
    thresholds, counts = {}, Confusion(0, 0, 0, 0)
    for z, here in by_slice.items():
        others = whole.without(here)
        if not others.positive.any():
            return None
        thresholds[z] = others.best_threshold().threshold
        counts = counts.plus(here.at(thresholds[z]))
    return Across(thresholds, counts)


def _text(path: Optional[PathLike]) -> Optional[str]:
    return None if path is None else str(path)


def _refuse_same(probability: PathLike, labels: PathLike) -> None:
    (file, inner), (other, other_inner) = split_dataset(probability), split_dataset(labels)
    if file.resolve() == other.resolve() and inner == other_inner:
        raise UserError(f"{probability}: is given as the probabilities and as the labels; name the map first, then the labels")


def _worse_than_chance(auc: float, source: Source) -> List[str]:
    if not auc < 0.5:       # nor where it is not defined
        return []
    other = source.labels.opposite()
    advice = f"try --membrane-value {other:g}" if other is not None else "check --membrane-value"
    return [f"{source.raw.path}: its AUC is {auc:.4f}, less than the half of chance: it is higher where {source.stack.labels} "
            f"marks no membrane; {advice}, and check that the map holds probabilities of membrane, of these slices"]


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""How well cells are separated: V-Rand and V-Info, the scores of the ISBI 2012 challenge.

A segmentation gives every pixel the number of its segment.  With p_ij the
share of pixels in segment i of the proposal and j of the truth, and s_i, t_j
its sums (Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015):

=========  ============================  ============================
score      split                         merge
=========  ============================  ============================
V-Rand     sum p_ij^2 / sum t_j^2        sum p_ij^2 / sum s_i^2
V-Info     I(S; T) / H(S)                I(S; T) / H(T)
=========  ============================  ============================

A proposal that cuts segments apart lowers ``split``, one that joins them lowers
``merge``; 1 is perfect, and the score is the harmonic mean of both.  Exchanging
proposal and truth exchanges split and merge.

Conventions, since public implementations differ in them:

* foreground-restricted: pixels that are membrane in the truth are left out;
* a pixel is paired with itself too (the sums above are over all pairs);
* membrane of the proposal inside the truth's segments: after border thinning
  (the default, as in the challenge) it has joined the nearest segment; without
  thinning each such pixel is a segment of its own;
* segments are 4-connected in 2-D, slice by slice; a volume's score at a threshold is
  the mean of its slices' scores, and the best threshold is the volume's.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(11))
"""0, 0.1 ... 1, as in the challenge's own script."""


class SplitMerge(NamedTuple):
    """A score's two terms; see the module's table."""

    split: float
    merge: float

    @property
    def score(self) -> float:
        """Harmonic mean of the terms."""
        total = self.split + self.merge
        return 2 * self.split * self.merge / total if total else 0.0


class Best(NamedTuple):
    """The best score over thresholds, its terms, and the threshold."""

    score: float
    split: float
    merge: float
    threshold: float


def v_rand(proposal: np.ndarray, truth: np.ndarray) -> SplitMerge:
    """V-Rand of two arrays of segment numbers.

    Parameters
    ----------
    proposal : integers, 0 is membrane: each such pixel counts as a segment of its own.
    truth : of the same shape; pixels of 0 are left out.

    Returns
    -------
    The terms; NaN where the truth has no segment.
    """
    table = _Table(proposal, truth)
    if not table.total:
        return SplitMerge(float("nan"), float("nan"))
    together = _squares(table.joint)
    return SplitMerge(together / _squares(table.truth), together / _squares(table.proposal))


def v_info(proposal: np.ndarray, truth: np.ndarray) -> SplitMerge:
    """V-Info of two arrays of segment numbers; parameters and result as for :func:`v_rand`.

    Where one side is a single segment its entropy is 0 and nothing of it can
    be split (or merged): that term is 1.
    """
    table = _Table(proposal, truth)
    if not table.total:
        return SplitMerge(float("nan"), float("nan"))
    of_proposal, of_truth, joint = (_entropy(part, table.total) for part in
                                    (table.proposal, table.truth, table.joint))
    shared = max(of_proposal + of_truth - joint, 0.0)
    return SplitMerge(*(min(shared / entropy, 1.0) if entropy > 1e-12 else 1.0 for entropy in (of_proposal, of_truth)))


def segments(membrane: np.ndarray, thin: bool = False) -> np.ndarray:
    """Number the 4-connected areas between membranes of one slice.

    Parameters
    ----------
    membrane : y by x, not 0 is membrane.
    thin : whether every membrane pixel joins the segment nearest to it
        (Euclidean), so that borders have no width.  Without any segment the
        slice becomes one.

    Returns
    -------
    int32 array; 0 is membrane.
    """
    from scipy import ndimage

    found, count = ndimage.label(np.asarray(membrane) == 0)
    numbers = np.asarray(found, np.int32)
    if not thin:
        return numbers
    if not count:
        return np.ones_like(numbers)
    nearest = ndimage.distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    joined: np.ndarray = numbers[tuple(nearest)]
    return joined


class ThresholdScores:
    """V-Rand and V-Info of a probability map over thresholds, slice by slice.

    Parameters
    ----------
    thresholds : a pixel is membrane where its probability is at least this.
    thin : border thinning of the proposal.
    thin_truth : thin the truth's membranes as well, so that all of its pixels count: for labels
        that are drawn much wider than the membranes.
    """

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS, thin: bool = True, thin_truth: bool = False):
        self.thresholds = tuple(thresholds)
        self.thin, self.thin_truth = thin, thin_truth
        self._rand: List[List[SplitMerge]] = []
        self._info: List[List[SplitMerge]] = []

    def add(self, probability: np.ndarray, truth_membrane: np.ndarray,
            exclude: Optional[np.ndarray] = None) -> None:
        """Score one slice; a slice that is all membrane is left out.

        Parameters
        ----------
        probability : y by x, 0 to 1.
        truth_membrane : y by x, not 0 is membrane.
        exclude : y by x, bool; these pixels are left out, though they may connect segments.
        """
        truth = segments(truth_membrane, self.thin_truth)
        if exclude is not None:
            truth = np.where(exclude, 0, truth)
        if not truth.any():
            return
        proposals = [segments(probability >= threshold, self.thin) for threshold in self.thresholds]
        self._rand.append([v_rand(proposal, truth) for proposal in proposals])
        self._info.append([v_info(proposal, truth) for proposal in proposals])

    def best(self) -> Dict[str, Best]:
        """The best mean ``"v_rand"`` and ``"v_info"`` of the slices; NaN where there was none."""
        return {"v_rand": self._best(self._rand), "v_info": self._best(self._info)}

    def _best(self, slices: List[List[SplitMerge]]) -> Best:
        if not slices:
            nothing = float("nan")
            return Best(nothing, nothing, nothing, nothing)
        scores = np.array([[(part.score, part.split, part.merge) for part in row] for row in slices]).mean(axis=0)
        first = int(np.argmax(scores[:, 0]))
        score, split, merge = (float(value) for value in scores[first])
        return Best(score, split, merge, float(self.thresholds[first]))


class _Table:
    """Numbers of pixels by segment of the proposal, of the truth, and of both, on the truth's foreground."""

    def __init__(self, proposal: np.ndarray, truth: np.ndarray):
        proposal, truth = np.asarray(proposal), np.asarray(truth)
        if proposal.shape != truth.shape:
            raise ValueError(f"shapes differ: {proposal.shape} and {truth.shape}")
        foreground = truth != 0
        own, row = np.unique(proposal[foreground], return_inverse=True)
        names, column = np.unique(truth[foreground], return_inverse=True)
        row, column = row.ravel(), column.ravel()
        self.total = int(foreground.sum())
        self.truth = np.bincount(column, minlength=len(names))
        pairs, joint = np.unique(row * max(len(names), 1) + column, return_counts=True)
        single = own[pairs // max(len(names), 1)] == 0 if len(own) else np.zeros(0, bool)
        alone = np.ones(int(joint[single].sum()), dtype=joint.dtype)  # the proposal's membrane, pixel by pixel
        self.joint = np.concatenate([joint[~single], alone])
        self.proposal = np.concatenate([np.bincount(row, minlength=len(own))[own != 0], alone])


def _squares(counts: np.ndarray) -> float:
    counts = counts.astype(np.float64)
    return float(counts @ counts)


def _entropy(counts: np.ndarray, total: int) -> float:
    share = counts / total
    return float(-(share * np.log(share)).sum())

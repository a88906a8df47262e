"""Fits the calibration of a trained network on the validation patches of its database."""

from __future__ import annotations

import numpy as np

from ..nets.calibration import Calibration, log_odds


def fit_calibration(probabilities: np.ndarray, labels: np.ndarray, membrane_share: float) -> Calibration:
    """The temperature and offset of least mean loss on validation patches, half of which are membrane.

    Parameters
    ----------
    probabilities : float, n, of membrane.
    labels : n, 1 membrane and 0 not; patches of both classes.
    membrane_share : of the pixels of the validation slices.

    Notes
    -----
    Loss is convex in 1 / temperature and offset; Newton's method from 1 and 0.  Where the patches are separated without
    error, no temperature is best: then the network's own is kept.
    """
    odds, member = log_odds(probabilities), np.asarray(labels) == 1
    columns = np.stack([odds, np.ones_like(odds)], axis=1)
    # The classes count alike, however many patches each has.
    weight = np.where(member, 0.5 / max(member.sum(), 1), 0.5 / max((~member).sum(), 1))
    slope = np.array([1.0, 0.0])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-(columns @ slope)))
        gradient = columns.T @ (weight * (predicted - member))
        hessian = (columns * (weight * predicted * (1 - predicted))[:, np.newaxis]).T @ columns + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        slope = slope - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    if not (np.isfinite(slope).all() and 1e-3 < slope[0] < 1e3):
        slope = np.array([1.0, 0.0])
    return Calibration(float(1 / slope[0]), float(slope[1]), float(membrane_share))

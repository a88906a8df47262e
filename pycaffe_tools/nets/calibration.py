"""Probabilities that mean what they say, from a network that was trained on as many membrane as other pixels.

A balanced network's output is the probability of membrane in a world where half of all pixels are membrane.  On the scale
of log-odds, calibration divides by a temperature and adds an offset, both fitted on validation patches
(:mod:`pycaffe_tools.train.calibration`), and adds the log-odds of the share of membrane that a volume really has (the prior
shift; M. Saerens, P. Latinne, C. Decaestecker, Neural Computation 14, 2002, eq. 4; temperature: C. Guo et al., ICML 2017).
"""

from __future__ import annotations

import math
from typing import Dict, NamedTuple

import numpy as np

from ..base.fields import Fields

NEAREST = 1e-7
"""Distance to 0 and 1 within which float32 probabilities are taken as that far away: their log-odds are not known better."""


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Of probabilities, as float64, kept away from infinity by :data:`NEAREST`."""
    inside = np.clip(np.asarray(probability, np.float64), NEAREST, 1 - NEAREST)
    return np.log(inside) - np.log1p(-inside)


class Calibration(NamedTuple):
    """How a balanced network's probabilities become those of a volume.

    Attributes
    ----------
    temperature : above 0; above 1 where the network is too sure of itself.
    offset : in log-odds.
    membrane_share : of the pixels of a volume, between 0 and 1.
    """

    temperature: float
    offset: float
    membrane_share: float

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float32, of the same shape."""
        shift = self.offset + math.log(self.membrane_share) - math.log1p(-self.membrane_share)
        scaled = log_odds(probability) / self.temperature + shift
        return (1 / (1 + np.exp(-scaled))).astype(np.float32)

    def as_json(self) -> Dict[str, float]:
        """For ``model.json``."""
        return {key: round(value, 6) for key, value in self._asdict().items()}


def read_calibration(fields: Fields) -> Calibration:
    """A calibration as ``model.json`` has it.

    Raises
    ------
    UserError : a number that cannot be.
    """
    return Calibration(fields.number("temperature", above=0.0), fields.number("offset"),
                       fields.number("membrane_share", 0.0, 1.0, above=0.0))

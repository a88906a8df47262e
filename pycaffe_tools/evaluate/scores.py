"""What the values of a map mean as probabilities, and what is no probability map."""

from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..patches.labels import Number, listed
from ..patches.sources import LabelledSlice, Source
from ..volumes.provenance import PROBABILITY, read_provenance

ROUNDING = 1e-5
"""How far a probability may lie outside 0 to 1 by float32's arithmetic."""

FEW_VALUES = 8
"""A map of 8 bits with no more different values than this, two excepted, is an image of labels."""

FLAT = 0.8
"""Share of pixels with the value of their right neighbour, 0, 1, 254 and 255 aside, from which an image is of labels."""


class ScoreScale:
    """Turns the values of a map into probabilities.

    Parameters
    ----------
    source : the map and its labels.
    slices : those to be evaluated.
    full_scale : the value that is probability 1; None is 1 for floating point and 255 for uint8, but the higher value
        of a mask of 0 and 1.

    Raises
    ------
    UserError : values that are no probabilities as far as can be told.
    """

    def __init__(self, source: Source, slices: Sequence[int], full_scale: Optional[float] = None):
        self._path, self._full_scale, self._factor = source.raw.path, full_scale, 1
        if full_scale is not None or source.raw.dtype.kind == "f":
            return
        if source.raw.dtype != np.uint8:
            raise UserError(f"{self._path}: is {source.raw.dtype}; give probabilities as float32 from 0 to 1 or as uint8 from 0 "
                            f"to 255, or pass the value of probability 1 with --full-scale, such as 65535")
        record = read_provenance(self._path)
        if record is not None and record["content"] == PROBABILITY:
            return              # what wrote it says what it is, however few values a flat map has
        found = _ByteValues()
        for z in slices:
            found.add(source.read(z))
        if found.values and found.values[-1] <= 1:
            self._factor = 255
        else:
            found.refuse_labels(self._path)

    def scores(self, part: LabelledSlice, z: int) -> np.ndarray:
        """The map of slice ``z``: uint8 where 255 is probability 1, or floating point from 0 to 1; excluded pixels may
        hold anything in this range.

        Raises
        ------
        UserError : values outside.
        """
        if part.grey.dtype == np.uint8 and self._full_scale is None:
            scaled: np.ndarray = part.grey * np.uint8(self._factor)
            return scaled
        scores = part.grey if self._full_scale is None else part.grey / float(self._full_scale)
        counted = scores[part.counted]
        if counted.size and (counted.min() < -ROUNDING or counted.max() > 1 + ROUNDING):
            grey = part.grey[part.counted]
            raise UserError(f"{self._path}: slice {z} holds values from {grey.min():g} to {grey.max():g}; give probabilities "
                            f"from 0 to 1 (or uint8 from 0 to 255), or pass the value of probability 1 with --full-scale, "
                            f"such as 100 for percent")
        return np.clip(np.where(part.counted, scores, 0), 0, 1)


class _ByteValues:
    """The values of a map of 8 bits, and how flat it is."""

    def __init__(self) -> None:
        self._counts = np.zeros(256, np.int64)
        self._between = self._flat = 0

    def add(self, part: LabelledSlice) -> None:
        counted, grey = part.counted, part.grey
        self._counts += np.bincount(grey[counted], minlength=256)
        inside = counted[:, :-1] & counted[:, 1:] & (grey[:, :-1] > 1) & (grey[:, :-1] < 254)
        self._between += int(np.count_nonzero(inside))
        self._flat += int(np.count_nonzero(inside & (grey[:, :-1] == grey[:, 1:])))

    @property
    def values(self) -> List[Number]:
        """Values that occur, ascending."""
        return [int(value) for value in np.flatnonzero(self._counts)]

    def refuse_labels(self, path: str) -> None:
        """Raise :class:`UserError` where this is an image of labels, or percentages."""
        values = self.values
        if len(values) < 2 or values == [0, 255]:
            return
        if len(values) <= FEW_VALUES or self._flat > FLAT * self._between > 0:
            raise UserError(f"{path}: holds the values {listed(values)}, and looks like an image of labels; give probabilities, "
                            f"or pass the value of probability 1 with --full-scale if it is one")
        if values[-1] <= 100:
            raise UserError(f"{path}: its highest value is {values[-1]}, and 255 is probability 1; pass --full-scale 100 if "
                            f"these are percentages, or --full-scale 255 if not")


def as_float(scores: np.ndarray) -> np.ndarray:
    """Scores of :meth:`ScoreScale.scores` in floating point from 0 to 1."""
    return scores / 255.0 if scores.dtype == np.uint8 else scores

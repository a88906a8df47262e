"""The size of a pixel, as the formats of electron microscopy write it down.

Calibration is kept in nanometres, axis by axis, and what a file does not say
stays unknown (None): it never becomes 1.  Each format has its own way to
say it, and some of them say something meaningless by default (72 dots per
inch).  What is common is here; each kind of file adds how it says it.

>>> to_nm(0.005, "micron")
5.0
>>> to_nm(1, "pixel") is None
True
"""

from __future__ import annotations

import math
from typing import Any, List, NamedTuple, Optional, Sequence

NM_PER_UNIT = {"nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "nanometre": 1.0, "nanometres": 1.0,
               "um": 1e3, "micron": 1e3, "microns": 1e3, "micrometer": 1e3, "micrometers": 1e3,
               "micrometre": 1e3, "micrometres": 1e3, "mm": 1e6, "millimeter": 1e6, "millimetre": 1e6,
               "millimeters": 1e6, "millimetres": 1e6, "cm": 1e7, "centimeter": 1e7, "centimetre": 1e7,
               "centimeters": 1e7, "centimetres": 1e7, "m": 1e9, "meter": 1e9, "metre": 1e9, "meters": 1e9, "metres": 1e9,
               "inch": 2.54e7, "inches": 2.54e7, "in": 2.54e7,
               "angstrom": 0.1, "angstroms": 0.1, "\u00e5": 0.1, "\u00e5ngstr\u00f6m": 0.1, "pm": 1e-3, "picometer": 1e-3}


LARGEST_NM = 1e5
"""0.1 mm: what is larger is in units of paper, and not the pixel of a micrograph."""


class PixelSize(NamedTuple):
    """Edge lengths of a voxel in nm; None where nothing is known."""

    z: Optional[float] = None
    y: Optional[float] = None
    x: Optional[float] = None

    def as_list(self) -> List[Optional[float]]:
        """``[z, y, x]``, as JSON files of this package hold it."""
        return list(self)

    @property
    def known(self) -> bool:
        """Whether all three axes are known."""
        return all(size is not None for size in self)


UNKNOWN_PIXEL_SIZE = PixelSize()


def to_nm(length: Any, unit: Optional[str]) -> Optional[float]:
    """``length`` in ``unit`` as nm; None if the unit is unknown, or the length is not positive, not finite or above 0.1 mm."""
    try:
        scale = NM_PER_UNIT[plain_unit(unit)]
        size = float(length) * scale
    except (KeyError, TypeError, ValueError):
        return None
    # Ten digits: a reciprocal kept as a rational comes back as 4.6 and not as 4.600000000000001.
    return float(f"{size:.10g}") if math.isfinite(size) and 0 < size <= LARGEST_NM else None


def plain_unit(unit: Optional[str]) -> str:
    """A unit in lower case, with ``u`` for the micro sign in all its spellings."""
    # ImageJ writes the micro sign as the six characters \u00B5; Unicode has two of them.
    text = str(unit or "").strip().lower().replace("\\u00b5", "u").replace("\\u00c5", "\u00e5")
    return text.replace("\u00b5", "u").replace("\u03bc", "u")


def from_list(sizes: Optional[Sequence[Optional[float]]]) -> PixelSize:
    """A :class:`PixelSize` from ``[z, y, x]`` in nm, e.g. out of a JSON file; None is all unknown."""
    return PixelSize(*(to_nm(size, "nm") for size in sizes)) if sizes is not None else PixelSize()

"""EMD files, which are HDF5: those of Velox (Thermo Fisher) and those of the Berkeley definition."""

from __future__ import annotations

import json
import re
from typing import Any, Optional

import numpy as np

from ..attributes import texts
from ..axes import letters_of
from ..pixel_size import PixelSize, to_nm

_VELOX = re.compile(r"^/Data/Image/[^/]+/Data$")


def is_image(data: Any) -> bool:
    """Whether an ``h5py.Dataset`` is an image of either kind of EMD."""
    return _is_velox(data) or _is_berkeley(data)


def axes_of(data: Any) -> Optional[str]:
    """A letter for each dimension, or None where the file does not name them.  Velox puts frames last."""
    if _is_velox(data):
        return "YXT" if data.ndim == 3 else "YX"
    if _is_berkeley(data):
        return letters_of([_name(_dimension(data, number)) for number in range(data.ndim)])
    return None


def pixel_size_of(data: Any, axes: str) -> PixelSize:
    """Pixel size of an image of either kind; the distance of Velox's frames is not known."""
    if _is_velox(data):
        try:
            content = bytes(np.asarray(data.parent["Metadata"])[:, 0]).split(b"\0", 1)[0]
            result = json.loads(content.decode("utf-8"))["BinaryResult"]
            return PixelSize(None, to_nm(result["PixelSize"]["height"], result["PixelUnitY"]),
                             to_nm(result["PixelSize"]["width"], result["PixelUnitX"]))
        except (KeyError, ValueError, TypeError, IndexError):
            return PixelSize()
    sizes = {}
    if _is_berkeley(data):
        for number, letter in enumerate(axes):
            dimension = _dimension(data, number)
            if dimension is not None:
                sizes[letter] = spacing(dimension[()], dimension.attrs.get("units"))
    return PixelSize(*(sizes.get(letter) for letter in "ZYX"))


def spacing(coordinates: Any, unit: Any) -> Optional[float]:
    """Distance in nm of evenly spaced coordinates; None where they are not, or the unit is unknown.

    >>> spacing([0, 4, 8], "[n_m]")
    4.0
    """
    steps = np.diff(np.asarray(coordinates, np.float64).ravel())
    named = texts(unit)
    if not steps.size or named is None or not np.allclose(steps, steps[0], rtol=1e-3):
        return None
    # The Berkeley definition writes units as [n_m] or [u_m].
    return to_nm(abs(float(steps.mean())), re.sub(r"[\[\]_]", "", named[0]))


def _is_velox(data: Any) -> bool:
    return _VELOX.match(data.name) is not None and data.ndim in (2, 3)


def _is_berkeley(data: Any) -> bool:
    return "emd_group_type" in data.parent.attrs and data.name.endswith("/data")


def _dimension(data: Any, number: int) -> Any:
    return data.parent.get(f"dim{number + 1}")


def _name(dimension: Any) -> str:
    return (texts(dimension.attrs.get("name")) or [""])[0] if dimension is not None else ""

"""What the attributes of an array in HDF5, Zarr or N5 say: the names of its dimensions and the size of a pixel."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from .axes import letters_of
from .pixel_size import PixelSize, to_nm

SMALLEST_IMPLIED_NM = 0.1
"""Sizes below this without a unit are not taken for nm: electron micrographs of tissue have no such pixels, and
micrometres are likelier."""


def declared_axes(path: str, dimensions: int, attributes: Mapping[str, Any],
                  labels: Sequence[Any] = ()) -> Optional[str]:
    """A letter for each dimension of an array, as its file names them.

    Read are ilastik's ``axistags``, dimension labels (HDF5, netCDF, Zarr 3), xarray's ``_ARRAY_DIMENSIONS``, funlib's
    ``axis_names`` and N5's ``axes``.

    Parameters
    ----------
    path : what to call the file in messages.
    dimensions : how many the array has.
    attributes : of the array.
    labels : one for each dimension, empty where the file has none.

    Raises
    ------
    UserError : two of them contradict each other.
    """
    found = {"axistags": [tag.get("key", "?") for tag in axistags(attributes) or []], "dimension labels": list(labels)}
    for name in ("_ARRAY_DIMENSIONS", "axis_names", "axes"):
        found[name] = texts(attributes.get(name)) or []
    # Some write the letters of all dimensions as one word.
    named = {name: letters_of(list(names[0]) if len(names) == 1 and dimensions > 1 else names)
             for name, names in found.items()}
    clear = {name: letters for name, letters in named.items() if letters is not None and len(letters) == dimensions}
    if len(set(clear.values())) > 1:
        said = " and ".join(f"{letters} by its {name}" for name, letters in clear.items())
        raise UserError(f"{path}: has the axes {said}; say which is right with --axes")
    return next(iter(clear.values()), None)


def axistags(attributes: Mapping[str, Any]) -> Optional[List[Dict[str, Any]]]:
    """ilastik's (vigra's) ``axistags`` as a list of dictionaries, or None."""
    try:
        return list(json.loads(_text(attributes["axistags"]))["axes"])
    except (KeyError, ValueError, TypeError):
        return None


def pixel_size_of(holders: Sequence[Mapping[str, Any]], axes: str) -> PixelSize:
    """Pixel size of an array.

    Read in this order: this package's ``pixel_size_nm``, CREMI's ``resolution``
    (nm unless a unit is given), funlib's ``voxel_size`` (with ``units``),
    N5's ``pixelResolution``, plant-seg's ``element_size_um``, and ilastik's
    ``axistags``.  ``pixel_size_nm`` and ``element_size_um`` are documented as
    z, y, x; the others go with the dimensions of the array.

    Parameters
    ----------
    holders : attributes of the array, then of the groups above it.
    axes : a letter for each dimension of the array.
    """
    for name, unit in (("pixel_size_nm", "nm"), ("resolution", None), ("voxel_size", None), ("pixelResolution", None),
                       ("element_size_um", "um")):
        for holder in holders:
            values, units = _with_units(holder.get(name))
            if values is None:
                continue
            if unit is not None:
                return PixelSize(*(to_nm(value, unit) for value in values)) if len(values) == 3 else PixelSize()
            units = units or next((given for given in map(_units, (holder, *holders)) if given), None)
            return _along_axes(values, units, axes, implied="nm" if name == "resolution" else None)
    found = {str(tag.get("key", "")).upper(): tag for tag in (axistags(holders[0]) if holders else None) or []}
    return PixelSize(*(to_nm(found[axis].get("resolution"), _tag_unit(found[axis])) if axis in found else None
                       for axis in "ZYX"))


def _with_units(value: Any) -> Any:
    """Numbers of an attribute, and their units where it holds them itself (N5's ``{"dimensions": ..., "unit": ...}``)."""
    units = None
    if isinstance(value, Mapping):
        value, units = value.get("dimensions"), _units(value)
    try:
        values = [float(each) for each in np.ravel(value)] if value is not None else None
    except (TypeError, ValueError):
        values = None
    return values, units


def _units(holder: Mapping[str, Any]) -> Optional[List[str]]:
    return next((found for found in (texts(holder.get(name)) for name in ("units", "unit")) if found), None)


def _along_axes(values: Sequence[float], units: Optional[Sequence[str]], axes: str, implied: Optional[str]) -> PixelSize:
    spatial = [letter for letter in axes if letter in "ZYX"]
    if len(values) == len(axes):
        letters: Sequence[str] = list(axes)
    elif len(values) == len(spatial):
        letters = spatial
    elif len(values) == 3 and spatial == ["Y", "X"]:
        letters = list("ZYX")
    else:
        return PixelSize()
    if units is None:
        if implied is None or any(value < SMALLEST_IMPLIED_NM for value in values):
            return PixelSize()
        units = [implied]
    if len(units) == 1:
        units = list(units) * len(values)
    if len(units) == len(axes) != len(values):
        units = [unit for unit, letter in zip(units, axes) if letter in letters]
    if len(units) != len(values):
        return PixelSize()
    sizes = {letter: to_nm(value, unit) for letter, value, unit in zip(letters, values, units)}
    return PixelSize(*(sizes.get(letter) for letter in "ZYX"))


def _tag_unit(tag: Mapping[str, Any]) -> str:
    """vigra has no unit; ilastik writes it as a field or into the description, e.g. ``unit: nm``."""
    if tag.get("unit"):
        return str(tag["unit"])
    named = re.search(r"\b(nm|um|\u00b5m|micron|mm)\b", str(tag.get("description", "")))
    return named.group(1) if named else ""


def texts(value: Any) -> Optional[List[str]]:
    """A text or a list of texts, in whichever of its ways a library gives them; None for anything else."""
    if isinstance(value, (str, bytes)):
        return [_text(value)]
    try:
        found = list(np.ravel(value)) if value is not None else []
    except (TypeError, ValueError):
        return None
    return [_text(each) for each in found] if found and all(isinstance(each, (str, bytes)) for each in found) else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def multiscale_pixel_size(multiscale: Mapping[str, Any], level: int = 0) -> PixelSize:
    """Pixel size of one level of an OME-NGFF ``multiscales`` entry; an axis without a unit is unknown."""
    sizes = {}
    scales = [step["scale"] for part in (multiscale["datasets"][level], multiscale)
              for step in part.get("coordinateTransformations", []) if step.get("type") == "scale" and "scale" in step]
    for position, axis in enumerate(multiscale.get("axes", [])):
        if isinstance(axis, Mapping) and scales:
            length = math.prod(float(scale[position]) for scale in scales)
            sizes[str(axis.get("name", "")).upper()] = to_nm(length, axis.get("unit"))
    return PixelSize(*(sizes.get(axis) for axis in "ZYX"))

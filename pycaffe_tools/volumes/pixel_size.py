"""The size of a pixel, as the formats of electron microscopy write it down.

Calibration is kept in nanometres, axis by axis, and what a file does not say
stays unknown (None): it never becomes 1.  Each format has its own way to
say it, and some of them say something meaningless by default (72 dots per
inch), so all of it is read in this one place.

>>> to_nm(0.005, "micron")
5.0
>>> to_nm(1, "pixel") is None
True
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Mapping, NamedTuple, Optional, Sequence

NM_PER_UNIT = {"nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "nanometre": 1.0, "nanometres": 1.0,
               "um": 1e3, "micron": 1e3, "microns": 1e3, "micrometer": 1e3, "micrometers": 1e3,
               "micrometre": 1e3, "micrometres": 1e3, "mm": 1e6, "millimeter": 1e6, "millimetre": 1e6,
               "cm": 1e7, "centimeter": 1e7, "centimetre": 1e7, "m": 1e9, "meter": 1e9, "metre": 1e9,
               "inch": 2.54e7, "inches": 2.54e7, "in": 2.54e7,
               "angstrom": 0.1, "angstroms": 0.1, "\u00e5": 0.1, "pm": 1e-3, "picometer": 1e-3}

PRINTER_PIXEL_NM = 1e4
"""Resolution tags that say 10 um a pixel or more come from a printer's 72, 96 or 300 dots per inch
(85 um and more), never from an electron microscope."""

_TIFF_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}


class PixelSize(NamedTuple):
    """Edge lengths of a voxel in nm; None where nothing is known."""

    z: Optional[float] = None
    y: Optional[float] = None
    x: Optional[float] = None

    def as_list(self) -> list:
        """``[z, y, x]``, as JSON files of this package hold it."""
        return list(self)

    @property
    def known(self) -> bool:
        """Whether all three axes are known."""
        return all(size is not None for size in self)


UNKNOWN_PIXEL_SIZE = PixelSize()


def to_nm(length: Any, unit: Optional[str]) -> Optional[float]:
    """``length`` in ``unit`` as nm; None if the length is not positive and finite or the unit is unknown."""
    try:
        scale = NM_PER_UNIT[_plain_unit(unit)]
        size = float(length) * scale
    except (KeyError, TypeError, ValueError):
        return None
    # Ten digits: a reciprocal kept as a rational comes back as 4.6 and not as 4.600000000000001.
    return float(f"{size:.10g}") if math.isfinite(size) and size > 0 else None


def _plain_unit(unit: Optional[str]) -> str:
    # ImageJ writes the micro sign as the six characters \u00B5; Unicode has two of them.
    text = str(unit or "").strip().lower().replace("\\u00b5", "u").replace("\\u00c5", "\u00e5")
    return text.replace("\u00b5", "u").replace("\u03bc", "u")


def from_list(sizes: Optional[Sequence[Optional[float]]]) -> PixelSize:
    """A :class:`PixelSize` from ``[z, y, x]`` in nm, e.g. out of a JSON file; None is all unknown."""
    return PixelSize(*(to_nm(size, "nm") for size in sizes)) if sizes is not None else PixelSize()


# TIFF

def of_tiff(tif: Any) -> PixelSize:
    """Pixel size of a ``tifffile.TiffFile``: OME-XML, ImageJ, JSON description, or plain tags, in this order."""
    page = tif.pages[0]
    if tif.is_ome:
        return _of_ome_xml(tif.ome_metadata)
    if tif.is_imagej:
        return _of_imagej(page, tif.imagej_metadata or {})
    from_json = _of_json(page.description)
    if from_json is not None:
        return from_json
    unit = _TIFF_RESOLUTION_UNITS.get(_tag(page, "ResolutionUnit", 1))
    y, x = (to_nm(_per_pixel(page, tag), unit) for tag in ("YResolution", "XResolution"))
    return PixelSize(None, *(size if size is not None and size < PRINTER_PIXEL_NM else None for size in (y, x)))


def _of_ome_xml(text: Optional[str]) -> PixelSize:
    try:
        root = ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return PixelSize()
    for element in root.iter():
        if element.tag.rsplit("}", 1)[-1] == "Pixels":
            return PixelSize(*(to_nm(element.get(f"PhysicalSize{axis}"), element.get(f"PhysicalSize{axis}Unit", "um"))
                               for axis in "ZYX"))
    return PixelSize()


def _of_imagej(page: Any, metadata: Mapping[str, Any]) -> PixelSize:
    if "pixel_size_nm" in metadata:     # our own line, where ImageJ's fields cannot say which axis is unknown
        return from_list([_number(part) for part in str(metadata["pixel_size_nm"]).split(",")])
    unit = metadata.get("unit")
    sizes = PixelSize(to_nm(metadata.get("spacing"), unit),
                      to_nm(_per_pixel(page, "YResolution"), metadata.get("yunit", unit)),
                      to_nm(_per_pixel(page, "XResolution"), unit))
    if _plain_unit(unit).startswith("in") and (sizes.x or PRINTER_PIXEL_NM) >= PRINTER_PIXEL_NM:
        return PixelSize()
    return sizes


def _of_json(description: str) -> Optional[PixelSize]:
    try:
        sizes = json.loads(description)["pixel_size_nm"]
        if isinstance(sizes, Mapping):
            sizes = [sizes.get(axis) for axis in "zyx"]
        return from_list(list(sizes))
    except (ValueError, KeyError, TypeError):
        return None


def _per_pixel(page: Any, tag: str) -> Optional[float]:
    value = _tag(page, tag, None)
    try:
        numerator, denominator = value
        return denominator / numerator
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _tag(page: Any, name: str, default: Any) -> Any:
    tag = page.tags.get(name)
    return default if tag is None else tag.value


def _number(text: Any) -> Optional[float]:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


# HDF5

def of_hdf5(dataset: Any, axes: str) -> PixelSize:
    """Pixel size of an ``h5py.Dataset`` whose axes are named by the letters ``axes`` (``"ZYX"``).

    Read in this order: this package's ``pixel_size_nm``, CREMI's ``resolution``
    (nm unless a ``unit`` is there; on the dataset or its file), plant-seg's
    ``element_size_um``, and ilastik's ``axistags``.  All but the last list z, y, x.
    """
    for name, unit in (("pixel_size_nm", "nm"), ("resolution", None), ("element_size_um", "um")):
        for holder in (dataset, dataset.file):
            values = holder.attrs.get(name)
            if values is not None and getattr(values, "shape", None) == (3,):
                return PixelSize(*(to_nm(value, unit or _hdf5_unit(holder)) for value in values))
    keys = axistags(dataset)
    found = {str(tag.get("key", "")).upper(): tag for tag in keys or []}
    return PixelSize(*(to_nm(found[axis].get("resolution"), _tag_unit(found[axis])) if axis in found else None
                       for axis in "ZYX"))


def axistags(dataset: Any) -> Optional[list]:
    """ilastik's (vigra's) ``axistags`` of a dataset as a list of dictionaries, or None."""
    try:
        return list(json.loads(_text(dataset.attrs["axistags"]))["axes"])
    except (KeyError, ValueError, TypeError):
        return None


def _hdf5_unit(holder: Any) -> str:
    unit = holder.attrs.get("unit", holder.attrs.get("units", "nm"))
    return _text(unit) if isinstance(unit, (str, bytes)) else "nm"


def _tag_unit(tag: Mapping[str, Any]) -> str:
    """vigra has no unit; ilastik writes it as a field or into the description, e.g. ``unit: nm``."""
    if tag.get("unit"):
        return str(tag["unit"])
    named = re.search(r"\b(nm|um|\u00b5m|micron|mm)\b", str(tag.get("description", "")))
    return named.group(1) if named else ""


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# OME-Zarr

def of_multiscale(multiscale: Mapping[str, Any]) -> PixelSize:
    """Pixel size of level 0 of one OME-NGFF ``multiscales`` entry; an axis without a unit is unknown."""
    sizes = {}
    scales = [step["scale"] for part in (multiscale["datasets"][0], multiscale)
              for step in part.get("coordinateTransformations", []) if step.get("type") == "scale"]
    for position, axis in enumerate(multiscale.get("axes", [])):
        if isinstance(axis, Mapping) and scales:
            length = math.prod(float(scale[position]) for scale in scales)
            sizes[str(axis.get("name", "")).upper()] = to_nm(length, axis.get("unit"))
    return PixelSize(*(sizes.get(axis) for axis in "ZYX"))

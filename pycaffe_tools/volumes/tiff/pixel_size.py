"""The size of a pixel, as the various kinds of TIFF say it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any, Mapping, Optional

from ..pixel_size import PixelSize, from_list, plain_unit, to_nm

PRINTER_PIXEL_NM = 1e4
"""Resolution tags that say 10 um a pixel or more come from a printer's 72, 96 or 300 dots per inch
(85 um and more), never from an electron microscope."""

_TIFF_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}


def pixel_size_of(tif: Any, image: int = 0, images: int = 1) -> PixelSize:
    """Pixel size of a ``tifffile.TiffFile``: OME-XML, ImageJ, JSON description, or plain tags, in this order.

    Parameters
    ----------
    tif : the open file.
    image, images : which of how many images of the file; an OME file tells of each.
    """
    page = tif.pages[0]
    if tif.is_ome:
        return _of_ome_xml(tif.ome_metadata, image, images)
    if tif.is_imagej:
        return _of_imagej(page, tif.imagej_metadata or {})
    from_json = _of_json(page.description)
    if from_json is not None:
        return from_json
    unit = _TIFF_RESOLUTION_UNITS.get(_tag(page, "ResolutionUnit", 1))
    y, x = (to_nm(_per_pixel(page, tag), unit) for tag in ("YResolution", "XResolution"))
    return PixelSize(None, *(size if size is not None and size < PRINTER_PIXEL_NM else None for size in (y, x)))


def _of_ome_xml(text: Optional[str], image: int, images: int) -> PixelSize:
    try:
        root = ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return PixelSize()
    described = [element for element in root.iter() if element.tag.rsplit("}", 1)[-1] == "Pixels"]
    if len(described) != images and image > 0 or not described:
        return PixelSize()              # it is not clear which of them is meant
    pixels = described[image]
    return PixelSize(*(to_nm(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um"))
                       for axis in "ZYX"))


def _of_imagej(page: Any, metadata: Mapping[str, Any]) -> PixelSize:
    if "pixel_size_nm" in metadata:     # our own line, where ImageJ's fields cannot say which axis is unknown
        return from_list([_number(part) for part in str(metadata["pixel_size_nm"]).split(",")])
    unit = metadata.get("unit")
    sizes = PixelSize(to_nm(metadata.get("spacing"), metadata.get("zunit", unit)),
                      to_nm(_per_pixel(page, "YResolution"), metadata.get("yunit", unit)),
                      to_nm(_per_pixel(page, "XResolution"), unit))
    # Units of paper; the micrometre is ImageJ's own.
    if plain_unit(unit)[:2] in ("in", "cm", "mm") and (sizes.x or PRINTER_PIXEL_NM) >= PRINTER_PIXEL_NM:
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
        return float(denominator / numerator)
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

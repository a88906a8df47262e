"""BigDataViewer's HDF5: ``/t00000/s00/0/cells`` is time point 0, set-up 0, full resolution; the sizes are in the XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from ..pixel_size import PixelSize, to_nm

_CELLS = re.compile(r"^/t[0-9]{5}/s(?P<setup>[0-9]{2,})/(?P<level>[0-9]+)/cells$")


def is_cells(name: str) -> bool:
    """Whether a dataset of this name is one of BigDataViewer's images."""
    return _CELLS.match(name) is not None


def setup_pixel_size(file: Path, data: Any) -> PixelSize:
    """Pixel size of an image of BigDataViewer's, from ``file.xml`` beside ``file.h5``; unknown without it."""
    match = _CELLS.match(data.name)
    try:
        root = ElementTree.parse(file.with_suffix(".xml")).getroot()
    except (OSError, ElementTree.ParseError):
        return PixelSize()
    for setup in root.iter("ViewSetup"):
        if match is not None and (setup.findtext("id") or "").strip() == str(int(match["setup"])):
            unit, size = setup.findtext("voxelSize/unit"), (setup.findtext("voxelSize/size") or "").split()
            try:
                factors = data.file[f"/s{match['setup']}/resolutions"][int(match["level"])]
            except (KeyError, IndexError, ValueError):
                factors = [1, 1, 1] if match["level"] == "0" else [0, 0, 0]
            if len(size) == 3:          # x, y, z both times
                x, y, z = (to_nm(float(length) * float(factor), unit) for length, factor in zip(size, factors))
                return PixelSize(z, y, x)
    return PixelSize()

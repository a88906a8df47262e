"""Files of electron microscopes: DigitalMicrograph's DM3 and DM4, and SER of TIA, read by way of ncempy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ..axes import Layout, brief
from ..pixel_size import PixelSize, to_nm
from ..volume import Stored

DM_SUFFIXES = (".dm3", ".dm4")
SER_SUFFIXES = (".ser",)

_RGB = 23                               # of DigitalMicrograph's data types; thumbnails are of it


class _DmImage(NamedTuple):
    number: int                         # among all objects of the file
    shape: Tuple[int, ...]              # slowest dimension first
    scales: List[Any]
    units: List[str]


def _needs_ncempy(path: str, kind: str) -> None:
    if importlib.util.find_spec("ncempy") is None:
        raise UserError(f"{path}: reading {kind} needs the package ncempy; install it (pip install ncempy), or convert to "
                        f"TIFF")


def read_dm(path: str, file: Path, axes: Optional[str]) -> Stored:
    """Open a DM3 or DM4 file for reading slice by slice, mapped from the disk.

    Parameters
    ----------
    path : what to call it in messages.
    file : the file.
    axes : a letter for each dimension, or None.

    Raises
    ------
    UserError : ncempy is not installed, several images, spectra, or damage.
    """
    _needs_ncempy(path, "DM3 and DM4")
    from ncempy.io import dm

    if file.stat().st_size == 0:        # on which ncempy prints a traceback of its own
        raise UserError(f"{path}: is an empty file; copy it again")
    try:
        with dm.fileDM(file) as opened:
            images = _dm_images(opened)
            # ncempy counts from the object behind the thumbnail, which it takes the first of several to be.
            first = 0 if opened.numObjects == 1 else 1
            data = opened.getMemmap(images[0].number - first).reshape(images[0].shape) if len(images) == 1 else None
    except Exception as error:          # whatever the parser runs into on bytes that are not what it expects
        raise UserError(f"{path}: is not a readable DM3 or DM4 file ({brief(error)}); copy it again") from error
    if data is None:
        shapes = ", ".join(" x ".join(map(str, image.shape)) for image in images)
        raise UserError(f"{path}: holds {len(images)} images ({shapes or 'none'}); save the one that is meant by itself")
    image = images[0]
    energies = [unit for unit in image.units if unit.strip().lower() in ("ev", "kev")]
    if energies:
        raise UserError(f"{path}: holds spectra (an axis in {energies[0]}), shape {image.shape}; save an image")
    layout = Layout(path, data.shape, axes)
    sizes = dict(zip(layout.axes, (to_nm(scale, unit) for scale, unit in zip(image.scales, image.units))))
    return Stored(layout.shape, data.dtype, PixelSize(*(sizes.get(letter) for letter in "ZYX")),
                  lambda z: layout.read(data, z), lambda: [file])


def _dm_images(opened: Any) -> List[_DmImage]:
    """Images of the file without its thumbnail."""
    found, place = [], 0
    for number, dimensions in enumerate(opened.dataShape):
        sizes = (opened.zSize2[number], opened.zSize[number], opened.ySize[number], opened.xSize[number])
        scales, units = (list(each[place:place + dimensions])[::-1] for each in (opened.scale, opened.scaleUnit))
        place += dimensions
        if opened.dataType[number] != _RGB and dimensions >= 2:
            found.append(_DmImage(number, tuple(int(size) for size in sizes[4 - dimensions:]), scales,
                                  [str(unit) for unit in units]))
    return found


def read_ser(path: str, file: Path) -> Stored:
    """Open a SER file for reading image by image.

    Parameters
    ----------
    path : what to call it in messages.
    file : the file.

    Raises
    ------
    UserError : ncempy is not installed, spectra, or damage.
    """
    _needs_ncempy(path, "SER")
    from ncempy.io import ser

    try:
        opened = ser.fileSER(str(file))
        count = int(opened.head["ValidNumberElements"])
        is_image = opened.head["DataTypeID"] == 0x4122
        first, meta = opened.getDataset(0) if count and is_image else (np.zeros((0, 0)), {})
    except Exception as error:          # whatever the parser runs into on bytes that are not what it expects
        raise UserError(f"{path}: is not a readable SER file ({brief(error)}); copy it again") from error
    if not count or not is_image:
        raise UserError(f"{path}: holds {'spectra' if count else 'no image'}; save images")
    # Calibrations are in metres, of x and then of y.
    x, y = (to_nm(abs(float(axis["CalibrationDelta"])), "m") for axis in meta["Calibration"])
    return Stored((count, *first.shape), first.dtype, PixelSize(None, y, x),
                  lambda z: np.ascontiguousarray(opened.getDataset(z)[0]), lambda: [file])

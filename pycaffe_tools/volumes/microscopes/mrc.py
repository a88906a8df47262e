"""MRC and CCP4 files (``.mrc``, ``.rec``, ``.st``, ``.map``), read by way of mrcfile without loading them."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ...base.errors import UserError
from ..axes import Layout, brief
from ..pixel_size import PixelSize, to_nm
from ..volume import Stored

MRC_SUFFIXES = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".preali", ".map")

_IMOD_STAMP, _IMOD_SIGNED_BYTES = 1146047817, 1


def read_mrc(path: str, file: Path, axes: Optional[str]) -> Stored:
    """Open an MRC file for reading slice by slice; rows are in the order of the file, its lowest y first.

    Parameters
    ----------
    path : what to call it in messages.
    file : the MRC file.
    axes : a letter for each dimension, or None: then as the header maps columns, rows and sections to x, y and z.

    Raises
    ------
    UserError : mrcfile is not installed, or the file is damaged or of a kind that is not supported.
    """
    if importlib.util.find_spec("mrcfile") is None:
        raise UserError(f"{path}: reading MRC needs the package mrcfile; install it (pip install mrcfile), or convert to TIFF")
    import mrcfile

    try:
        with warnings.catch_warnings():
            for kind in (RuntimeWarning, UserWarning):      # a file that is longer or shorter than its header says
                warnings.simplefilter("error", kind)
            opened = mrcfile.mmap(str(file), mode="r")
    except (OSError, ValueError, RuntimeWarning, UserWarning) as error:
        raise UserError(f"{path}: is not a readable MRC file ({brief(error)}); copy it again") from error
    header, data = opened.header, opened.data
    if data is None:
        opened.close()
        raise UserError(f"{path}: holds no pixels; copy it again")
    try:
        layout = Layout(path, data.shape, axes, _declared(header, data.ndim))
    except UserError:
        opened.close()
        raise
    unsigned = data.dtype == np.int8 and _has_unsigned_bytes(header)

    def read(z: int) -> np.ndarray:
        image = layout.read(data, z)
        return np.ascontiguousarray(image).view(np.uint8) if unsigned else image

    return Stored(layout.shape, np.dtype("uint8") if unsigned else data.dtype, _pixel_size(opened), read, lambda: [file],
                  opened.close)


def _declared(header: Any, dimensions: int) -> Optional[str]:
    letters = {1: "X", 2: "Y", 3: "Z"}
    order = [letters.get(int(header[name])) for name in ("maps", "mapr", "mapc")]
    if set(order) != {"X", "Y", "Z"}:
        return None                     # an old file that leaves the fields at zero
    return "".join(letter or "" for letter in order[-dimensions:]) if dimensions <= 3 else None


def _has_unsigned_bytes(header: Any) -> bool:
    """Whether IMOD wrote the bytes as unsigned, as it did before the format said that they are signed."""
    extra = header.tobytes()[152:160]
    order = header.mode.dtype.newbyteorder("=").str[0] if header.mode.dtype.isnative else ">"
    stamp, flags = np.frombuffer(extra, np.dtype("<i4") if order in "<=|" else np.dtype(">i4"))
    return int(stamp) == _IMOD_STAMP and not int(flags) & _IMOD_SIGNED_BYTES


def _pixel_size(opened: Any) -> PixelSize:
    size = opened.voxel_size            # in angstrom; cell lengths divided by the sampling
    angstroms = [float(size.z), float(size.y), float(size.x)]
    if all(length in (0, 1) for length in angstroms):
        return PixelSize()              # what programs write who do not know it
    return PixelSize(*(to_nm(length, "angstrom") for length in angstroms))

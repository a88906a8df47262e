"""Paths of volumes: ``file.h5:/dataset`` split, kinds told apart by their ending."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Optional, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike
from .hdf5 import _create_hdf5
from .ome_zarr import _create_zarr, _needs_zarr
from .tiff import _create_tiff

_DATASET = re.compile(r"^(?P<file>.+?\.(?:h5|hdf5|hdf|zarr))(?::/*|/+)(?P<dataset>.*)$", re.IGNORECASE)


def split_dataset(path: PathLike) -> Tuple[Path, Optional[str]]:
    """File and dataset of ``file.h5:/dataset`` (``file.h5/dataset`` too); the dataset is None where none is named.

    >>> split_dataset("a.h5:/volumes/raw")[1]
    '/volumes/raw'
    """
    text = str(path)
    match = _DATASET.match(text)
    if match is None or Path(text).is_file():
        return Path(text), None
    return Path(match["file"]), "/" + match["dataset"].strip("/") if match["dataset"].strip("/") else None


def check_kind(path: PathLike) -> None:
    """Raise :class:`UserError` if no volume of that name could be created, before the work that fills it."""
    if _kind(path) is _create_zarr:
        _needs_zarr(path)


def _kind(path: PathLike) -> Callable[..., Callable[[int, np.ndarray], None]]:
    kinds = {".tif": _create_tiff, ".tiff": _create_tiff, ".h5": _create_hdf5, ".hdf5": _create_hdf5,
             ".hdf": _create_hdf5, ".zarr": _create_zarr}
    ending = split_dataset(path)[0].suffix.lower()
    if ending not in kinds:
        raise UserError(f"{path}: not a kind of volume that can be written; end the name in .tif, .h5 or .zarr")
    return kinds[ending]

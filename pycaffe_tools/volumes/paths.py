"""Paths of volumes: ``file.h5:/dataset``, ``file.ome.tif:1`` and ``folder/*_raw.png`` taken apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Optional, Tuple

from ..base.files import PathLike
from .images.slice_folder import matches

# A dataset may follow a slash too, since these files hold datasets as a folder holds files.
_DATASET = re.compile(r"^(?P<file>.+?\.(?:h5|hdf5|hdf|emd|zarr|n5))(?::/*|/+)(?P<dataset>.*)$", re.IGNORECASE)
_FOLDER = re.compile(r"^(?P<file>.+?):/+(?P<dataset>.*)$")
_IMAGE = re.compile(r"^(?P<file>.+\.tiff?):(?P<image>[0-9]+)$", re.IGNORECASE)


def split_dataset(path: PathLike) -> Tuple[Path, Optional[str]]:
    """File and dataset of ``file.h5:/dataset`` (``file.h5/dataset`` too); the dataset is None where none is named.

    The same for a Zarr or N5 folder of any name with ``:/``, and for a TIFF of
    several images, ``file.ome.tif:1``, whose image is given back as ``"1"``.

    >>> split_dataset("a.h5:/volumes/raw")[1]
    '/volumes/raw'
    >>> split_dataset("a.ome.tif:1")[1]
    '1'
    """
    text = str(path)
    if Path(text).is_file():
        return Path(text), None
    image = _IMAGE.match(text)
    if image is not None:
        return Path(image["file"]), image["image"]
    match = _DATASET.match(text)
    if match is not None and _is_folder_of_slices(Path(match["file"])):
        match = None                    # a folder that happens to be called like an HDF5 file
    folder = _FOLDER.match(text)
    if match is None and folder is not None and Path(folder["file"]).is_dir():
        match = folder
    if match is None:
        return Path(text), None
    inner = match["dataset"].strip("/")
    return Path(match["file"]), f"/{inner}" if inner else None


def split_pattern(path: PathLike) -> Tuple[Path, Optional[str]]:
    """Folder and pattern of ``folder/*_raw.png``; the pattern is None where the path is a file, a folder, or has none.

    >>> split_pattern("slices/s#.png")[1]
    's#.png'
    """
    file = Path(path)
    if any(sign in file.name for sign in "*?#") and not file.exists():
        return file.parent, file.name
    return file, None


def input_files(path: PathLike) -> List[Path]:
    """The files that a path of an input stands for, sorted: all in a folder, those that a pattern chooses, or the one."""
    file, _ = split_dataset(path)
    folder, pattern = split_pattern(file)
    if pattern is not None and folder.is_dir():
        return sorted(found for found in folder.iterdir() if found.is_file() and matches(pattern, found.name))
    return sorted(found for found in file.rglob("*") if found.is_file()) if file.is_dir() else [file]


def _is_folder_of_slices(file: Path) -> bool:
    return file.is_dir() and file.suffix.lower() not in (".zarr", ".n5")

"""A folder of images as a volume: one file a slice, in the order of their numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ..axes import brief
from ..pixel_size import PixelSize
from ..tiff.reading import read_tiff
from ..volume import Stored, Volume
from .slice_names import Series, one_series

SLICE_SUFFIXES = (".tif", ".tiff", ".png")


def read_folder(path: str, folder: Path, pattern: Optional[str] = None) -> Stored:
    """Open the slices of a folder.

    Parameters
    ----------
    path : what to call it in messages.
    folder : the folder.
    pattern : of file names, in which ``*`` and ``?`` are what they are for a shell and ``#`` is any number; None is all.

    Raises
    ------
    UserError : there are none, or more than one series.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; check the path")
    files = slice_files(folder, pattern)
    kinds = {file.suffix.lower()[:4] for file in files}
    if not files:
        raise UserError(f"{path}: there are no .tif or .png slices {'of these names' if pattern else 'in this folder'}; "
                        f"check the path")
    if len(kinds) > 1:
        raise UserError(f"{path}: this folder holds .tif and .png files; keep the slices of one volume there, or choose "
                        f"them by a pattern, as in '{folder}/*.tif'")
    return _read_series(one_series(path, files, chosen=pattern is not None))


def slice_files(folder: Path, pattern: Optional[str] = None) -> List[Path]:
    """The files of a folder that are slices by their names, sorted by these; see :func:`read_folder`."""
    return sorted(file for file in folder.iterdir()
                  if file.suffix.lower() in SLICE_SUFFIXES and file.is_file() and not file.name.startswith(".")
                  and (pattern is None or matches(pattern, file.name)))


def matches(pattern: str, name: str) -> bool:
    """Whether a file name follows a pattern.

    >>> [matches("s#.png", name) for name in ("s10.png", "s1_mask.png", "s.png")]
    [True, False, False]
    """
    parts = {"*": ".*", "?": ".", "#": r"-?[0-9]+(?:\.[0-9]+)?"}
    return re.fullmatch("".join(parts.get(sign, re.escape(sign)) for sign in pattern), name, re.IGNORECASE) is not None


def read_png(path: str, file: Path) -> Stored:
    """Open a single PNG as a volume of one slice."""
    return _read_series(Series([file], None))._replace(slice_names=None)


def _read_series(series: Series) -> Stored:
    files, first_error = series.files, None
    for file in files:                  # a damaged first slice must not hide the others
        try:
            image, pixel_size = _read_image(file)
            break
        except UserError as error:
            first_error = first_error or error
    else:
        raise first_error or UserError("no slices")
    return Stored((len(files), image.shape[0], image.shape[1]), image.dtype, PixelSize(None, pixel_size.y, pixel_size.x),
                  lambda z: _read_image(files[z])[0], lambda: list(files),
                  slice_names=tuple(file.stem for file in files), slice_numbers=series.numbers)


def _read_image(file: Path) -> Tuple[np.ndarray, PixelSize]:
    if file.suffix.lower() == ".png":
        return _read_png(file), PixelSize()
    stored = read_tiff(str(file), file, None, None)
    try:
        if stored.shape[0] != 1:
            raise UserError(f"{file}: holds {stored.shape[0]} slices; a folder of slices has one a file")
        return Volume(str(file), stored, labels=True).read(0), stored.pixel_size
    finally:
        stored.close()


def _read_png(file: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise UserError(f"{file}: reading PNG needs the package Pillow; install it (pip install pillow), or save slices as "
                        f"TIFF") from None
    try:
        with Image.open(file) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is not a readable PNG ({brief(error)}); copy it again") from error
    if mode not in ("1", "L", "I;16", "I;16B", "I"):
        raise UserError(f"{file}: holds colour (PNG mode {mode}); convert it to grey values")
    return pixels.astype(np.uint16) if mode.startswith("I") else pixels

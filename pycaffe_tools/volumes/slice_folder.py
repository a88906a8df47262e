"""A folder of images as a volume: one file a slice, in natural order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np

from ..base.errors import UserError
from .axes import brief
from .pixel_size import PixelSize
from .tiff import _of_tiff
from .volume import Volume

SLICE_SUFFIXES = (".tif", ".tiff", ".png")


def natural_key(name: str) -> List[Any]:
    """Sort key under which ``slice_10`` comes after ``slice_9``.

    >>> sorted(["s10.tif", "s9.tif"], key=natural_key)
    ['s9.tif', 's10.tif']
    """
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower())
            for part in re.findall(r"[0-9]+|[^0-9]+", name)]


# Folders of slices

def _open_folder(path: str, folder: Path) -> Volume:
    files = sorted((file for file in folder.iterdir()
                    if file.suffix.lower() in SLICE_SUFFIXES and file.is_file() and not file.name.startswith(".")),
                   key=lambda file: natural_key(file.name))
    kinds = {file.suffix.lower()[:4] for file in files}
    if not files:
        raise UserError(f"{path}: this folder holds no .tif or .png slices; check the path")
    if len(kinds) > 1:
        raise UserError(f"{path}: this folder holds .tif and .png files; keep the slices of one volume there")
    return _open_images(path, files)


def _open_images(path: str, files: List[Path]) -> Volume:
    first_error = None
    for file in files:                  # a damaged first slice must not hide the others
        try:
            image, pixel_size = _read_image(file)
            break
        except UserError as error:
            first_error = first_error or error
    else:
        raise first_error
    return Volume(path, (len(files),) + image.shape, image.dtype, PixelSize(None, pixel_size.y, pixel_size.x),
                  lambda z: _read_image(files[z])[0], lambda: None, lambda: files, tuple(file.stem for file in files))


def _read_image(file: Path) -> Tuple[np.ndarray, PixelSize]:
    if file.suffix.lower() == ".png":
        return _read_png(file), PixelSize()
    with _of_tiff(str(file), file, None) as slice_volume:
        if slice_volume.shape[0] != 1:
            raise UserError(f"{file}: holds {slice_volume.shape[0]} slices; a folder of slices has one a file")
        return slice_volume.read(0), slice_volume.pixel_size


def _read_png(file: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise UserError(f"{file}: reading PNG needs the Pillow package; install it, or save slices as TIFF") from None
    try:
        with Image.open(file) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is not a readable PNG ({brief(error)}); copy it anew") from error
    if mode not in ("1", "L", "I;16", "I;16B", "I"):
        raise UserError(f"{file}: holds colour (PNG mode {mode}); convert it to grey values")
    return pixels.astype(np.uint16) if mode.startswith("I") else pixels

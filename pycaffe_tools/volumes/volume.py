"""Slices of a volume, one at a time, whatever kind of file holds them.

A volume is a grey image of axes z, y, x whose slices are read when they are
asked for; the whole of it is never in memory.

    with open_volume("stack.tif") as volume:
        volume.shape, volume.dtype, volume.pixel_size.as_list()
        grey = volume.read(0)                    # one slice, y by x, black is 0

Axes are not guessed: two dimensions are YX, three are ZYX, and anything else
needs a file that names its axes itself or ``axes="CZYX"``, where all but z,
y and x have to have size 1.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import numpy as np

from ..base.errors import FULL, TemporaryError, UserError
from ..base.files import sha256
from .axes import brief, checked_dtype
from .pixel_size import PixelSize


class Stored(NamedTuple):
    """What a reader found at a path; one of these becomes a :class:`Volume`.

    shape : (z, y, x).
    dtype : as stored.
    pixel_size : nm in z, y, x; None where the file does not say.
    read : gives slice z, y by x, of any integer or float data type.
    files : the files whose bytes make up the volume, in a fixed order.
    close : closes what was opened.
    slice_names, slice_numbers : see :class:`Volume`.
    """

    shape: Tuple[int, int, int]
    dtype: Any
    pixel_size: PixelSize
    read: Callable[[int], np.ndarray]
    files: Callable[[], List[Path]]
    close: Callable[[], None] = lambda: None
    slice_names: Optional[Tuple[str, ...]] = None
    slice_numbers: Optional[Tuple[float, ...]] = None


class Volume:
    """A volume that is read slice by slice; made by :func:`~pycaffe_tools.volumes.opening.open_volume`.

    Attributes
    ----------
    path : what was opened, as given (``file.h5:/dataset`` included).
    shape : (z, y, x); a single image has z = 1.
    dtype : uint8, uint16 or float32; boolean files are read as uint8 of 0 and
        1, int8, int16 and float16 as float32 of the same values.  Volumes
        opened as labels keep integers of any size.
    pixel_size : nm in z, y, x; None where the file does not say.
    slice_names : of a folder of slices the names of its files without their
        endings, in the order of the slices, by which stacks can be compared;
        None for all other kinds.
    slice_numbers : of a folder of slices the number in each name that tells
        them apart, if there is one; None for all other kinds.
    """

    def __init__(self, path: str, stored: Stored, labels: bool = False):
        self.path = path
        self.shape = stored.shape
        self.dtype = checked_dtype(path, stored.dtype, labels)
        self.pixel_size = stored.pixel_size
        self.slice_names = stored.slice_names
        self.slice_numbers = stored.slice_numbers
        self._labels = labels
        self._read = stored.read
        self._close = stored.close
        self._files = stored.files

    def read(self, z: int) -> np.ndarray:
        """Slice ``z``: y by x, of ``dtype``, C-contiguous.

        Raises
        ------
        UserError : the slice cannot be read; the others still can.
        """
        if not 0 <= z < self.shape[0]:
            raise IndexError(f"{self.path}: slice {z} of {self.shape[0]}")
        try:
            image = self._read(z)
        except UserError:
            raise
        except Exception as error:      # any decoder may fail in any way on bytes that are not what it expects
            raise UserError(f"{self.path}: slice {z} cannot be read ({brief(error)}); the file is damaged or incomplete, "
                            f"copy it again") from error
        if image.shape != self.shape[1:]:
            raise UserError(f"{self.path}: slice {z} has shape {image.shape}, the volume's slices have "
                            f"{self.shape[1:]}; bring all slices to one size")
        if checked_dtype(f"{self.path}, slice {z}", image.dtype, self._labels) != self.dtype:
            raise UserError(f"{self.path}: slice {z} is {image.dtype}, the volume is {self.dtype}; "
                            f"bring all slices to one data type")
        return np.ascontiguousarray(image, dtype=self.dtype)

    def sha256(self) -> str:
        """Hash of the file's bytes; for a folder, of its files' names and hashes."""
        files = self._files()
        if len(files) == 1:
            return sha256(files[0])
        digest = hashlib.sha256()
        root = os.path.commonpath([str(file.parent) for file in files])
        for file in files:
            digest.update(f"{file.relative_to(root).as_posix()} {sha256(file)}\n".encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; reading is not possible any more."""
        self._close()

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class VolumeWriter:
    """Takes the slices of one volume; made by :func:`create_volume`.  Slices that are never written hold zeros."""

    def __init__(self, path: str, shape: Tuple[int, int, int], dtype: np.dtype, stack: ExitStack,
                 write: Callable[[int, np.ndarray], None]):
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self._stack = stack
        self._write = write

    def write(self, z: int, image: np.ndarray) -> None:
        """Write slice ``z`` (y by x, of the writer's data type), in any order.

        Raises
        ------
        TemporaryError : the disk is full.
        """
        image = np.asarray(image)
        if not 0 <= z < self.shape[0] or image.shape != self.shape[1:] or image.dtype != self.dtype:
            raise ValueError(f"{self.path}: slice {z} of shape {image.shape}, {image.dtype} does not fit into "
                             f"{self.shape}, {self.dtype}")
        try:
            self._write(z, image)
        except (OSError, RuntimeError) as error:
            raise disk_error(self.path, error) from error

    def close(self) -> None:
        """Finish the file and give it its name."""
        self.__exit__(None, None, None)

    def discard(self) -> None:
        """Give up: remove what has been written."""
        self.__exit__(UserError, UserError("discarded"), None)

    def __enter__(self) -> VolumeWriter:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self._stack.__exit__(kind, error, traceback)
        except (OSError, RuntimeError) as failed:
            raise disk_error(self.path, failed) from failed


def disk_error(path: str, error: BaseException) -> BaseException:
    """A sentence for the user if ``error`` says that the disk is full, else the error itself."""
    # HDF5 hides the number of the operating system's error in its text.
    if getattr(error, "errno", None) in FULL or "No space left" in str(error):
        return TemporaryError(f"{path}: the disk is full; free some space and run the same command again")
    return error

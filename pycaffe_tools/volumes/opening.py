"""The door to volumes: any path that a user may name, opened for reading or created for writing."""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack
from typing import Any, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, refuse_existing
from .axes import checked_dtype
from .hdf5 import _open_hdf5
from .ome_zarr import _is_zarr, _open_zarr
from .paths import _kind, split_dataset
from .pixel_size import UNKNOWN_PIXEL_SIZE, PixelSize
from .slice_folder import _open_folder, _open_images
from .tiff import _of_tiff
from .volume import Volume, VolumeWriter, _disk_error


def create_volume(path: PathLike, shape: Sequence[int], dtype: Any, pixel_size: PixelSize = UNKNOWN_PIXEL_SIZE,
                  description: str = "", force: bool = False) -> VolumeWriter:
    """Create a volume that is written slice by slice.

    Parameters
    ----------
    path : ``.tif``/``.tiff``: in ImageJ's layout below 4 GB, else a BigTIFF
        with OME-XML; ``file.h5[:/dataset]`` (by default ``/probabilities``
        for float32, else ``/volume``) with the attributes of ilastik, CREMI
        and plant-seg; ``.zarr``: OME-Zarr 0.4 (needs the zarr package).
    shape : (z, y, x).
    dtype : uint8, uint16 or float32.
    pixel_size : nm; None on an axis is written as not known.
    description : free text for people.
    force : replace a file that exists.

    Raises
    ------
    UserError : exists already, no room on the disk, or a kind of file that is not supported.
    """
    file, inner = split_dataset(path)
    shape = tuple(int(size) for size in shape)
    dtype = np.dtype(dtype)
    if dtype.name not in ("uint8", "uint16", "float32"):
        raise UserError(f"{path}: data type {dtype.name} cannot be written; use uint8, uint16 or float32")
    create = _kind(path)
    refuse_existing(file, force)
    file.parent.mkdir(parents=True, exist_ok=True)
    needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(file.parent).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB left; "
                        f"free some space, or choose another place")
    with ExitStack() as stack:
        try:
            write = create(stack, file, inner, shape, dtype, pixel_size, description, force)
        except (OSError, RuntimeError) as error:
            raise _disk_error(str(path), error) from error
        return VolumeWriter(str(path), shape, dtype, stack.pop_all(), write)


def open_volume(path: PathLike, axes: Optional[str] = None, dataset: Optional[str] = None) -> Volume:
    """Open a volume of grey values for reading slice by slice.

    Parameters
    ----------
    path : a TIFF (plain, tiled, compressed, BigTIFF, ImageJ of any size,
        OME), a folder of one-slice TIFF or PNG files in natural order,
        ``file.h5:/volumes/raw`` (the dataset may be left out where there is
        only one) or an OME-Zarr folder (needs the zarr package).
    axes : a letter for each dimension of the file, e.g. ``"TZCYX"``.
    dataset : HDF5 or Zarr path inside the file, instead of ``:/...``.

    Raises
    ------
    UserError : missing, damaged, colour, or of a shape or data type that is not supported.
    """
    volume = open_labels(path, axes, dataset)
    try:
        checked_dtype(str(path), volume.dtype)
    except UserError:
        volume.close()
        raise
    return volume


def open_labels(path: PathLike, axes: Optional[str] = None, dataset: Optional[str] = None) -> Volume:
    """Open a volume of labels, which may be of any integer type; everything else is as for :func:`open_volume`."""
    file, inner = split_dataset(path)
    inner = dataset or inner
    if not file.exists():
        raise UserError(f"{file}: there is no such file or folder; check the path")
    if axes is not None:
        axes = axes.upper()
        if len(set(axes)) != len(axes) or not set("YX") <= set(axes):
            raise UserError(f"{path}: axes {axes!r} are not different letters with Y and X among them; "
                            f"write for example ZYX or CZYX")
    if file.is_dir():
        if _is_zarr(file):
            return _open_zarr(str(path), file, inner, axes)
        return _open_folder(str(path), file)
    if file.suffix.lower() in (".tif", ".tiff"):
        return _of_tiff(str(path), file, axes)
    if file.suffix.lower() == ".png":
        return _open_images(str(path), [file])
    if file.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        return _open_hdf5(str(path), file, inner, axes)
    raise UserError(f"{file}: not a kind of volume that is supported; give a TIFF, a folder of slices, HDF5 or OME-Zarr")

"""Volumes that are written slice by slice: what can be created where, told before the work that fills it."""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import numpy as np

from ..base.errors import TemporaryError, UserError
from ..base.files import PathLike, refuse_existing, refuse_other_files
from .chunked.writing import ENTRIES, check_zarr, create_zarr
from .hdf5.writing import create_hdf5, dataset_name, refuse_other_datasets
from .paths import split_dataset
from .pixel_size import UNKNOWN_PIXEL_SIZE, PixelSize
from .storage import DEFAULT_STORAGE, Storage
from .tiff.writing import create_tiff
from .volume import VolumeWriter, disk_error

_Create = Callable[..., Callable[[int, np.ndarray], None]]
_KINDS = {".tif": create_tiff, ".tiff": create_tiff, ".h5": create_hdf5, ".hdf5": create_hdf5, ".hdf": create_hdf5,
          ".zarr": create_zarr}


def check_output(path: PathLike, force: bool = False, dtype: Any = np.float32,
                 storage: Storage = DEFAULT_STORAGE) -> None:
    """Refuse a path at which no volume could be created; for before the work that fills it.

    That a volume of the same kind exists already is not refused: an earlier
    run may have left it.

    Parameters
    ----------
    path : as for :func:`create_volume`.
    force : whether what exists will be replaced.
    dtype : of the volume, on which the name of its dataset may depend.
    storage : as for :func:`create_volume`.

    Raises
    ------
    UserError : not a kind of volume that can be written, a folder in the place of a file or the other way round, or
        ``force`` would take other data with it.
    """
    file, inner = split_dataset(path)
    create = _creator(path, file, inner)
    above = next((parent for parent in file.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise UserError(f"{path}: {above} is a file, and a folder is needed there; choose another path")
    if storage.compress and create is not create_hdf5:
        raise UserError(f"{path}: compression can be chosen for HDF5 alone (OME-Zarr is always compressed); end the name in .h5, "
                        f"or leave --compress out")
    if storage.ome_zarr != DEFAULT_STORAGE.ome_zarr and create is not create_zarr:
        raise UserError(f"{path}: is no OME-Zarr of which a version could be chosen; end the name in .zarr, or leave --ome-zarr out")
    if create is create_zarr:
        check_zarr(file, inner, storage)
        if file.exists() and not file.is_dir():
            raise UserError(f"{file}: is a file, and OME-Zarr is a folder; choose another name")
        if file.is_dir() and (force or not any((file / entry).exists() for entry in ENTRIES)):
            refuse_other_files(file, ENTRIES)
    elif file.is_dir():
        raise UserError(f"{file}: is a folder, and a file is to be written; choose another name")
    elif force and create is create_hdf5 and file.exists():
        refuse_other_datasets(file, dataset_name(inner, dtype))


def create_volume(path: PathLike, shape: Sequence[int], dtype: Any, pixel_size: PixelSize = UNKNOWN_PIXEL_SIZE,
                  description: str = "", force: bool = False, storage: Storage = DEFAULT_STORAGE) -> VolumeWriter:
    """Create a volume that is written slice by slice.

    Parameters
    ----------
    path : ``.tif``/``.tiff``: in ImageJ's layout below 4 GB, else a BigTIFF
        with OME-XML; ``file.h5[:/dataset]`` (by default ``/probabilities``
        for float32, else ``/volume``) with the attributes of ilastik, CREMI
        and plant-seg; ``.zarr``: OME-Zarr with a pyramid of levels (needs the zarr package, or tensorstore).
    shape : (z, y, x).
    dtype : uint8, uint16 or float32.
    pixel_size : nm; None on an axis is written as not known.
    description : free text for people.
    force : replace a file that exists.
    storage : choices that a kind of file leaves.

    Raises
    ------
    UserError : exists already, no room on the disk, or a kind of file that is not supported.
    """
    file, inner = split_dataset(path)
    depth, height, width = (int(size) for size in shape)
    dtype = np.dtype(dtype)
    if dtype.name not in ("uint8", "uint16", "float32"):
        raise UserError(f"{path}: data type {dtype.name} cannot be written; use uint8, uint16 or float32")
    create = _creator(path, file, inner)
    refuse_existing(file, force)
    check_output(path, force, dtype, storage)
    file.parent.mkdir(parents=True, exist_ok=True)
    needed, free = math.prod((depth, height, width)) * dtype.itemsize, shutil.disk_usage(file.parent).free
    if needed > free:
        raise TemporaryError(f"{path}: needs {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB left; "
                        f"free some space, or choose another place")
    with ExitStack() as stack:
        try:
            write = create(stack, file, inner, (depth, height, width), dtype, pixel_size, description, force, storage)
        except (OSError, RuntimeError) as error:
            raise disk_error(str(path), error) from error
        return VolumeWriter(str(path), (depth, height, width), dtype, stack.pop_all(), write)


def _creator(path: PathLike, file: Path, inner: Optional[str]) -> _Create:
    create = _KINDS.get(file.suffix.lower())
    if create is None:
        raise UserError(f"{path}: not a kind of volume that can be written; end the name in .tif, .h5 or .zarr")
    if create is create_tiff and inner is not None:
        raise UserError(f"{path}: a TIFF is written with one image; leave :{inner} out")
    if inner is not None and Path(inner).suffix.lower() in (*_KINDS, ".png"):
        raise UserError(f"{path}: would become the dataset {inner} in {file}, and its name is that of a file; choose another "
                        f"name for the folder, or for the dataset")
    return create

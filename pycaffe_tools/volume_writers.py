"""Writing volumes slice by slice: TIFF for Fiji, HDF5 for ilastik, CREMI and plant-seg, OME-Zarr.

    with create_volume("p.tif", (689, 2301, 3069), "float32", PixelSize(5, 5, 5)) as writer:
        for z in range(689):
            writer.write(z, probabilities)       # y by x

The file gets its name when the block has succeeded; before that it is a
temporary one beside it, and after an error there is nothing.  Slices go
straight to the disk, so memory does not depend on how many there are.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import math
import os
import re
import shutil
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from .base.errors import UserError
from .base.files import PathLike, atomic_directory, atomic_file, refuse_existing
from .calibration import PixelSize

CLASSIC_TIFF_LIMIT = 4_000_000_000
"""Bytes of pixels up to which a TIFF is written in ImageJ's own layout; offsets there have 32 bits."""

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
        UserError : the disk is full.
        """
        image = np.asarray(image)
        if not 0 <= z < self.shape[0] or image.shape != self.shape[1:] or image.dtype != self.dtype:
            raise ValueError(f"{self.path}: slice {z} of shape {image.shape}, {image.dtype} does not fit into "
                             f"{self.shape}, {self.dtype}")
        try:
            self._write(z, image)
        except (OSError, RuntimeError) as error:
            raise _disk_error(self.path, error) from error

    def close(self) -> None:
        """Finish the file and give it its name."""
        self.__exit__(None, None, None)

    def discard(self) -> None:
        """Give up: remove what has been written."""
        self.__exit__(UserError, UserError("discarded"), None)

    def __enter__(self) -> "VolumeWriter":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self._stack.__exit__(kind, error, traceback)
        except (OSError, RuntimeError) as failed:
            raise _disk_error(self.path, failed) from failed


def create_volume(path: PathLike, shape: Sequence[int], dtype: Any, pixel_size: PixelSize = PixelSize(),
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


def check_kind(path: PathLike) -> None:
    """Raise :class:`UserError` if no volume of that name could be created, before the work that fills it."""
    if _kind(path) is _create_zarr:
        _needs_zarr(path)


def _needs_zarr(path: PathLike) -> None:
    if importlib.util.find_spec("zarr") is None:
        raise UserError(f"{path}: writing OME-Zarr needs the zarr package; install it, or choose .tif or .h5")


def _kind(path: PathLike) -> Callable[..., Callable[[int, np.ndarray], None]]:
    kinds = {".tif": _create_tiff, ".tiff": _create_tiff, ".h5": _create_hdf5, ".hdf5": _create_hdf5,
             ".hdf": _create_hdf5, ".zarr": _create_zarr}
    ending = split_dataset(path)[0].suffix.lower()
    if ending not in kinds:
        raise UserError(f"{path}: not a kind of volume that can be written; end the name in .tif, .h5 or .zarr")
    return kinds[ending]


def _disk_error(path: str, error: BaseException) -> BaseException:
    # HDF5 hides the number of the operating system's error in its text.
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return UserError(f"{path}: the disk is full; free some space and run the same command again")
    return error


def reserve_space(path: PathLike) -> None:
    """Give all bytes of a file, which may be mostly a hole, a place on the disk now.

    A disk that is full is then an error before the work and not in the middle
    of it, where the HDF5 library does not survive it.

    Raises
    ------
    OSError : no space left.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
        except OSError as error:        # file systems without it: the writes will tell
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise


def create_reserved_dataset(group: Any, name: str, shape: Sequence[int], dtype: Any) -> Any:
    """An HDF5 dataset in one block whose place in the file is fixed at once, for :func:`reserve_space`."""
    from h5py import h5d, h5p

    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)   # what was never written in a new file is a hole, that is zeros
    return group.create_dataset(name, tuple(shape), dtype, dcpl=layout)


# TIFF

def _create_tiff(stack: ExitStack, file: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                 pixel_size: PixelSize, description: str, force: bool) -> Callable[[int, np.ndarray], None]:
    import tifffile

    temporary = stack.enter_context(atomic_file(file))
    imagej = math.prod(shape) * dtype.itemsize < CLASSIC_TIFF_LIMIT
    options, metadata = (_imagej_metadata if imagej else _ome_metadata)(pixel_size, description)
    # The headers come first and the pixels are one block behind them, which is then filled slice by slice.
    with tifffile.TiffWriter(temporary, byteorder=">", imagej=imagej, ome=not imagej, bigtiff=not imagej) as tif:
        start, _ = tif.write(shape=shape, dtype=dtype, photometric="minisblack", metadata=metadata,
                             returnoffset=True, **options)
    reserve_space(temporary)
    stream = stack.enter_context(open(temporary, "r+b", buffering=0))
    length = shape[1] * shape[2] * dtype.itemsize

    def write(z: int, image: np.ndarray) -> None:
        rest = memoryview(image.astype(dtype.newbyteorder(">"), order="C").tobytes())
        stream.seek(start + z * length)
        while rest:
            rest = rest[stream.write(rest):]

    return write


def _imagej_metadata(size: PixelSize, description: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """ImageJ has one unit and no word for a single unknown axis: then a line of our own says which are known."""
    metadata: Dict[str, Any] = {"axes": "ZYX"}
    if description:
        metadata["Info"] = description
    options = {}
    if size.x is not None and size.y is not None:
        metadata["unit"] = "nm"
        options["resolution"] = tuple((1 / Fraction(f"{length:.9g}")).as_integer_ratio() for length in (size.x, size.y))
        if size.z is not None:
            metadata["spacing"] = size.z
    elif any(length is not None for length in size):
        metadata["pixel_size_nm"] = ",".join("unknown" if length is None else f"{length:.10g}" for length in size)
    return options, metadata


def _ome_metadata(size: PixelSize, description: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    metadata: Dict[str, Any] = {"axes": "ZYX"}
    if description:
        metadata["Description"] = description
    for axis, length in zip("ZYX", size):
        if length is not None:
            metadata.update({f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": "nm"})
    return {}, metadata


# HDF5

def _create_hdf5(stack: ExitStack, file: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                 pixel_size: PixelSize, description: str, force: bool) -> Callable[[int, np.ndarray], None]:
    import h5py

    name = inner or ("/probabilities" if dtype.kind == "f" else "/volume")
    if file.exists():
        _refuse_other_datasets(file, name)
    temporary = stack.enter_context(atomic_file(file))
    with h5py.File(temporary, "w") as handle:
        data = create_reserved_dataset(handle, name, shape, dtype)
        _describe_hdf5(data, pixel_size, description)
    reserve_space(temporary)
    data = stack.enter_context(h5py.File(temporary, "r+"))[name]

    def write(z: int, image: np.ndarray) -> None:
        data[z] = image

    return write


def _describe_hdf5(data: Any, pixel_size: PixelSize, description: str) -> None:
    for number, letter in enumerate("zyx"):
        data.dims[number].label = letter
    data.attrs["axistags"] = json.dumps({"axes": [
        {"key": letter, "typeFlags": 2, "resolution": length or 0, "description": "nm" if length else ""}
        for letter, length in zip("zyx", pixel_size)]})
    if pixel_size.known:
        data.attrs["resolution"] = np.array(pixel_size, np.float64)                 # CREMI: nm, z y x
        data.attrs["element_size_um"] = np.array(pixel_size, np.float64) / 1000     # plant-seg: um, z y x
    if description:
        data.attrs["description"] = description


def _refuse_other_datasets(file: Path, name: str) -> None:
    """Replacing a file must not take other datasets with it, the raw data for example."""
    import h5py

    try:
        with h5py.File(file, "r") as handle:
            found = []
            handle.visititems(lambda other, item: found.append("/" + other) if isinstance(item, h5py.Dataset) else None)
    except OSError:
        return
    if set(found) - {name}:
        raise UserError(f"{file}: holds other datasets ({', '.join(sorted(set(found) - {name})[:5])}) and would be "
                        f"replaced as a whole; write to a new file")


# OME-Zarr

def _create_zarr(stack: ExitStack, folder: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                 pixel_size: PixelSize, description: str, force: bool) -> Callable[[int, np.ndarray], None]:
    if inner not in (None, "/0"):
        raise UserError(f"{folder}: OME-Zarr is written as level 0 of a new folder; leave {inner} out")
    _needs_zarr(folder)
    import zarr

    temporary = stack.enter_context(atomic_directory(folder, force))
    chunks = (1, min(shape[1], 512), min(shape[2], 512))
    if int(zarr.__version__.split(".")[0]) >= 3:
        group = zarr.open_group(str(temporary), mode="a", zarr_format=2)
        data = group.create_array("0", shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
                                  chunk_key_encoding={"name": "v2", "separator": "/"})
    else:
        group = zarr.open_group(str(temporary), mode="a")
        data = group.create_dataset("0", shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
                                    dimension_separator="/")
    axes = [{"name": letter, "type": "space", **({"unit": "nanometer"} if length else {})}
            for letter, length in zip("zyx", pixel_size)]
    group.attrs["multiscales"] = [{
        "version": "0.4", "name": folder.stem, "axes": axes, "datasets": [{
            "path": "0", "coordinateTransformations": [
                {"type": "scale", "scale": [float(length or 1) for length in pixel_size]}]}]}]
    if description:
        group.attrs["description"] = description

    def write(z: int, image: np.ndarray) -> None:
        data[z] = image

    return write

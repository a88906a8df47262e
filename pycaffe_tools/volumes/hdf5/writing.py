"""Writing HDF5 volumes slice by slice: in one block whose room on the disk is taken beforehand, or compressed in chunks."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.files import PathLike, atomic_file
from ..pixel_size import PixelSize
from ..storage import Storage

CHUNK = 512
"""Rows and columns of a compressed chunk, at most; it is one slice deep, so reading a slice decodes nothing else."""

_SPARE_BYTES = 1 << 20
"""Room on the disk that compressed volumes leave for the library's own tables."""


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


def create_hdf5(stack: ExitStack, file: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                pixel_size: PixelSize, description: str, force: bool, storage: Storage) -> Callable[[int, np.ndarray], None]:
    """Create an HDF5 file with one dataset of zeros; see :func:`~pycaffe_tools.volumes.creating.create_volume`.

    Returns
    -------
    A function that writes slice z; ``stack`` finishes the file.
    """
    import h5py

    name = dataset_name(inner, dtype)
    if file.exists():
        refuse_other_datasets(file, name)
    temporary = stack.enter_context(atomic_file(file))
    with h5py.File(temporary, "w") as handle:
        if storage.compress:
            chunk = (1, min(shape[1], CHUNK), min(shape[2], CHUNK))
            data = handle.create_dataset(name, shape, dtype, chunks=chunk, compression="gzip", shuffle=True)
        else:
            data = create_reserved_dataset(handle, name, shape, dtype)
        _describe_hdf5(data, pixel_size, description)
    if not storage.compress:
        reserve_space(temporary)
    data = stack.enter_context(h5py.File(temporary, "r+"))[name]

    def write(z: int, image: np.ndarray) -> None:
        # What a compressed slice takes is not known beforehand, and the library does not survive a full disk.
        if storage.compress and shutil.disk_usage(temporary.parent).free < image.nbytes + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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


def dataset_name(inner: Optional[str], dtype: Any) -> str:
    """Where a volume goes in its file: as named, else ``/probabilities`` for floats and ``/volume`` for integers."""
    return inner or ("/probabilities" if np.dtype(dtype).kind == "f" else "/volume")


def refuse_other_datasets(file: Path, name: str) -> None:
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

"""HDF5 volumes: ``file.h5:/dataset``, read and written slice by slice."""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, atomic_file
from . import pixel_size as calibration
from .axes import Layout, brief
from .pixel_size import PixelSize
from .volume import Volume


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


_CHUNK_CACHE_BYTES = 128 << 20


# HDF5 and OME-Zarr

def _open_hdf5(path: str, file: Path, inner: Optional[str], axes: Optional[str]) -> Volume:
    import h5py

    try:
        handle = h5py.File(file, "r")
    except OSError as error:
        raise UserError(f"{file}: is not a readable HDF5 file ({brief(error)}); copy it anew") from error
    try:
        names: List[str] = []
        handle.visititems(lambda name, item: names.append("/" + name) if isinstance(item, h5py.Dataset) else None)
        if inner is None and len(names) != 1:
            raise UserError(f"{file}: holds {len(names)} datasets ({', '.join(names[:8])}); "
                            f"name one, as in {file.name}:{names[0] if names else '/raw'}")
        if inner is not None and not isinstance(handle.get(inner), h5py.Dataset):
            raise UserError(f"{file}: has no dataset {inner}; it holds {', '.join(names[:8]) or 'none'}")
        data = handle[inner or names[0]]
        tags = calibration.axistags(data)
        declared = "".join(str(tag.get("key", "?")).upper() for tag in tags) if tags else None
        layout = Layout(path, data.shape, axes, declared if declared and len(declared) == data.ndim else None)
        pixel_size = calibration.of_hdf5(data, layout.axes)
        data = _with_chunk_cache(file, data, layout)
        return Volume(path, layout.shape, data.dtype, pixel_size,
                      lambda z: layout.read(data, z), handle.close, lambda: [file])
    except BaseException:
        handle.close()
        raise


def _with_chunk_cache(file: Path, data: Any, layout: Layout) -> Any:
    """The dataset with a cache for one layer of chunks, if small: else chunks deep in z are decoded per slice."""
    import h5py

    if data.chunks is None:
        return data
    z_depth = dict(zip(layout.axes, data.chunks)).get("Z", 1)
    layer = z_depth * layout.shape[1] * layout.shape[2] * data.dtype.itemsize * 5 // 4
    if z_depth == 1 or layer > _CHUNK_CACHE_BYTES:
        return data
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(10007, layer, 0.75)
    return h5py.Dataset(h5py.h5d.open(data.file.id, data.name.encode(), access))

"""The shards of a patch database: HDF5 files with patches, labels, and the pixel that each patch came from."""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike
from ..nets.paper import PATCH_SIZE
from ..volumes.axes import brief
from ..volumes.hdf5.writing import create_reserved_dataset, reserve_space

_BLOCK = 2 ** 21
"""Pixels in what is read or written at once: 8 MiB."""


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover ``count`` patches of ``size`` x ``size`` pixels, of at most 8 MiB each."""
    step = max(_BLOCK // size ** 2, 1)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


class ShardWriter:
    """HDF5 files of nearly equal length, written at any rows."""

    def __init__(self, folder: Path, name: str, patches: int, shard_patches: int, size: int):
        count = math.ceil(patches / shard_patches)
        self.files = [f"{name}_{number:03d}.h5" for number in range(count)]
        self.ends = [patches * (number + 1) // count for number in range(count)]
        self.rows = [end - start for start, end in zip([0] + self.ends, self.ends)]
        self._folder, self._size = folder, size
        self._stack = ExitStack()

    def __enter__(self) -> ShardWriter:
        import h5py

        for file, rows in zip(self.files, self.rows):
            with h5py.File(self._folder / file, "w") as handle:
                create_reserved_dataset(handle, "data", (rows, 1, self._size, self._size), np.float32)
                create_reserved_dataset(handle, "label", (rows,), np.float32)
                create_reserved_dataset(handle, "pixel", (rows, 4), np.int32)
            reserve_space(self._folder / file)
        with ExitStack() as stack:
            self._handles = [stack.enter_context(h5py.File(self._folder / file, "r+")) for file in self.files]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def write(self, rows: np.ndarray, patches: np.ndarray, label: int, pixels: np.ndarray) -> None:
        """Write n patches of one class (n x size x size) at these rows, numbered through all shards.

        ``pixels`` (n x 4) says where each came from: number of its stack, slice, row, column.
        """
        order = np.argsort(rows)        # HDF5 selects rows in ascending order only
        rows, patches, pixels = rows[order], patches[order], pixels[order]
        cuts = np.searchsorted(rows, self.ends[:-1])
        for handle, end, count, here, some, places in zip(self._handles, self.ends, self.rows, np.split(rows, cuts),
                                                          np.split(patches, cuts), np.split(pixels, cuts)):
            if here.size:
                handle["data"][here - (end - count)] = some[:, np.newaxis]
                handle["label"][here - (end - count)] = np.float32(label)
                handle["pixel"][here - (end - count)] = places


def check_shards(shards: Sequence[PathLike], size: int = PATCH_SIZE) -> None:
    """Read shards of patches of ``size`` pixels a side to their end, before a program does that would not say what is wrong.

    Raises
    ------
    UserError : as :func:`read_rows` does.
    """
    for shard in shards:
        with _opened(shard, size) as handle:
            for block in blocks(handle["label"].shape[0], size):
                _check_values(shard, handle["data"][block], handle["label"][block])


@contextmanager
def _opened(shard: PathLike, size: int) -> Iterator[Any]:
    """An opened shard of the right form, with patches of ``size`` pixels a side."""
    import h5py

    try:
        with h5py.File(shard, "r") as handle:
            shapes = {name: handle[name].shape if isinstance(handle.get(name), h5py.Dataset) else None
                      for name in ("data", "label")}
            rows = (shapes["label"] or (0,))[0]
            if shapes != {"data": (rows, 1, size, size), "label": (rows,)} or any(
                    handle[name].dtype != np.float32 for name in shapes):
                raise UserError(f"{shard}: is not a shard of patches, data float32 of n x 1 x {size} x {size} and "
                                f"label float32 of n; copy it again, or make the database again")
            yield handle
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{shard}: is damaged ({brief(error)}); copy it again, or make the database again") from error


def _check_values(shard: PathLike, patches: np.ndarray, labels: np.ndarray) -> None:
    if not np.isfinite(patches).all():
        raise UserError(f"{shard}: holds patches with values that are no numbers; copy it again, or make the database again")
    if not np.isin(labels, (0, 1)).all():
        raise UserError(f"{shard}: holds labels other than 0 and 1; copy it again, or make the database again")


def read_pixels(shards: Sequence[PathLike], size: int = PATCH_SIZE) -> np.ndarray:
    """Where every patch of some shards came from: int32, n x 4, number of its stack, slice, row, column.

    ``size`` is the side of the patches in pixels.

    Raises
    ------
    UserError : a shard is damaged, or the database was made before it held this.
    """
    found = []
    for shard in shards:
        with _opened(shard, size) as handle:
            if "pixel" not in handle:
                raise UserError(f"{shard}: does not say from which pixel each patch came; make the database again with "
                                f"python -m pycaffe_tools.patches")
            found.append(handle["pixel"][:])
    return np.concatenate(found)


def read_rows(shards: Sequence[PathLike], rows: Iterable[int], size: int = PATCH_SIZE) -> Tuple[np.ndarray, np.ndarray]:
    """Read patches by number, numbered from 0 through the shards in order.

    Parameters
    ----------
    shards : e.g. ``database.train``.
    rows : any order, repeats allowed.
    size : side of the patches in pixels, ``database.patch_size``.

    Returns
    -------
    data : float32, n x 1 x size x size; label : float32, n, 0 or 1.  In the order of ``rows``.

    Raises
    ------
    UserError : a shard is damaged: it cannot be read, is of another form, has fewer rows than asked for, or holds values
        that are no numbers or labels other than 0 and 1.
    """
    rows = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows, np.int64)
    data = np.empty((rows.size, 1, size, size), np.float32)
    label = np.empty(rows.size, np.float32)
    start, found = 0, 0
    for shard in shards:
        with _opened(shard, size) as handle:
            count = handle["label"].shape[0]
            here = np.flatnonzero((rows >= start) & (rows < start + count))
            local, back = np.unique(rows[here] - start, return_inverse=True)
            for block in blocks(local.size, size):
                # Selecting single rows is slow in HDF5; a run of rows is one read.
                some = local[block]
                run_of_rows = some[-1] - some[0] + 1 == some.size
                select = slice(some[0], some[-1] + 1) if run_of_rows else some
                patches, labels = handle["data"][select], handle["label"][select]
                _check_values(shard, patches, labels)
                inside = np.flatnonzero((back >= block.start) & (back < block.stop))
                data[here[inside]] = patches[back[inside] - block.start]
                label[here[inside]] = labels[back[inside] - block.start]
        start, found = start + count, found + here.size
    if found != rows.size:
        raise UserError(f"{shards[-1] if shards else 'patches'}: it and the shards before it hold {start} patches, fewer than "
                        f"asked for; copy them again, or make the database again")
    return data, label

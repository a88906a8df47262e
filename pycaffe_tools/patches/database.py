"""Reading and writing a patch database's files: HDF5 shards, lists of them, ``patches.json``."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, read_json
from ..nets.model import Normalisation
from ..nets.paper import PATCH_SIZE
from ..volumes.hdf5.writing import create_reserved_dataset, reserve_space
from ..volumes.paths import split_dataset

INFO = "patches.json"
FORMAT = 1
SPLITS = ("train", "val")
PRODUCTS = (INFO, *(f"{split}{ending}" for split in SPLITS for ending in (".txt", "_000.h5")))
"""What a database holds, and ``--force`` replaces; there may be shards of any number."""

BY_STACK = {"by": "stack"}
"""What stands for a normalisation where each stack is normalised by its own mean and standard deviation."""

_BLOCK = 2048


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most 2048 patches (8 MiB) that cover ``count`` of them."""
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


class ShardWriter:
    """HDF5 files of nearly equal length, written at any rows."""

    def __init__(self, folder: Path, name: str, patches: int, shard_patches: int):
        count = math.ceil(patches / shard_patches)
        self.files = [f"{name}_{number:03d}.h5" for number in range(count)]
        self.ends = [patches * (number + 1) // count for number in range(count)]
        self.rows = [end - start for start, end in zip([0] + self.ends, self.ends)]
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> ShardWriter:
        import h5py

        for file, rows in zip(self.files, self.rows):
            with h5py.File(self._folder / file, "w") as handle:
                create_reserved_dataset(handle, "data", (rows, 1, PATCH_SIZE, PATCH_SIZE), np.float32)
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
        """Write n patches of one class (n x 32 x 32) at these rows, numbered through all shards.

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


class Database(NamedTuple):
    """An opened patch database.

    train, val : shards, absolute, in order.
    train_count, val_count : patches.
    normalisation : mean and std of the training slices' grey values; None where each stack has its own.
    pixel_size_nm : z, y, x; None where unknown.
    info : content of ``patches.json``.
    """

    directory: Path
    train: List[Path]
    val: List[Path]
    train_count: int
    val_count: int
    normalisation: Optional[Normalisation]
    pixel_size_nm: List[Optional[float]]
    info: Dict[str, Any]

    def model_normalisation(self) -> Dict[str, Any]:
        """The normalisation as ``model.json`` holds it: mean and std, or those of each stack with the stack's hash."""
        if self.normalisation is not None:
            return self.normalisation._asdict()
        return {**BY_STACK, "stacks": [{"sha256": source["raw"]["sha256"], "dataset": split_dataset(source["raw"]["path"])[1],
                                        **source["normalisation"]} for source in self.info["sources"]]}


def open_database(path: PathLike) -> Database:
    """Open a patch database; it may have been moved since it was made.

    Raises
    ------
    UserError : not a database, of a later format, or with shards missing or cut.
    """
    directory = Path(path).absolute()
    if not (directory / INFO).is_file():
        raise UserError(f"{path}: holds no {INFO}, so it is not a complete patch database; make one with "
                        f"python -m pycaffe_tools.patches")
    info = read_json(directory / INFO)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise UserError(f"{directory / INFO}: is not of format {FORMAT}; make the database again")
    shards: Dict[str, List[Path]] = {}
    for name in SPLITS:
        shards[name] = [directory / shard["file"] for shard in info[name]["shards"]]
        for file, shard in zip(shards[name], info[name]["shards"]):
            if not file.is_file() or file.stat().st_size != shard["bytes"]:
                raise UserError(f"{file}: is missing or not as long as {INFO} says; copy it again, or make "
                                f"the database again")
    return Database(directory, shards["train"], shards["val"], info["train"]["patches"], info["val"]["patches"],
                    None if info["normalisation"] == BY_STACK else Normalisation(**info["normalisation"]),
                    info["pixel_size_nm"], info)


def lists(database: Database, directory: PathLike) -> Tuple[Path, Path]:
    """Write ``train.txt`` and ``val.txt`` with the shards' present absolute paths into ``directory``.

    Caffe opens what is in the list relative to its own working directory, and
    the list in the database names the place where it was made.

    Raises
    ------
    UserError : a path with white space, at which Caffe's reader of lists would split it.
    """
    written = []
    for name, shards in (("train", database.train), ("val", database.val)):
        if any(len(str(shard).split()) != 1 for shard in shards):
            raise UserError(f"{database.directory}: Caffe splits list files at white space and cannot read from a "
                            f"folder with a space in its path; rename or move it")
        written.append(Path(directory) / f"{name}.txt")
        written[-1].write_text("".join(f"{shard}\n" for shard in shards), encoding="utf-8")
    return written[0], written[1]


def read_pixels(shards: Sequence[PathLike]) -> np.ndarray:
    """Where every patch of some shards came from: int32, n x 4, number of its stack, slice, row, column.

    Raises
    ------
    UserError : the database was made before it held this.
    """
    import h5py

    found = []
    for shard in shards:
        with h5py.File(shard, "r") as handle:
            if "pixel" not in handle:
                raise UserError(f"{shard}: does not say from which pixel each patch came; make the database again with "
                                f"python -m pycaffe_tools.patches")
            found.append(handle["pixel"][:])
    return np.concatenate(found)


def read_rows(shards: Sequence[PathLike], rows: Iterable[int]) -> Tuple[np.ndarray, np.ndarray]:
    """Read patches by number, numbered from 0 through the shards in order.

    Parameters
    ----------
    shards : e.g. ``database.train``.
    rows : any order, repeats allowed.

    Returns
    -------
    data : float32, n x 1 x 32 x 32; label : float32, n.  In the order of ``rows``.
    """
    import h5py

    rows = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows, np.int64)
    data = np.empty((rows.size, 1, PATCH_SIZE, PATCH_SIZE), np.float32)
    label = np.empty(rows.size, np.float32)
    start, found = 0, 0
    for shard in shards:
        with h5py.File(shard, "r") as handle:
            count = handle["label"].shape[0]
            here = np.flatnonzero((rows >= start) & (rows < start + count))
            local, back = np.unique(rows[here] - start, return_inverse=True)
            for block in blocks(local.size):
                # Selecting single rows is slow in HDF5; a run of rows is one read.
                some = local[block]
                run_of_rows = some[-1] - some[0] + 1 == some.size
                select = slice(some[0], some[-1] + 1) if run_of_rows else some
                patches, labels = handle["data"][select], handle["label"][select]
                inside = np.flatnonzero((back >= block.start) & (back < block.stop))
                data[here[inside]] = patches[back[inside] - block.start]
                label[here[inside]] = labels[back[inside] - block.start]
        start, found = start + count, found + here.size
    if found != rows.size:
        raise IndexError(f"rows outside the {start} patches of {len(shards)} shards")
    return data, label

"""Results slice by slice in a folder of their own, so that nothing that is finished is ever computed again.

Beside ``OUT.tif`` stands ``OUT.tif.parts`` while a segmentation runs:

=================  ==========================================================================
``manifest.json``  what was asked: input, model and options; a run that asks for something
                   else is refused, with the name of the field that differs
``000012.npz``     ``probability`` (rows x columns, float32 or uint8), ``mask`` (uint8, 0 or
                   255, where one is asked for) and ``grey_sha256`` of slice 12; the file
                   appears when it is whole
``lock``           held by the running process, so that two never work on one output
=================  ==========================================================================

A killed process or a full disk leaves whole slices and nothing else.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.files import atomic_file, read_json_object, write_json
from ...base.locks import FileLock

MANIFEST = "manifest.json"
AFRESH = "pass --force to start from scratch"
"""How what stands there is given up, for messages."""

NOT_COMPARED = ("input.path", "input.bytes", "input.modified", "made_with")
"""Fields that may differ between two runs of one segmentation: the input may be moved or touched, since the
grey values of finished slices are compared themselves."""


def output_lock(folder: Path, where: Path, passing: bool = False) -> FileLock:
    """The lock of an output whose results lie in ``folder``: who holds it may write the output; ``where`` is its name in
    messages."""
    return FileLock(folder / "lock", where, "is writing this output", "wait for it, or choose another output", passing=passing)


class DamagedSlice(Exception):
    """The result of slice ``z`` cannot be read: it has to be computed again."""

    def __init__(self, z: int, path: Path):
        super().__init__(f"{path}: the finished result of slice {z} is damaged")
        self.z = z


class SliceResult(NamedTuple):
    """What is kept of a slice."""

    probability: np.ndarray
    mask: Optional[np.ndarray]
    grey_sha256: str


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of a slice's values, as they lie in memory row by row."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def differences(one: Mapping[str, Any], other: Mapping[str, Any],
                ignored: Tuple[str, ...] = NOT_COMPARED) -> List[Tuple[str, Any, Any]]:
    """Fields in which two manifests differ: dotted name, value in ``one``, value in ``other``."""
    first, second = dict(_flat(one)), dict(_flat(other))
    return [(name, first.get(name), second.get(name)) for name in sorted(set(first) | set(second))
            if first.get(name) != second.get(name)
            and not any(name == field or name.startswith(field + ".") for field in ignored)]


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[Tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def refuse_difference(where: Path, before: Mapping[str, Any], now: Mapping[str, Any], advice: str = AFRESH) -> None:
    """Compare what was asked before with what is asked now; ``advice`` ends the sentence.

    Raises
    ------
    UserError : names the first field that differs, with both values.
    """
    for name, old, new in differences(before, now):
        raise UserError(f"{where}: was made with {name} {old!r}, now {name} is {new!r}; ask for the same as before, choose "
                        f"another output, or {advice}")


def compare_grey_values(slices: Sequence[int], before: Callable[[int], Optional[str]], read: Callable[[int], np.ndarray],
                        where: str, folder: Path, advice: str) -> None:
    """Compare the input's grey values with the hashes of those that finished slices were made from.

    Raises
    ------
    UserError : they differ; names the slice.
    """
    for z in slices:
        try:
            now = pixel_hash(read(z))
        except UserError:
            now = "nothing that can be read"
        if now != before(z):
            raise UserError(f"{where}: input.slice {z} is not the one that its finished result in {folder} "
                            f"was made from; put the input back, or {advice}")


class SliceStore:
    """The folder of results of one output; a context manager that holds its lock.

    Parameters
    ----------
    folder : where it is, or will be.
    """

    afresh = AFRESH

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = output_lock(folder, folder)

    @property
    def manifest(self) -> Optional[Dict[str, Any]]:
        """What an earlier run was asked for; None if there was none, or it has finished no slice."""
        path = self.folder / MANIFEST
        return read_json_object(path) if path.exists() and any(self.folder.glob("*.npz")) else None

    def begin(self, manifest: Mapping[str, Any], force: bool = False) -> None:
        """Take the folder for this process, and check or write its manifest.

        Raises
        ------
        TemporaryError : another process works there.
        UserError : the earlier run was asked for something else.
        """
        self._lock.acquire()
        for left in self.folder.glob(".*.partial-*"):       # of a killed process; nobody else works here
            left.unlink()
        before = None if force else self.manifest
        if before is not None:
            refuse_difference(self.folder, before, manifest, self.afresh)
        else:
            # Results without a manifest are what a process that was killed while it cleared up has left.
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for file in self.folder.glob("*.npz"):
                file.unlink()
        write_json(self.folder / MANIFEST, manifest)

    def end(self) -> None:
        """Let go of the folder."""
        self._lock.release()

    def __enter__(self) -> SliceStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def _path(self, z: int) -> Path:
        return self.folder / f"{z:06d}.npz"

    def save(self, z: int, result: SliceResult) -> None:
        """Keep a slice's result, whole or not at all."""
        arrays = {"probability": result.probability, "grey_sha256": np.array(result.grey_sha256)}
        if result.mask is not None:
            arrays["mask"] = result.mask
        # What killed processes left is removed by `begin`.  Not np.savez, which leaves the file open where the disk is full.
        with atomic_file(self._path(z), tidy=False) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)

    def load(self, z: int) -> SliceResult:
        """A slice's result.

        Raises
        ------
        DamagedSlice : it is not whole.
        """
        try:
            with np.load(self._path(z), allow_pickle=False) as file:
                return SliceResult(file["probability"], file["mask"] if "mask" in file.files else None,
                                   str(file["grey_sha256"]))
        except Exception as error:      # numpy reads a header as Python's source, so a damaged one raises anything
            raise DamagedSlice(z, self._path(z)) from error

    def forget(self, z: int) -> None:
        """Remove a slice's result."""
        self._path(z).unlink(missing_ok=True)

    def finished(self, slices: Sequence[int]) -> List[int]:
        """Those of ``slices`` whose result is there and looks whole; its pixels are read when they are needed."""
        return [z for z in slices if self._grey_hash(z) is not None]

    def _grey_hash(self, z: int) -> Optional[str]:
        """Hash of the grey values that a finished slice was made from; None if there is no such slice, or a damaged one."""
        try:
            # A zip file's directory stands at its end, so a file that was cut off is noticed here.
            with np.load(self._path(z), allow_pickle=False) as file:
                return str(file["grey_sha256"])
        except Exception:               # see `load`
            return None

    def check_grey_values(self, slices: Sequence[int], read: Callable[[int], np.ndarray], where: str) -> None:
        """Compare the input's grey values with those that finished slices were made from.

        Raises
        ------
        UserError : they differ; names the slice.
        """
        compare_grey_values(slices, self._grey_hash, read, where, self.folder, self.afresh)

    def remove(self) -> None:
        """Delete the folder, when its results have gone into the output, or there are none."""
        (self.folder / MANIFEST).unlink(missing_ok=True)    # first: without it, what is left counts for nothing
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Delete the folder if no slice was finished; left alone while it is another process' own."""
        if self._lock.held and not any(self.folder.glob("*.npz")):
            self.remove()

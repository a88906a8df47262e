"""Results written straight into an OME-Zarr, by as many processes as want to: a slice has files of its own there.

See :mod:`pycaffe_tools.segment.in_place.records` for what is written beside it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...base.errors import TemporaryError, UserError
from ...base.files import refuse_existing, write_json
from ...base.locks import FileLock
from ...base.ranges import slice_ranges
from ...volumes.chunked.writing import ImageWriter, make_image
from ...volumes.pixel_size import PixelSize
from ...volumes.storage import Storage
from ..slices.slice_store import MANIFEST, SliceResult, compare_grey_values, pixel_hash, refuse_difference
from .records import living, manifest_in, records_in, refuse_living, store_lock

PATIENCE = 120.0
"""Seconds to wait for the others that begin at the same time; making the volume takes one or two."""


class Target(NamedTuple):
    """An OME-Zarr to be filled."""

    path: Path
    content: str
    """Which field of a :class:`SliceResult` goes there."""
    shape: Tuple[int, int, int]
    dtype: np.dtype
    pixel_size: PixelSize
    description: str
    storage: Storage


class SharedStore:
    """The records of an OME-Zarr that several processes fill; a context manager for one of them.

    Parameters
    ----------
    folder : of the records.
    targets : the volumes.
    whole : numbers of all slices of the volumes, in order.
    slices : those that this process does.
    """

    def __init__(self, folder: Path, targets: Sequence[Target], whole: Sequence[int], slices: Sequence[int]):
        self.folder = folder
        self._targets = list(targets)
        self._place = {z: place for place, z in enumerate(whole)}
        self._slices = slices
        self._writers: Dict[str, ImageWriter] = {}
        self._alive: Optional[FileLock] = None
        self._file: Optional[IO[str]] = None
        self._lock = threading.Lock()
        self.afresh = f"remove {', '.join(str(path) for path in [*(each.path for each in targets), folder])} to start from scratch"

    @property
    def manifest(self) -> Optional[Dict[str, Any]]:
        """What was asked of the whole; None if nobody has begun."""
        return manifest_in(self.folder)

    def agree(self, manifest: Mapping[str, Any], force: bool = False) -> Dict[str, Any]:
        """Make the volumes if no other process has, for what ``manifest`` says.

        Returns
        -------
        What the process that came first has asked for; ``manifest`` if that is this one.

        Raises
        ------
        UserError : something else stands where a volume is to be made.
        TemporaryError : ``force``, and another process works there.
        """
        with store_lock(self.folder, PATIENCE):
            standing = self.manifest
            if force and standing is not None:
                refuse_living(self.folder)
                standing = None
            if standing is None:
                self._remove()          # records without a manifest are what a process that was killed while it cleared up has left
                for target in self._targets:
                    refuse_existing(target.path, force)
                standing = dict(manifest)
                write_json(self.folder / MANIFEST, standing)
            for target in self._targets:
                if force or not target.path.exists():
                    make_image(target.path, target.shape, target.dtype, target.pixel_size, target.description, target.storage,
                               force)
        return standing

    def begin(self, manifest: Mapping[str, Any], claim: bool = True) -> None:
        """Take part: check what was asked, open the volumes and say which slices this process does.

        Without ``claim`` it does what another process, which has claimed it, gives it to do.

        Raises
        ------
        TemporaryError : another process does some of them.
        UserError : the first process was asked for something else, or a volume is not the one that it made.
        """
        refuse_difference(self.folder, self.agree(manifest), manifest, self.afresh)
        for target in self._targets:
            writer = ImageWriter(target.path, target.shape, target.storage)
            if not writer.matches(target.dtype):
                raise UserError(f"{target.path}: is not the volume that was begun there; {self.afresh}")
            self._writers[target.content] = writer
        mine = self._slices if claim else []
        with store_lock(self.folder, PATIENCE):
            for name, theirs in living(self.folder):
                both = sorted(theirs & set(mine))
                if both:
                    raise TemporaryError(f"{self.folder}: another process ({name}) does slices {slice_ranges(both)}; wait for it, "
                                         f"or ask for others")
            # Names begin with a slice only for people, who look for the process of a part.
            stem = f"{self._slices[0]:06d}-{secrets.token_hex(4)}"
            self._alive = FileLock(self.folder / f"{stem}.lock", self.folder, "has this name", "try again", passing=True)
            self._alive.acquire()
            self._file = open(self.folder / f"{stem}.jsonl", "x", encoding="utf-8")
            self._add({"slices": slice_ranges(mine)})

    def end(self) -> None:
        """Leave."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._alive is not None:
            self._alive.release()
            self._alive = None

    def __enter__(self) -> SharedStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def save(self, z: int, result: SliceResult) -> None:
        """Write a slice into the volumes, and say so when it is on the disk."""
        pixels = {target.content: getattr(result, target.content) for target in self._targets}
        for content, image in pixels.items():
            self._writers[content].replace(self._place[z], image)
        self._add({"z": z, "grey": result.grey_sha256, "pixels": {name: pixel_hash(image) for name, image in pixels.items()}})

    def _add(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None, "begin was not called"
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def finished(self, slices: Sequence[int]) -> List[int]:
        """Those of ``slices`` that are whole; their pixels are compared when the volume is finished."""
        contents = {target.content for target in self._targets}
        whole = {z for z, record in records_in(self.folder) if contents <= set(record.pixels)}
        return [z for z in slices if z in whole]

    def check_grey_values(self, slices: Sequence[int], read: Callable[[int], np.ndarray], where: str) -> None:
        """Compare the input's grey values with those that finished slices were made from.

        Raises
        ------
        UserError : they differ; names the slice.
        """
        before = {z: record.grey for z, record in records_in(self.folder)}
        compare_grey_values(slices, before.get, read, where, self.folder, self.afresh)

    def remove_if_empty(self) -> None:
        """Take the volumes away again if no process has finished a slice, or works on one."""
        self.end()
        with store_lock(self.folder, PATIENCE):
            if self.manifest is None or any(True for _ in records_in(self.folder)) or any(True for _ in living(self.folder)):
                return
            self._remove()
            for target in self._targets:
                shutil.rmtree(target.path, ignore_errors=True)
            (self.folder / "lock").unlink(missing_ok=True)
            self.folder.rmdir()

    def _remove(self) -> None:
        (self.folder / MANIFEST).unlink(missing_ok=True)    # first: without it, what is left counts for nothing
        for file in [*self.folder.glob("*.jsonl"), *self.folder.glob("*-*.lock")]:
            file.unlink()

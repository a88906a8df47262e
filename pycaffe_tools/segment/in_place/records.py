"""Which slices of a volume that several processes fill in place are whole, and who is at work.

Beside ``OUT.zarr`` stands ``OUT.zarr.records`` from the first process to the last step:

====================  ======================================================================================
``manifest.json``     what was asked of the whole
``lock``              held for the moment in which a process begins, and while the volume is finished
``000120-3f9c.jsonl`` of one process: a line that says which slices it does, then for each slice that is whole
                      and on the disk a line with the hashes of its grey values and of its pixels
``000120-3f9c.lock``  held while that process lives
====================  ======================================================================================

Lines are only ever added, so the cost of a slice does not depend on how many
there are, and a killed process leaves at worst half a line, which counts for
nothing: its slice is computed again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Set, Tuple

from ...base.errors import TemporaryError
from ...base.files import read_json_object
from ...base.locks import FileLock
from ...base.ranges import slice_ranges
from ..slices.slice_store import MANIFEST


class Record(NamedTuple):
    """A slice that is whole."""

    grey: str
    """Hash of the grey values that it was made from."""
    pixels: Dict[str, str]
    """Hash of its pixels in each output, by content."""


def store_lock(folder: Path, patience: float = 0.0) -> FileLock:
    """Held by a process that begins, and by the one that finishes the volume."""
    return FileLock(folder / "lock", folder, "is working on this output", "wait for it", patience)


def manifest_in(folder: Path) -> Optional[Dict[str, Any]]:
    """What was asked of the whole; None if nobody has begun."""
    return read_json_object(folder / MANIFEST) if (folder / MANIFEST).exists() else None


def records_in(folder: Path) -> Iterator[Tuple[int, Record]]:
    """Slices that are whole, as the processes have said it; one that was done twice comes twice."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in _lines(file):
            record = _record(line)
            if record is not None:
                yield record


def forget(folder: Path, slices: Set[int]) -> None:
    """Take slices for not done; for a process that holds the lock while no other is at work."""
    for file in sorted(folder.glob("*.jsonl")):
        lines = list(_lines(file))
        kept = [line for line in lines if line.get("z") not in slices]
        if len(kept) < len(lines):
            partial = file.with_suffix(".rewritten")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            os.replace(partial, file)


def living(folder: Path) -> Iterator[Tuple[str, Set[int]]]:
    """Processes at work: who it is, and the slices that it does."""
    for path in sorted(folder.glob("*-*.lock")):
        lock = FileLock(path, folder, "", "", passing=True)
        try:
            lock.acquire()
            lock.release()              # its process was killed; now the file is gone
        except TemporaryError:
            header = next(_lines(path.with_suffix(".jsonl")), {})
            yield _holder(path), set(numbers(str(header.get("slices", ""))))


def refuse_living(folder: Path) -> None:
    """Raise :class:`TemporaryError` if a process is at work."""
    for name, slices in living(folder):
        raise TemporaryError(f"{folder}: another process ({name}) is still at work on slices {slice_ranges(sorted(slices))}; "
                             f"wait for it")


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or path.stem
    except OSError:
        return path.stem


def numbers(ranges: str) -> Iterator[int]:
    """Slice numbers of ranges as :func:`~pycaffe_tools.base.ranges.slice_ranges` writes them."""
    for text in filter(None, ranges.split(",")):
        first, _, stop = text.partition(":")
        yield from range(int(first), int(stop or int(first) + 1))


def _lines(file: Path) -> Iterator[Dict[str, Any]]:
    """The whole lines of a file of records."""
    try:
        stream = open(file, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with stream:
        for text in stream:
            try:
                line = json.loads(text)
            except ValueError:          # cut off, where its process was killed or the disk was full
                continue
            if isinstance(line, dict):
                yield line


def _record(line: Mapping[str, Any]) -> Optional[Tuple[int, Record]]:
    z, grey, pixels = (line.get(name) for name in ("z", "grey", "pixels"))
    if type(z) is int and isinstance(grey, str) and isinstance(pixels, dict) and all(isinstance(each, str) for each in pixels.values()):
        return z, Record(grey, pixels)
    return None

"""The folder of results: for each slice its probabilities, mask and pictures, and a record that says where they come from.

====================  ===========================================================================
``watch.json``        what was asked: folder, models, options; a run that asks for something else
                      is refused, with the name of the field that differs
``probability/``      ``s0012.tif`` for the slice ``s0012.tif`` (or ``.png``); the folder can be
``mask/``             opened as a stack, as that of the slices can
``overlay/``          ``s0012.png``: the mask's outline on the grey image
``preview/``          the same, small, for the web page
``records/``          ``s0012.tif.json``: written last, so a slice that has a record is whole
``log.jsonl``         what happened when
``lock``              held by the running process
====================  ===========================================================================
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.fields import Fields
from ..base.files import read_json_object, refuse_existing, refuse_other_files, write_json
from ..segment.outputs import DESCRIPTIONS
from ..segment.slices.slice_store import SliceResult, output_lock, pixel_hash, refuse_difference
from ..volumes.creating import create_volume
from ..volumes.overlay import contrast_of, reduced, write_overlay
from ..volumes.pixel_size import PixelSize
from ..volumes.provenance import MASK, PROBABILITY
from .folder import Signature

FORMAT = 1
MANIFEST, LOG = "watch.json", "log.jsonl"
OVERLAY, PREVIEW, RECORDS = "overlay", "preview", "records"
ENDINGS = {PROBABILITY: ".tif", MASK: ".tif", OVERLAY: ".png", PREVIEW: ".png"}
"""Kinds of results of a slice, each with a folder, and how their files' names end."""
ENTRIES = (MANIFEST, LOG, "lock", RECORDS, *ENDINGS)

PREVIEW_SIDE = 480
"""Pixels, at most, of the small picture's longer side."""


class Done(NamedTuple):
    """What is remembered of a slice that is finished."""

    signature: Signature
    grey_sha256: str
    record: Dict[str, Any]


def timestamp(seconds: float) -> str:
    """A time in UTC as the log writes it: ``2026-11-25T14:03:07.250Z``."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def told_if_full(folder: Path) -> Iterator[None]:
    """Make one sentence of it that the disk with the results is full."""
    try:
        yield
    except (OSError, UserError) as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT) and "disk" not in str(error):
            raise
        raise UserError(f"{folder}: the disk is full; what is finished is kept there, free some space and run the same command "
                        f"again") from error


class Results:
    """The folder of results of one watch; holds its lock from :meth:`begin` to :meth:`end`.

    Parameters
    ----------
    folder : where it is, or will be.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self._lock = output_lock(self.folder, self.folder)

    def begin(self, manifest: Mapping[str, Any], force: bool) -> Optional[Dict[str, Any]]:
        """Take the folder for this process.

        Parameters
        ----------
        manifest : what is asked now.
        force : remove the results of an earlier run.

        Returns
        -------
        The manifest of the earlier run that this one continues; None where there is none.

        Raises
        ------
        UserError : the folder holds something else, the earlier run was asked for something else, or still runs.
        """
        place = self.folder / MANIFEST
        if not place.is_file():
            # A lock and a log are all that there is before the first slice.
            others = [entry.name for entry in self.folder.iterdir()
                      if entry.name not in ("lock", LOG)] if self.folder.is_dir() else []
            if others and force:
                raise UserError(f"{self.folder}: holds files ({', '.join(sorted(others)[:3])}) and no {MANIFEST}, so it is not what "
                                f"watch has made, and --force does not replace it; choose another folder")
            if others or not self.folder.is_dir():
                refuse_existing(self.folder)
        elif force:
            refuse_other_files(self.folder, ENTRIES)
        self._lock.acquire()
        earlier = read_json_object(place) if place.is_file() and not force else None
        if earlier is not None:
            before = {name: earlier.get(name) for name in manifest}
            refuse_difference(self.folder, before, manifest)
        else:
            # The manifest stays until the first slice brings a new one: killed before, --force is still possible.
            for file in self._files(RECORDS):
                file.unlink()
        return earlier

    def describe(self, manifest: Mapping[str, Any]) -> None:
        """Write ``watch.json``."""
        write_json(self.folder / MANIFEST, {"format": FORMAT, **manifest})

    def end(self) -> None:
        """Let go of the folder; one in which nothing was written is removed."""
        if not self._lock.held:
            return
        if not (self.folder / MANIFEST).exists() and {entry.name for entry in self.folder.iterdir()} <= {"lock", LOG}:
            for name in ("lock", LOG):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()
        self._lock.release()

    def _files(self, kind: str) -> List[Path]:
        folder = self.folder / kind
        return sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []

    def path(self, kind: str, slice_name: str) -> Path:
        """Where a result of a slice lies, by the name of the slice's file."""
        if kind == RECORDS:
            return self.folder / RECORDS / f"{slice_name}.json"
        return self.folder / kind / f"{Path(slice_name).stem}{ENDINGS[kind]}"

    def finished(self) -> Dict[str, Done]:
        """The slices of which everything is there, by the names of their files; what belongs to no record is removed."""
        found = {}
        for file in self._files(RECORDS):
            if file.suffix != ".json" or file.name.startswith("."):
                file.unlink()
                continue
            try:
                done = _done(read_json_object(file), file)
            except UserError:           # damaged: the slice is computed again, as one without a record is
                file.unlink()
                continue
            if all(self._is_whole(kind, file.stem, done.record) for kind in ENDINGS):
                found[file.stem] = done
            else:
                file.unlink()
        # What a killed process left beside the records would be taken for slices by who opens the folder as a stack.
        known = {kind: {self.path(kind, name).name for name in found} for kind in ENDINGS}
        for kind in ENDINGS:
            for file in self._files(kind):
                if file.name not in known[kind] and (file.suffix == ENDINGS[kind] or ".partial-" in file.name):
                    file.unlink()
        return found

    def _is_whole(self, kind: str, name: str, record: Mapping[str, Any]) -> bool:
        try:
            return bool(self.path(kind, name).stat().st_size == record["files"][kind]["bytes"])
        except (OSError, KeyError, TypeError):
            return False

    def save(self, name: str, grey: np.ndarray, result: SliceResult, pixel_size: PixelSize) -> Dict[str, Dict[str, Any]]:
        """Write everything of a slice but its record.

        Parameters
        ----------
        name : of the slice's file.
        grey, result : rows x columns.
        pixel_size : nm.

        Returns
        -------
        For the record: each file with its length, and the hash of its pixels.

        Raises
        ------
        UserError : the disk is full.
        """
        assert result.mask is not None
        files: Dict[str, Dict[str, Any]] = {}
        for kind, pixels in ((PROBABILITY, result.probability), (MASK, result.mask)):
            with create_volume(self.path(kind, name), (1, *pixels.shape), pixels.dtype, pixel_size, DESCRIPTIONS[kind],
                               force=True) as writer:
                writer.write(0, pixels)
            files[kind] = {"pixels_sha256": pixel_hash(pixels)}
        contrast = contrast_of(grey)
        write_overlay(self.path(OVERLAY, name), grey, result.mask > 0, contrast)
        write_overlay(self.path(PREVIEW, name), *reduced(grey, result.mask > 0, PREVIEW_SIDE), contrast)
        for kind in ENDINGS:
            path = self.path(kind, name)
            files[kind] = {"file": path.relative_to(self.folder).as_posix(), "bytes": path.stat().st_size, **files.get(kind, {})}
        return files

    def record(self, name: str, record: Dict[str, Any]) -> Done:
        """Write a slice's record, which makes it finished."""
        path = self.path(RECORDS, name)
        write_json(path, record)
        return _done(record, path)

    def log(self, event: str, at: float, **facts: Any) -> None:
        """Add a line to the log.

        Parameters
        ----------
        event : a word for what happened.
        at : when, seconds since 1970.
        facts : more, for example the name of the slice.
        """
        line = json.dumps({"at": timestamp(at), "event": event, **facts}, ensure_ascii=False)
        with told_if_full(self.folder), open(self.folder / LOG, "ab+") as stream:
            # A killed process or a full disk may have left half a line.
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else f"\n{line}"
            stream.write(f"{line}\n".encode("utf-8", "surrogateescape"))


def _done(record: Dict[str, Any], path: Path) -> Done:
    fields = Fields(record, path)
    source = fields.fields("source")
    times = fields.fields("times")
    times.text("finished"), times.number("seconds", 0), times.number("delay"), fields.fields("model").text("name")
    grey = fields.fields("grey")
    grey.number("mean"), grey.number("std"), grey.get("drift")
    return Done(Signature(source.whole("bytes"), source.whole("modified")), fields.text("grey_sha256"), record)


def earlier_shape(manifest: Mapping[str, Any], where: Path) -> Tuple[Tuple[int, int], np.dtype, Fields]:
    """Size and data type of the slices that an earlier run began with, and the tiles of its models.

    Raises
    ------
    UserError : the manifest is damaged.
    """
    fields = Fields(dict(manifest), where)
    slices = fields.fields("slices")
    shape = slices.wholes("shape")
    dtype = slices.one_of("dtype", ["uint8", "uint16", "float32"])
    if len(shape) != 2:
        raise UserError(f"{where}: its field slices.shape is not a number of rows and of columns; pass --force to start from scratch")
    return (shape[0], shape[1]), np.dtype(dtype), fields.fields("tiles")



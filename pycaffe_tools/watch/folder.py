"""A folder that is being filled: which slices are in it, which of them are whole, and in which order they come.

A microscope, or a copy over the network, writes a file piece by piece.  A
file counts as whole when its size and its time of change have stayed the same
for a while; whether it can then be read is found out by reading it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..base.errors import UserError
from ..base.files import PathLike
from ..volumes.images.slice_folder import slice_files
from ..volumes.images.slice_names import natural_key, one_series
from ..volumes.paths import split_pattern


class Signature(NamedTuple):
    """By what a change of a file is noticed."""

    bytes: int
    modified: int
    """Nanoseconds."""


class FolderGone(Exception):
    """The folder cannot be read now, which on a network share may pass; the text says why."""


class WatchedFolder:
    """A folder of slices, or those of its files that a pattern chooses (``folder/*_raw.png``).

    Attributes
    ----------
    unnamed : files that the last scan has left out, since their names are no text that a record could hold.

    Raises
    ------
    UserError : there is no such folder.
    """

    def __init__(self, path: PathLike):
        self.path = str(path)
        self.pattern: Optional[str]
        self.unnamed: List[str] = []
        self.folder, self.pattern = split_pattern(path)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: there is no such folder; check the path, or make the folder that the microscope will "
                            f"write to")

    def scan(self) -> Dict[str, Signature]:
        """The slices that are there, by the names of their files.

        Raises
        ------
        FolderGone : the folder cannot be read.
        """
        found, unnamed = {}, []
        try:
            for file in slice_files(self.folder, self.pattern):
                signature = self.signature(file.name)
                shown = file.name.encode("utf-8", "replace").decode("utf-8")
                if shown != file.name:
                    unnamed.append(shown)
                elif signature is not None:
                    found[file.name] = signature
        except OSError as error:
            raise FolderGone(error.strerror or str(error)) from None
        self.unnamed = unnamed
        return found

    def signature(self, name: str) -> Optional[Signature]:
        """Of one file as it is now; None if it is not there."""
        try:
            status = (self.folder / name).stat()
        except OSError:
            return None
        return Signature(status.st_size, status.st_mtime_ns)

    def ordered(self, names: Sequence[str]) -> Tuple[List[str], Optional[str]]:
        """Names in the order of the slices of a stack, as :func:`pycaffe_tools.open_volume` has them.

        Returns
        -------
        The names, and a sentence if a stack could not be opened with all of them: then they are sorted by the numbers in
        their names.
        """
        files = [Path(self.folder, name) for name in names]
        try:
            kinds = {file.suffix.lower()[:4] for file in files}
            if len(kinds) > 1:
                raise UserError(f"{self.path}: holds .tif and .png files; choose the slices of one stack by a pattern, as in "
                                f"'{self.folder}/*.tif'")
            series = one_series(self.path, files, chosen=self.pattern is not None) if files else None
        except UserError as error:
            return sorted(names, key=natural_key), str(error)
        return [file.name for file in series.files] if series else [], None


class Seen(NamedTuple):
    """A file as it was last seen."""

    signature: Signature
    arrived: float
    """When its last change was noticed: seconds since 1970."""
    since: float
    """The same on a clock that nobody sets."""


class Arrivals:
    """Notices when files have stopped changing.

    Parameters
    ----------
    settle : seconds for which a file has to stay the same.
    """

    def __init__(self, settle: float):
        self.settle = settle
        self._seen: Dict[str, Seen] = {}

    def look(self, found: Dict[str, Signature], clock: float, now: float) -> bool:
        """Take note of what a scan has found.

        Parameters
        ----------
        found : what :meth:`WatchedFolder.scan` gave; files that are not in it any more are forgotten.
        clock : a time in seconds that only goes forward.
        now : seconds since 1970.

        Returns
        -------
        Whether anything is new or has changed.
        """
        before, self._seen = self._seen, {}
        for name, signature in found.items():
            seen = before.get(name)
            self._seen[name] = seen if seen and seen.signature == signature else Seen(signature, now, clock)
        return any(before.get(name) is not seen for name, seen in self._seen.items())

    def whole(self, clock: float) -> Dict[str, Seen]:
        """The files that have not changed for long enough."""
        return {name: seen for name, seen in self._seen.items() if clock - seen.since >= self.settle}

    def next_whole(self, clock: float) -> Optional[float]:
        """Seconds until the next file will have stayed the same for long enough; None if all have."""
        left = [seen.since + self.settle - clock for seen in self._seen.values() if clock - seen.since < self.settle]
        return min(left) if left else None

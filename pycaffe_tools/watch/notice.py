"""Waiting for something to happen in a folder: told by the operating system where it can, otherwise by looking again.

The package watchdog passes on what the operating system tells.  That knows
nothing of what other machines write, so folders on network shares are looked
at every second, as all are where watchdog is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional

POLL = 1.0
"""Seconds between two looks at a folder of which nobody tells."""
SAFETY = 10.0
"""Seconds between two looks at a folder of which the operating system tells, in case it does not."""

NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse", "glusterfs", "lustre", "beegfs", "gpfs", "virtiofs", "ncpfs", "davfs")
"""How the names of file systems begin on which other machines may write."""


class Notice:
    """A bell that rings when a folder has changed, or somebody rings it.

    Parameters
    ----------
    folder : the folder.
    poll : seconds between two looks; given, nobody is asked to tell.

    Attributes
    ----------
    interval : seconds after which the folder should be looked at though nothing was told.
    how : in words.
    """

    def __init__(self, folder: Path, poll: Optional[float] = None):
        self._folder, self._poll = folder, poll
        self._changed, self._rung = threading.Event(), threading.Event()
        self._observer: Any = None
        self.interval, self.how = POLL, ""
        self.start()

    def start(self) -> None:
        """Begin, or begin again after the folder was away, which the operating system's telling does not survive."""
        self.stop()
        kind = file_system(self._folder)
        if self._poll is not None:
            self.interval, self.how = self._poll, f"looked at every {self._poll:g} s"
        elif kind.startswith(NETWORK):
            self.interval, self.how = POLL, f"a network share ({kind}), looked at every {POLL:g} s"
        elif importlib.util.find_spec("watchdog") is None:
            self.interval, self.how = POLL, f"looked at every {POLL:g} s (watchdog is not installed)"
        elif self._observe():
            self.interval, self.how = SAFETY, "the operating system tells of new files"
        else:
            self.interval, self.how = POLL, f"looked at every {POLL:g} s (the operating system tells nothing of it)"

    def _observe(self) -> bool:
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        handler = FileSystemEventHandler()
        handler.on_any_event = self._told
        observer = Observer()
        try:
            observer.schedule(handler, str(self._folder), recursive=False)
            observer.start()
        except OSError:         # no more watches, or a file system that has none
            return False
        self._observer = observer
        return True

    def _told(self, event: Any) -> None:
        # Newer versions tell of reading, too, and our own reading must not make us look again.
        if event.event_type not in ("opened", "closed_no_write"):
            self._changed.set()
            self._rung.set()

    def ring(self) -> None:
        """Wake whoever waits."""
        self._rung.set()

    def wait(self, seconds: float) -> None:
        """Wait until the bell rings, at most so long."""
        self._rung.wait(max(0.0, seconds))
        self._rung.clear()

    def take(self) -> bool:
        """Whether a change was told since the last call."""
        told = self._changed.is_set()
        self._changed.clear()
        return told

    def stop(self) -> None:
        """Ask nobody any more."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(5)
            self._observer = None


def file_system(folder: Path) -> str:
    """Name of the file system that a folder is on, such as ``ext4`` or ``nfs4``; empty where that is not told (not Linux)."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        place = os.path.realpath(folder)
    except OSError:
        return ""
    best = "", ""
    for line in lines:
        fields = line.split(" ")
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        if (place == point or place.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = point, fields[2]
    return best[1]


class EndingSignals:
    """Ctrl-C and a request to end call a function instead of ending whatever goes on; a second one ends it at once."""

    KINDS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, call: Callable[[], None]):
        self._call = call
        self._before: Dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {kind: signal.signal(kind, self._handle) for kind in self.KINDS}

    def _handle(self, *_: Any) -> None:
        self._restore()
        self._call()

    def _restore(self) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def __exit__(self, *exception: object) -> None:
        self._restore()

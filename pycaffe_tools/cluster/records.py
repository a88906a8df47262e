"""What a job says of itself in a file, for those who look from another computer.

A record is written when the job begins and when it ends.  In between its time
of change is renewed every :data:`BEAT` seconds; one that says ``running`` and
is older than :data:`SILENCE` is of a job that was killed, or lost its computer.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from ..base.files import PathLike, read_json_object, write_json

BEAT = 15.0
SILENCE = 120.0
TIME = "%Y-%m-%d %H:%M:%S UTC"
RUNNING, DONE, FAILED, STOPPED, LOST = "running", "done", "failed", "stopped", "lost"
"""States: at work; ended well; failed for good; stopped by something that passes; ended without a word."""


class Record:
    """The record of a job while it runs; a context manager.

    Parameters
    ----------
    path : the file.
    facts : what else stands in it from the beginning.

    A block that raises leaves a failed job, unless it said another end itself.
    """

    def __init__(self, path: PathLike, **facts: Any):
        self.path = Path(path)
        self._content: Dict[str, Any] = {
            "format": 1, "state": RUNNING, "host": socket.gethostname(), "process": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"), "restarts": os.environ.get("SLURM_RESTART_COUNT"),
            "begun": datetime.now(timezone.utc).strftime(TIME), "seconds": None, "sentence": None, **facts}
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Record:
        write_json(self.path, self._content)
        self._pulse.start()
        return self

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                os.utime(self.path)
            except OSError:         # somebody removed it: nobody looks any more
                pass

    def note(self, **facts: Any) -> None:
        """Add facts while the job runs."""
        self._content.update(facts)
        write_json(self.path, self._content)

    def end(self, state: str, sentence: Optional[str] = None, **facts: Any) -> None:
        """Say how the job ended."""
        self._ended.set()
        self._pulse.join()
        self._content.update(facts, state=state, sentence=sentence, seconds=round(time.monotonic() - self._begun, 1))
        write_json(self.path, self._content)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not self._ended.is_set():
            self.end(FAILED, f"ended by {kind.__name__}: {error}" if kind else "ended without a word")


class Seen(NamedTuple):
    """A record as somebody else sees it."""

    state: str
    content: Dict[str, Any]
    age: float
    """Seconds since its job gave a sign of life."""
    seconds: float
    """How long its job worked until then."""


def read_record(path: PathLike) -> Optional[Seen]:
    """A job's record; None if it has not begun.

    Raises
    ------
    UserError : the file is damaged.
    """
    path = Path(path)
    try:
        sign = path.stat().st_mtime
    except FileNotFoundError:
        return None
    content, age = read_json_object(path), max(time.time() - sign, 0.0)
    state, seconds = str(content.get("state")), content.get("seconds")
    if not isinstance(seconds, (int, float)):
        seconds = max(sign - _since_1970(content.get("begun")), 0.0)
    return Seen(LOST if state == RUNNING and age > SILENCE else state, content, age, seconds)


def _since_1970(text: Any) -> float:
    try:
        return datetime.strptime(text, TIME).replace(tzinfo=timezone.utc).timestamp()
    except (TypeError, ValueError):
        return time.time()

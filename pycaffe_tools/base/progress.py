"""Progress of long work: a bar on a terminal, sparse plain lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, Optional, TextIO

import click


def duration(seconds: float) -> str:
    """A time in the units a person would choose: ``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Counts work that is done and says how long the rest will take.

    Parameters
    ----------
    total : amount of work, in any unit.
    label : what is being done, two or three words.
    already : work done by an earlier run: counted, but not in the speed.
    stream : where to write; standard error by default.
    every : seconds between two lines where the stream is no terminal.

    Use as a context manager and call :meth:`update` with the amount that has
    been done in all.
    """

    def __init__(self, total: float, label: str, already: float = 0,
                 stream: Optional[TextIO] = None, every: float = 20.0):
        self.total = max(total, 1e-9)
        self.label = label
        self.already = already
        self.stream = stream or sys.stderr
        self.every = every
        self.start = time.monotonic()
        self._last = self.start
        self._bar = None
        if self.stream.isatty():
            self._bar = click.progressbar(length=1000, label=label, file=self.stream, width=30,
                                          show_eta=False, item_show_func=lambda note: note)
            self._bar.__enter__()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*exception)

    def update(self, done: float, note: str = "") -> None:
        """Say that ``done`` of ``total`` is finished; ``note`` is shown beside it."""
        now = time.monotonic()
        fraction = min(done / self.total, 1.0)
        text = ", ".join(part for part in (self._time_left(done, now), note) if part)
        if self._bar is not None:
            self._bar.update(int(1000 * fraction) - self._bar.pos, text)
        elif now - self._last >= self.every or done >= self.total:
            self._last = now
            click.echo(f"{self.label}: {100 * fraction:.0f} %, {text}", file=self.stream)

    def _time_left(self, done: float, now: float) -> str:
        if done >= self.total:
            return duration(now - self.start) + " taken"
        if done <= self.already:
            return ""
        return duration((now - self.start) * (self.total - done) / (done - self.already)) + " left"

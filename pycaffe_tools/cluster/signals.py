"""Signals by which batch systems announce that they are going to kill a job."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import Any, Callable, Iterator

ASKING = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def when_asked(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first signal of :data:`ASKING`; a second one ends the process."""
    def handle(number: int, frame: Any) -> None:
        for asking in ASKING:
            signal.signal(asking, signal.SIG_DFL)
        stop()

    before = {number: signal.signal(number, handle) for number in ASKING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Locks of the runs in a store, so that several runners, on one computer or many, work on one store.

Below ``locks/``: one for each run, one for each of the things that runs share
(:attr:`Node.locks`), and one for each computer, which all runs there hold
together, and one that measures time holds alone.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import List

from ..base.locks import FileLock
from .nodes import Node
from .store import RunStore


class RunLocks:
    """All that has to be held while a run is worked on."""

    def __init__(self, node: Node, store: RunStore):
        folder, advice = store.root / "locks", "wait for it"
        doing = f"works on {node.name} or on what it shares with other runs"
        self._locks = [FileLock(folder / f"run-{node.name}", store.root, doing, advice),
                       *(FileLock(folder / name, store.root, doing, advice) for name in node.locks),
                       FileLock(folder / f"computer-{socket.gethostname()}", store.root, doing, advice, shared=not node.alone)]

    def acquire(self) -> None:
        """Take all of them, or none.

        Raises
        ------
        TemporaryError : another process holds one.
        """
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            stack.pop_all()

    @property
    def numbers(self) -> List[int]:
        """File descriptors: children hold the locks too, so that none of them can outlive its run's."""
        return [lock.number for lock in self._locks]

    def release(self) -> None:
        """Let go of them."""
        for lock in self._locks:
            lock.release()

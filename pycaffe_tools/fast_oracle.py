"""Losses of candidates by recomputing only what changes."""

from __future__ import annotations

from .oracle import Oracle, PlainOracle, Task


def open_oracle(task: Task, *, plain: bool = False, workers: int = 2, max_memory: int = 2 << 30,
                batch_size: int = 128, quiet: bool = False) -> Oracle:
    """The oracle for a task."""
    return PlainOracle(task, batch_size)

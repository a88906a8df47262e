"""The append-only log of an ordering: each step is on disk before the next begins.

A process may be killed at any moment; whoever continues the log starts behind
its last whole line.  A header line says what ordering it is of, so that no other one is continued.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Generic, List, Mapping, NamedTuple, Optional, Type, TypeVar

from ..base.errors import TemporaryError, UserError
from ..base.fields import Fields
from ..base.files import PathLike


class Step(NamedTuple):
    """One discarded feature.

    Attributes
    ----------
    feature : its number in the layer.
    loss : mean loss once it and all before it are discarded.
    runner_up : the next best feature of this step, None in the last step.
    margin : how much more it would have cost: loss, or for another criterion its score, less that of ``feature``.
    """

    feature: int
    loss: float
    runner_up: Optional[int]
    margin: Optional[float]


class GlobalStep(NamedTuple):
    """One feature discarded from one of all layers.

    Attributes
    ----------
    layer, feature : which, by the layer's name and the feature's number in it.
    loss : mean loss once it and all before it are discarded.
    cost : of the net that is left, in the unit of the cost model.
    ratio : how much the loss rises (below 0: falls) for each unit of cost that this step saves; None if it saves nothing.
    """

    layer: str
    feature: int
    loss: float
    cost: float
    ratio: Optional[float]


AnyStep = TypeVar("AnyStep", Step, GlobalStep)


def _number_or_none(fields: Fields, name: str) -> Optional[float]:
    return fields.number(name) if fields.has(name) else None


_READ: Dict[str, Callable[[Fields, str], Any]] = {
    "layer": Fields.text, "feature": Fields.whole, "loss": Fields.number, "cost": Fields.number, "margin": _number_or_none,
    "ratio": _number_or_none, "runner_up": lambda fields, name: fields.whole(name) if fields.has(name) else None}
"""How a field of a step is read."""


def read_step(fields: Fields, kind: Type[AnyStep]) -> AnyStep:
    """A step of a log or of an ordering file.

    Raises
    ------
    UserError : a field is missing, or cannot be.
    """
    return kind(*(_READ[name](fields, name) for name in kind._fields))


class Log(Generic[AnyStep]):
    """The append-only log of an ordering: a header line, then one line a step, each on disk before the next.

    Parameters
    ----------
    path : the file, continued if it exists; None keeps the log in memory only.
    header : what the ordering is; an existing log must have the same.
    kind : class of its steps.

    Attributes
    ----------
    loss_before : mean loss before the first step, None as long as it is not known.
    steps : the steps so far.

    Raises
    ------
    UserError : the log is of another ordering, damaged before its last line, or in use by another process.
    """

    def __init__(self, path: Optional[PathLike], header: Mapping[str, Any], kind: Type[AnyStep]):
        self.path = None if path is None else Path(path)
        self.header = dict(header)
        self._kind: Type[AnyStep] = kind
        self.loss_before: Optional[float] = None
        self.steps: List[AnyStep] = []
        self._file: Any = None

    def __enter__(self) -> Log[AnyStep]:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise TemporaryError(f"{self.path}: another process is making this ordering; wait for it") from None
            self._read()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def known_loss_before(self) -> float:
        """The mean loss before the first step, once :meth:`begin` was called."""
        assert self.loss_before is not None
        return self.loss_before

    def begin(self, loss_before: float) -> None:
        """Write the header line."""
        self.loss_before = loss_before
        self._append({**self.header, "loss_before": loss_before})

    def add(self, step: AnyStep, **spent: float) -> None:
        """Write a step; it is on disk when this returns."""
        self.steps.append(step)
        self._append({"step": len(self.steps), **step._asdict(), **spent})

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write((json.dumps(entry) + "\n").encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        # A process killed while it wrote leaves a line without its end: that step is made again.
        whole = content[:content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        try:
            entries = [json.loads(line) for line in whole.splitlines()]
            if entries:
                self.loss_before = Fields(entries[0], str(self.path)).number("loss_before")
                del entries[0]["loss_before"]
                self.steps = [read_step(Fields(entry, str(self.path)), self._kind) for entry in entries[1:]]
        except (ValueError, UserError) as error:
            why = f" ({str(error).split(': ', 1)[1].split(';')[0]})" if isinstance(error, UserError) else ""
            raise UserError(f"{self.path}: is damaged or no log of an ordering{why}; delete it and start again") from None
        if entries and entries[0] != self.header:
            raise UserError(f"{self.path}: is the log of another ordering (other weights, patches, seed or lower "
                            f"layers); give another log, or delete it")

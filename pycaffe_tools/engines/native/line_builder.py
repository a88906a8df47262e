"""Poolings, differences and sums as operations on lines, each common part made once.

A maximum over any number of poolings is the maximum of a set of pixels, so poolings of poolings are taken apart
into such sets.  Of a set, columns that have the same rows are one vertical maximum, read at several shifts; with
equal parts found by their operands, the variants of a map share nearly all of it.  Averages go the same way.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .items import NO_FLOOR, Line, Lines, Operation

Tap = Tuple[str, int, int]
"""Map, row and column relative to the output."""


class Taps(NamedTuple):
    """``scale * (maximum or sum)`` of pixels; of a maximum also 0 if ``rectified``."""

    kind: str
    taps: Tuple[Tap, ...]
    scale: float = 1.0
    rectified: bool = False


class LineBuilder:
    """Collects the operations of one :class:`Lines`."""

    def __init__(self, channels: int):
        self.channels = channels
        self.outs: Dict[str, Line] = {}
        self._operations: List[Operation] = []
        self._results: List[Optional[str]] = []
        self._known: Dict[Operation, Line] = {}

    def finish(self) -> Lines:
        """All of it."""
        return Lines(self.channels, tuple(self._operations), tuple(self._results))

    def keep(self, name: str, line: Line) -> None:
        """Have a line stored as a row of a map."""
        if line.map is not None or line.column or self._results[line.operation] is not None:
            line = self._add(Operation("MAX", line, line), known=False)
        self._results[line.operation] = name
        self.outs[name] = line

    def weighted(self, terms: Sequence[Tuple[Line, float]]) -> Line:
        """The sum of lines times factors."""
        if len(terms) == 1:
            line, factor = terms[0]
            return line if factor == 1 else self._add(Operation("SUM", line, line, (factor, 0.0)))
        total, factor = terms[0]
        for line, other in terms[1:]:
            total, factor = self._add(Operation("SUM", total, line, (factor, other))), 1.0
        return total

    def pooled(self, what: Taps) -> Line:
        """The maximum or sum of a set of pixels."""
        columns: Dict[int, List[Tuple[str, int]]] = {}
        for name, row, column in what.taps:
            columns.setdefault(column, []).append((name, row))
        shifts: Dict[Tuple[Tuple[str, int], ...], List[int]] = {}
        for column in sorted(columns):
            shifts.setdefault(tuple(columns[column]), []).append(column)
        parts: List[Line] = []
        floor = 0.0 if what.rectified else NO_FLOOR
        for rows, places in shifts.items():
            leaves = [self._leaf(name, row) for name, row in rows]
            down = self._chain(what.kind, leaves, floor)
            if len(leaves) > 1:
                floor = NO_FLOOR                # it holds for all that the maximum goes into
            across = self._chain(what.kind, [down.shifted(place - places[0]) for place in places], floor)
            if len(places) > 1:
                floor = NO_FLOOR
            parts.append(across.shifted(places[0]))
        total = self._chain(what.kind, parts, floor)
        if len(parts) == 1 and floor == 0:
            total = self._add(Operation("MAX", total, total, floor=0.0))
        return total if what.scale == 1 else self.weighted([(total, what.scale)])

    def _leaf(self, name: str, row: int) -> Line:
        if name in self.outs:
            assert row == 0, "rows of a map that is being made are there one at a time"
            return self.outs[name]
        return Line(name, -1, row, 0)

    def _chain(self, kind: str, lines: Sequence[Line], floor: float) -> Line:
        total = lines[0]
        for line in lines[1:]:
            # Written relative to its first operand's column, so that equal parts are found at any shift.
            shift = min(total.column, line.column)
            total = self._add(Operation(kind, total.shifted(-shift), line.shifted(-shift), floor=floor)).shifted(shift)
            floor = NO_FLOOR
        return total

    def _add(self, operation: Operation, known: bool = True) -> Line:
        if known and operation in self._known:
            return self._known[operation]
        self._operations.append(operation)
        self._results.append(None)
        line = Line(None, len(self._operations) - 1, 0, 0)
        if known:
            self._known[operation] = line
        return line

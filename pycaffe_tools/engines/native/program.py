"""Items laid out in memory, and written as numbers for the library (source/read_program.h reads them).

A strip of output is computed from top to bottom, a band of rows at a time.  Each item makes its rows as far ahead of
the band as later items need them, its *lead*, and a map keeps so many rows as lie between its maker and its readers.
"""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...base.ranges import Pair
from .items import Convolution, Item, Lines, Link, Lowered, Output, SoftmaxItem
from .winograd import POINTS, Filtering, filtering

VERSION = 1
"""Of the numbers' meaning; the library has the same."""

_INPUT, _DIRECT, _WINOGRAD, _LINES, _SOFTMAX, _OUTPUT = range(6)

_LEAST_BAND, _MOST_BAND = 8, 48
_LANES, _CHUNK = 16, 72
_TOGETHER = 3
"""Pixels of a vector and of a chunk, and channels whose lines are worked on together, at most (roughly, the last)."""

_MOST_ROWS, _MOST_ADDENDS = 64, 4
"""Limits of source/convolve.h."""


class Reading(NamedTuple):
    """What an item reads of a map for the pixel (0, 0): rows and columns from the first to the last."""

    map: str
    rows: Pair
    columns: Pair


class Placed(NamedTuple):
    """An item with its place in time and space."""

    item: Optional[Item]
    """None for the input."""
    lead: int
    rows: int
    columns: int
    granule: int
    filtering: Optional[Filtering]


class Program(NamedTuple):
    """Numbers for the library, and what is known of the memory it takes."""

    numbers: np.ndarray
    """int64."""
    values: np.ndarray
    """float32."""
    reach: int
    """Columns that any map reaches beyond the strip."""
    lines: int
    """Lines of pixels that are held at a time."""
    scratch: int
    """Floats that a chunk's pixels are copied to, at most."""

    def workspace_bytes(self, columns: int) -> int:
        """Bytes of memory for strips of so many columns, and for the weights."""
        return 4 * self.lines * (columns + self.reach + 4 * _LANES) + 4 * self.scratch + 2 * self.values.nbytes


def make_program(lowered: Lowered, winograd: bool = True) -> Program:
    """Lay out items and write them.

    Parameters
    ----------
    lowered : from :func:`.lowering.lower`.
    winograd : take fewer products where a kernel's rows allow it; False takes every convolution directly, which is
        slower and rounds less.
    """
    return _Writer(lowered, winograd).program()


class _Writer:
    def __init__(self, lowered: Lowered, winograd: bool):
        self._lowered = lowered
        filterings = [_filtering(item) if winograd else None for item in lowered.items]
        granules = [each.tile * item.links[0].spacing[0] if each and isinstance(item, Convolution) else 1
                    for each, item in zip(filterings, lowered.items)]
        band = 1
        for number, granule in enumerate(granules):
            if band * granule // math.gcd(band, granule) > _MOST_BAND:
                filterings[number], granules[number] = None, 1
            band = band * granules[number] // math.gcd(band, granules[number])
        self._band = band * -(-_LEAST_BAND // band)
        self._placed = self._place(filterings, granules)
        self._numbers: List[int] = []
        self._values: List[np.ndarray] = []
        self._values_count = 0

    # -- places ----------------------------------------------------------------------------------------------

    def _place(self, filterings: Sequence[Optional[Filtering]], granules: Sequence[int]) -> List[Placed]:
        """Follow from the output to the input what each item must make."""
        rows: Dict[str, int] = {}
        columns: Dict[str, int] = {}
        leads: Dict[str, int] = {}
        placed: List[Placed] = []
        items: List[Optional[Item]] = [None] + list(self._lowered.items)
        for item, each, granule in zip(items[::-1], list(filterings)[::-1] + [None], list(granules)[::-1] + [1]):
            made = [self._lowered.input] if item is None else _written(item)
            down, across, ahead = (max([0] + [needed.get(name, 0) for name in made]) for needed in (rows, columns, leads))
            lead = -(-ahead // granule) * granule
            placed.append(Placed(item, lead, down, across, granule, each))
            for reading in [] if item is None else _readings(item):
                rows[reading.map] = max(rows.get(reading.map, 0), down + reading.rows[1])
                reach = across if not isinstance(item, Lines) else 0        # lines reckon with columns of their own
                columns[reading.map] = max(columns.get(reading.map, 0), reach + reading.columns[1])
                leads[reading.map] = max(leads.get(reading.map, 0), lead + reading.rows[1])
            if isinstance(item, Lines):
                for name, needed in _line_columns(item, columns).items():
                    columns[name] = max(columns.get(name, 0), needed)
        self._columns = columns
        return placed[::-1]

    def _rings(self) -> Dict[str, int]:
        """Rows that each map keeps: from its maker's newest down to its last reader's oldest."""
        maker = {name: number for number, each in enumerate(self._placed)
                 for name in ([self._lowered.input] if each.item is None else _written(each.item))}
        turn = self._turns()
        rings = {name: self._placed[number].granule for name, number in maker.items()}
        for number, each in enumerate(self._placed):
            for reading in [] if each.item is None else _readings(each.item):
                made = maker[reading.map]
                together = turn[number] == turn[made]
                kept = (1 if together else self._band) + self._placed[made].lead - each.lead - reading.rows[0]
                rings[reading.map] = max(rings[reading.map], kept)
        return rings

    def _turns(self) -> List[int]:
        """Numbers of the groups of items that go on a row at a time, in turns, so that few rows lie between them."""
        turns = [0]
        for before, each in zip(self._placed, self._placed[1:]):
            turns.append(turns[-1] + (before.granule > 1 or each.granule > 1))
        return turns

    # -- numbers ---------------------------------------------------------------------------------------------

    def program(self) -> Program:
        rings = self._rings()
        names = list(rings)
        self._index = {name: number for number, name in enumerate(names)}
        reach = max(self._columns.values(), default=0)
        first = -(-max(each.lead for each in self._placed) // self._band)
        self._numbers += [self._band, -first, reach, len(names)]
        lines = 0
        for name in names:
            self._numbers += [self._lowered.channels[name], rings[name]]
            lines += self._lowered.channels[name] * rings[name]
        self._numbers.append(len(self._placed))
        temporaries = scratch = 0
        for each, turn in zip(self._placed, self._turns()):
            self._head = [each.lead, each.rows, each.columns, each.granule, turn]
            if isinstance(each.item, Lines):
                temporaries = max(temporaries, self._write_lines(each))
            else:
                self._write(each)
            if isinstance(each.item, Convolution):
                scratch = max(scratch, sum(_scratch(link, each.filtering is not None) for link in each.item.links))
        values = np.concatenate(self._values) if self._values else np.zeros(0)
        with np.errstate(over="ignore"):        # weights beyond float32 are known by what they give
            values = values.astype(np.float32)
        return Program(np.array(self._numbers, np.int64), values, reach, lines + _TOGETHER * temporaries, scratch)

    def _write(self, each: Placed) -> None:
        item, head = each.item, self._head
        if item is None:
            self._numbers += [_INPUT, *head, self._index[self._lowered.input]]
        elif isinstance(item, SoftmaxItem):
            self._numbers += [_SOFTMAX, *head, self._index[item.source], self._index[item.out]]
        elif isinstance(item, Output):
            self._numbers += [_OUTPUT, *head, self._index[item.source], item.channel, int(item.logistic)]
        elif isinstance(item, Convolution):
            self._numbers += [_WINOGRAD if each.filtering else _DIRECT, *head, len(item.bias)]
            if each.filtering:
                self._numbers += [each.filtering.tile, item.links[0].spacing[0],
                                  self._value(each.filtering.combine)]
            self._numbers += [self._value(item.bias), len(item.links)]
            for link in item.links:
                self._write_link(link, each.filtering)

    def _write_link(self, link: Link, how: Optional[Filtering]) -> None:
        rows, columns = link.kernel.shape[2:]
        self._numbers += [self._index[link.source], link.kernel.shape[1], link.offset[0], rows, link.spacing[0],
                          link.offset[1], columns, link.spacing[1], -1 if link.out is None else self._index[link.out],
                          int(link.rectified), len(link.addends), *(self._index[name] for name in link.addends)]
        if how is None:             # outputs x rows x channels x columns
            weights = link.kernel.transpose(0, 2, 1, 3)
        else:                       # outputs x points x channels x columns
            weights = np.einsum("jr,ocrk->ojck", how.kernel, link.kernel)
        self._numbers.append(self._value(weights))

    def _write_lines(self, each: Placed) -> int:
        item = each.item
        assert isinstance(item, Lines)
        slots, count = _temporaries(item)
        self._numbers += [_LINES, *self._head, item.channels, count, len(item.operations)]
        for number, operation in enumerate(item.operations):
            self._numbers.append(int(operation.kind == "MAX"))
            for line in (operation.a, operation.b):
                name = line.map or item.outs[line.operation]
                self._numbers += [self._index[name] if name else -1, -1 if name else slots[line.operation],
                                  line.row, line.column]
            out = item.outs[number]
            self._numbers += [self._index[out] if out else -1, -1 if out else slots[number]]
            self._numbers += [self._value(np.array(value)) for value in (*operation.factors, operation.floor)]
        return count

    def _value(self, array: np.ndarray) -> int:
        """Put numbers among the values; their place there."""
        self._values.append(np.ravel(array))
        self._values_count += array.size
        return int(self._values_count - array.size)


def _filtering(item: Item) -> Optional[Filtering]:
    """Winograd's filtering for a convolution, where it takes clearly fewer operations."""
    if not isinstance(item, Convolution) or any(link.addends for link in item.links):
        return None
    how = filtering(item.links[0].kernel.shape[2])
    if how is None:
        return None
    outputs = len(item.bias)
    direct = transformed = 0.0
    for link in item.links:
        _, channels, rows, columns = link.kernel.shape
        direct += outputs * rows * channels * columns
        # A product for each point; each is added to all rows of the tile, which costs a read and a write as well;
        # and the input's rows become as many sums, of about three products each.
        transformed += (outputs * len(POINTS) * (channels * columns + 2 * how.tile) + 3 * channels * len(POINTS)) / how.tile
    return how if transformed < 0.9 * direct else None


def _scratch(link: Link, transformed: bool) -> int:
    """Floats for the pixels that a chunk reads, or for the sums made of them."""
    _, channels, rows, columns = link.kernel.shape
    window = _CHUNK + -(-(columns - 1) * link.spacing[1] // _LANES) * _LANES
    return int(window * channels * (len(POINTS) if transformed else rows))


def _written(item: Item) -> List[str]:
    """Maps that an item makes."""
    if isinstance(item, Convolution):
        return [link.out for link in item.links if link.out]
    if isinstance(item, Lines):
        return [name for name in item.outs if name]
    return [item.out] if isinstance(item, SoftmaxItem) else []


def _readings(item: Item) -> Iterator[Reading]:
    """What an item reads of maps that others make."""
    if isinstance(item, Convolution):
        for link in item.links:
            last = tuple(link.offset[axis] + link.spacing[axis] * (link.kernel.shape[2 + axis] - 1) for axis in (0, 1))
            yield Reading(link.source, (link.offset[0], last[0]), (link.offset[1], last[1]))
            for name in link.addends:
                yield Reading(name, (0, 0), (0, 0))
    elif isinstance(item, Lines):
        for operation in item.operations:
            for line in (operation.a, operation.b):
                if line.map:
                    yield Reading(line.map, (line.row, line.row), (0, 0))
    else:
        yield Reading(item.source, (0, 0), (0, 0))


def _line_columns(item: Lines, needed: Dict[str, int]) -> Dict[str, int]:
    """Columns beyond the strip that must be there of the maps that are read, for those ``needed`` of the maps made."""
    reach = [needed.get(name, 0) if name else 0 for name in item.outs]
    maps: Dict[str, int] = {}
    for number in reversed(range(len(item.operations))):
        for line in (item.operations[number].a, item.operations[number].b):
            if line.map:
                maps[line.map] = max(maps.get(line.map, 0), reach[number] + line.column)
            else:
                reach[line.operation] = max(reach[line.operation], reach[number] + line.column)
    return maps


def _temporaries(item: Lines) -> Tuple[Dict[int, int], int]:
    """A temporary line for each result that is no map's; lines are used again when nothing more reads them."""
    last: Dict[int, int] = {}
    for number, operation in enumerate(item.operations):
        for line in (operation.a, operation.b):
            if not line.map:
                last[line.operation] = number
    slots: Dict[int, int] = {}
    free: List[int] = []
    count = 0
    for number in range(len(item.operations)):
        if not item.outs[number]:
            if not free:
                free.append(count)
                count += 1
            slots[number] = free.pop()
        free += [slots[read] for read in {line.operation for line in item.operations[number][1:3] if not line.map}
                 if read in slots and last[read] == number]
    return slots, count

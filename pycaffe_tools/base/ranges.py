"""Parts of a slice, as users write them: ``--crop Y0:Y1,X0:X1``."""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from .errors import UserError

Pair = Tuple[int, int]
"""Rows and columns."""


def pair(numbers: Iterable[int]) -> Pair:
    """Two numbers as a :data:`Pair`."""
    rows, columns = numbers
    return rows, columns


class Region(NamedTuple):
    """The rows top <= y < bottom and columns left <= x < right of a slice."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> Pair:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> Tuple[slice, slice]:
        """Index of the region in an array of rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def parse_region(text: Optional[str], shape: Pair) -> Region:
    """Region of ``y0:y1,x0:x1``; ends may be left out, None is the whole slice.

    Raises
    ------
    UserError : not of that form, empty, or outside the slice.
    """
    if text is None:
        return Region(0, shape[0], 0, shape[1])
    try:
        (top, bottom), (left, right) = (
            (int(first or 0), int(stop or size))
            for (first, stop), size in zip((part.split(":") for part in text.split(",")), shape))
        if text.count(",") != 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--crop {text}: not a region; write Y0:Y1,X0:X1, for example 0:256,0:256") from None
    if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
        raise UserError(f"--crop {text}: is empty or outside the slices of {shape[0]} rows and {shape[1]} columns; "
                        f"ranges are half-open, 0:{shape[0]},0:{shape[1]} is all of it")
    return Region(top, bottom, left, right)


def parse_slices(text: Optional[str], count: int, option: str = "--slices") -> List[int]:
    """Slice numbers of half-open ranges such as ``0:4,9`` (0, 1, 2, 3, 9).

    Parameters
    ----------
    text : comma-separated ``a:b`` (either end may be left out) or single
        numbers, counted from 0; negative numbers count from the end, as in
        Python; None means every slice.
    count : number of slices of the volume.
    option : what to call it in a message.

    Returns
    -------
    Sorted slice numbers, each once.

    Raises
    ------
    UserError : not of that form, outside the volume, or empty.
    """
    if text is None:
        return list(range(count))
    chosen: Set[int] = set()
    for part in text.split(","):
        first, stop = _one_range(part.strip(), count, option)
        if not 0 <= first < stop <= count:
            raise UserError(f"{option} {text}: {part.strip()!r} is empty or outside the volume's "
                            f"{count} slices; ranges are half-open, 0:{count} is all of it")
        chosen.update(range(first, stop))
    return sorted(chosen)


def _one_range(part: str, count: int, option: str) -> Tuple[int, int]:
    def position(number: str, default: int) -> int:
        value = int(number) if number else default
        return value + count if value < 0 else value

    try:
        if ":" in part:
            first, stop = part.split(":")
            return position(first, 0), position(stop, count)
        single = position(part, -1) if part else count
        return single, single + 1
    except ValueError:
        raise UserError(f"{option} {part}: not a slice or a range of slices; "
                        f"write for example 0:4 or 0:4,9") from None


class Part(NamedTuple):
    """Part ``number`` of ``total`` parts, counted from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def of(self, slices: Sequence[int]) -> List[int]:
        """This part's own of some slices: neighbours, in all parts as many, or one more in some of them.

        It depends on nothing but the numbers, so every computer finds the same parts.

        >>> [Part(number, 3).of(range(5)) for number in (1, 2, 3)]
        [[0], [1, 2], [3, 4]]

        Raises
        ------
        UserError : there are more parts than slices.
        """
        if self.total > len(slices):
            raise UserError(f"--part {self}: there {'is' if len(slices) == 1 else 'are'} only {len(slices)} "
                            f"slice{'' if len(slices) == 1 else 's'}; ask for at most {len(slices)} parts")
        first, stop = ((number * len(slices)) // self.total for number in (self.number - 1, self.number))
        return list(slices[first:stop])


def parse_part(text: Optional[str]) -> Optional[Part]:
    """Part of ``3/16``; None stands for the whole.

    Raises
    ------
    UserError : not of that form, or not one of these parts.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--part {text}: not a part; write NUMBER/COUNT, counted from 1, for example 3/16")
    return Part(int(match[1]), int(match[2]))


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_size(text: str) -> int:
    """Bytes of ``800M``, ``2G``, ``1.5GiB``; K, M, G, T are powers of 1000.

    Raises
    ------
    UserError : not of that form.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?", text.strip().upper())
    if match is None or match[2] not in _UNITS or float(match[1]) <= 0:
        raise UserError(f"--max-memory {text}: not an amount of memory; write for example 800M or 2G")
    return int(float(match[1]) * _UNITS[match[2]])


def size_text(count: float) -> str:
    """Bytes as :func:`parse_size` reads them, rounded up.

    >>> size_text(812_000_001)
    '813M'
    """
    return f"{-(-int(count) // 10**6)}M"


def slice_ranges(slices: Sequence[int]) -> str:
    """Slice numbers as half-open ranges, as ``--slices`` reads them.

    >>> slice_ranges([0, 1, 2, 5])
    '0:3,5'
    """
    ranges: List[List[int]] = []
    for z in slices:
        if ranges and z == ranges[-1][1]:
            ranges[-1][1] += 1
        else:
            ranges.append([z, z + 1])
    return ",".join(str(first) if stop == first + 1 else f"{first}:{stop}" for first, stop in ranges)


def parse_tile(text: str) -> Pair:
    """Rows and columns of ``HxW`` such as ``256x256``.

    Raises
    ------
    UserError : not of that form.
    """
    try:
        rows, columns = (int(part) for part in text.lower().split("x"))
    except ValueError:
        rows = columns = 0
    if min(rows, columns) < 1:
        raise UserError(f"--tile {text}: not a tile size; write HEIGHTxWIDTH in pixels, for example 256x256")
    return rows, columns

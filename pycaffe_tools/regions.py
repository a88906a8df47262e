"""Parts of a slice, as users write them: ``--crop Y0:Y1,X0:X1``."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from .errors import UserError

Pair = Tuple[int, int]
"""Rows and columns."""


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

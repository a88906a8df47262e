"""Whether two volumes belong together: by the numbers in the names of their slices, and by their pixel size."""

from __future__ import annotations

import re
from decimal import Decimal
from os.path import commonprefix
from typing import Callable, List, Optional, Sequence, Tuple

from ..base.errors import UserError
from ..volumes.pixel_size import PixelSize
from ..volumes.volume import Volume

PIXEL_SIZE_TOLERANCE = 0.01
"""Relative difference of pixel sizes from which they are two."""

Key = Tuple[Decimal, ...]


def _numbers(pattern: str) -> Callable[[str], Key]:
    return lambda name: tuple(Decimal(part) for part in re.findall(pattern, name))


# A minus may be a sign or a hyphen, a point may end a word: names match if they do in one of these readings.
_READINGS = (_numbers(r"(?<![A-Za-z0-9])-?[0-9]+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?"),
             _numbers(r"-?[0-9]+(?:\.[0-9]+)?"), _numbers(r"[0-9]+(?:\.[0-9]+)?"), _numbers(r"[0-9]+"))


def refuse_other_slices(first: Volume, other: Volume, slices: Optional[Sequence[int]] = None) -> Optional[str]:
    """Compare the slices of two folders by the number that varies in their names.

    Parameters
    ----------
    first : the stack.
    other : what belongs to it slice by slice.
    slices : those of ``other`` that stand for the slices of ``first``; all of them by default.

    Returns
    -------
    A sentence where the names cannot be compared, otherwise None.

    Raises
    ------
    UserError : a slice is named differently; with both names.
    """
    if first.slice_names is None or other.slice_names is None:
        return None
    ours, theirs = list(first.slice_names), list(other.slice_names)
    if slices is not None and len(slices) == len(ours):
        theirs = [theirs[z] for z in slices]
    readings = [(_varying(ours, reading), _varying(theirs, reading)) for reading in _READINGS]
    comparable = [(one, two) for one, two in readings if one is not None and two is not None]
    if any(_match(one, two) for one, two in comparable):
        return None
    if comparable:
        raise _other_slices(first, other, ours, theirs, *comparable[0])
    text, their_text = _without_common_ends(ours), _without_common_ends(theirs)
    if text == their_text:
        return None
    if any(one is not None or two is not None for one, two in readings):
        return (f"{other.path}: its slices ({theirs[0]}, ...) and those of {first.path} ({ours[0]}, ...) have no numbers "
                f"that could be compared, so they are taken in order; check that they belong together")
    raise _other_slices(first, other, ours, theirs, text, their_text)


def _varying(names: Sequence[str], reading: Callable[[str], Key]) -> Optional[List[Key]]:
    """For each name the numbers in it that are not the same in all names; None where a name has no number."""
    keys = [reading(name) for name in names]
    if not all(keys):
        return None
    if len(keys) == 1 or len({len(key) for key in keys}) > 1:
        return keys
    columns = [column for column in zip(*keys) if len(set(column)) > 1]
    return list(zip(*columns)) if columns else None


def _match(ours: Sequence[Key], theirs: Sequence[Key]) -> bool:
    if list(ours) == list(theirs):
        return True
    widths = {len(key) for key in ours}, {len(key) for key in theirs}
    if len(ours) == len(theirs) == 1:
        # Nothing varies: the last number, or any that both have where one name has more of them.
        return ours[0][-1] == theirs[0][-1] or widths[0] != widths[1] and not set(ours[0]).isdisjoint(theirs[0])
    if any(len(width) > 1 for width in widths) or widths[0] == widths[1]:
        return False
    # One of them has a further number that varies, such as a date.
    few, many = sorted((list(zip(*ours)), list(zip(*theirs))), key=len)
    return len(few) == 1 and few[0] in many


def _without_common_ends(names: Sequence[str]) -> List[str]:
    start = len(commonprefix(list(names)))
    rest = [name[start:] for name in names]
    end = len(commonprefix([name[::-1] for name in rest]))
    return [name[:len(name) - end] for name in rest]


def _other_slices(first: Volume, other: Volume, ours: Sequence[str], theirs: Sequence[str], keys: Sequence[object],
                  their_keys: Sequence[object]) -> UserError:
    lacks = [name for name, key in zip(ours, keys) if key not in their_keys]
    adds = [name for name, key in zip(theirs, their_keys) if key not in keys]
    parts = ([f"has no slice for {_some(lacks)} of {first.path}"] if lacks else [])
    parts += [f"has {_some(adds)}, which {first.path} does not have"] if adds else []
    if not parts:
        z = next((z for z, pair in enumerate(zip(keys, their_keys)) if pair[0] != pair[1]), 0)
        parts = [f"slice {z} is {theirs[z]}, but {ours[z]} in {first.path}"]
    return UserError(f"{other.path}: {' and '.join(parts)}; put the same slices into both folders, or pass "
                     f"--ignore-slice-names if they belong together in this order")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def other_pixel_size(first: Volume, other: Volume, advice: str) -> Optional[str]:
    """A sentence where two volumes have another pixel size along an axis, both known; otherwise None."""
    for axis, ours, theirs in zip("zyx", first.pixel_size, other.pixel_size):
        if differ(ours, theirs):
            return (f"{other.path}: its pixel size along {axis} is {theirs:g} nm, and that of {first.path} is "
                    f"{ours:g} nm; {advice}")
    return None


def differ(one: Optional[float], other: Optional[float]) -> bool:
    """Whether two lengths of a pixel are known and not the same."""
    return one is not None and other is not None and abs(one - other) > PIXEL_SIZE_TOLERANCE * max(one, other)


def common_pixel_size(sizes: Sequence[PixelSize]) -> List[Optional[float]]:
    """Pixel size (z, y, x, in nm) of the first stack; None along an axis where another has none, or another one."""
    return [None if any(size[axis] is None or differ(first, size[axis]) for size in sizes[1:]) else first
            for axis, first in enumerate(sizes[0])]

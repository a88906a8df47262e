"""Which dimension of a file is z, y and x, and which data types are read: never guessed.

A file may name its dimensions itself (ImageJ, OME and shaped TIFF, ``axistags``
and dimension labels of HDF5, ``dimension_names`` of Zarr); those names are
followed.  Where a file says nothing, two dimensions are YX and three are ZYX.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from ..base.errors import UserError

SLICE_PLACEHOLDERS = "QIT?"
"""Letters that stand for slices where a file names no z: tifffile's "other" and "image", a time series, an unknown name."""

_LETTERS = {"z": "Z", "depth": "Z", "plane": "Z", "planes": "Z", "slice": "Z", "slices": "Z", "section": "Z",
            "y": "Y", "height": "Y", "row": "Y", "rows": "Y",
            "x": "X", "width": "X", "column": "X", "columns": "X", "col": "X",
            "c": "C", "channel": "C", "channels": "C", "channel^": "C", "c^": "C",
            "t": "T", "time": "T", "frame": "T", "frames": "T"}

_WORDS = {"C": "channels", "T": "time points", "S": "colour samples", "R": "tiles", "P": "positions"}


def letters_of(names: Sequence[Any]) -> Optional[str]:
    """The names of a file's dimensions as one letter each, ``?`` for a name without a known meaning.

    Returns
    -------
    None where neither y nor x is named: such names (``dim_0``) say nothing.

    >>> letters_of(["channel^", "z", "height", "x"])
    'CZYX'
    """
    letters = "".join(_LETTERS.get(str(name).strip().lower(), "?") for name in names)
    return letters if set(letters) & set("YX") else None


class Layout:
    """Where z, y and x are among a file's dimensions.

    Parameters
    ----------
    path : what to call the file in messages.
    shape : sizes of its dimensions.
    axes : a letter for each dimension, as the user gave them; they win over what the file says.
    declared : a letter for each dimension, as the file gives them.

    Attributes
    ----------
    axes : a letter for each dimension; those that are not z, y or x have size 1.
    shape : (z, y, x).

    Raises
    ------
    UserError : there is no pixel, or more than a grey volume: the sentence says what there is and how to choose.
    """

    def __init__(self, path: str, shape: Sequence[int], axes: Optional[str], declared: Optional[str] = None):
        shape = tuple(int(size) for size in shape)
        if axes is None and declared is not None and len(declared) == len(shape):
            axes = _from_declared(path, shape, declared)
        elif axes is None:
            axes = {2: "YX", 3: "ZYX"}.get(len(shape))
            if axes is None:
                raise UserError(f"{path}: has shape {shape}, which is neither one slice (YX) nor a stack (ZYX); name its "
                                f"axes, e.g. --axes CZYX, or save a single channel")
        if len(axes) != len(shape):
            raise UserError(f"{path}: has shape {shape}, but the axes {axes} name {len(axes)} dimensions; "
                            f"give one letter for each")
        for letter, size in zip(axes, shape):
            if letter not in "ZYX" and size != 1:
                raise UserError(f"{path}: has shape {shape} with axes {axes}, and axis {letter} has size {size}; "
                                f"only z, y and x may be longer than 1, save one {letter} by itself")
        if 0 in shape:
            raise UserError(f"{path}: has shape {shape}, which holds no pixel; write it again")
        sizes = dict(zip(axes, shape))
        self.axes = axes
        self.shape = (sizes.get("Z", 1), sizes["Y"], sizes["X"])

    @property
    def transposed(self) -> bool:
        """Whether x comes before y."""
        return self.axes.index("X") < self.axes.index("Y")

    @property
    def has_whole_slices(self) -> bool:
        """Whether the file holds slice after slice, each row by row."""
        order = [letter for letter in self.axes if letter in "ZYX"]
        return order == list("ZYX") or order == list("YX") or self.shape[0] == 1 and not self.transposed

    def read(self, array: Any, z: int) -> np.ndarray:
        """Slice ``z`` (y by x) of an array that is indexed lazily."""
        index = {"Z": z, "Y": slice(None), "X": slice(None)}
        image = np.asarray(array[tuple(index.get(letter, 0) for letter in self.axes)])
        return image.T if self.transposed else image


def _from_declared(path: str, shape: Sequence[int], declared: str) -> str:
    longer = [number for number, letter in enumerate(declared) if letter not in "ZYX" and shape[number] != 1]
    twice = [letter for letter in "ZYX" if declared.count(letter) > 1]
    # What is called neither z nor anything else is a stack of slices, if there is only one such dimension.
    depth = [number for number, letter in enumerate(declared) if letter == "Z" and shape[number] != 1]
    if set("YX") <= set(declared) and not twice:
        if not longer:
            return declared
        if len(longer) == 1 and not depth and declared[longer[0]] in SLICE_PLACEHOLDERS:
            return "".join("Z" if number == longer[0] else "_" if letter == "Z" else letter
                           for number, letter in enumerate(declared))
    others = " and ".join(f"{shape[number]} {_WORDS.get(declared[number], f'along axis {declared[number]}')}"
                          for number in longer)
    if len(longer) == 1 and not depth and set("YX") <= set(declared) and not twice:
        advice = (f"save one of them by itself, or pass --axes "
                  f"{declared.replace('Z', 'Q').replace(declared[longer[0]], 'Z')} if they are slices")
    elif longer:
        advice = "save one of them by itself"
    else:
        advice = "name its axes, e.g. --axes ZYX"
    raise UserError(f"{path}: has shape {tuple(shape)} with axes {declared} of its own"
                    f"{f', that is {others}' if others else ''}; {advice}")


def checked_dtype(path: str, dtype: Any, labels: bool = False) -> np.dtype:
    """The data type in which slices are read, in the machine's byte order.

    Grey values are uint8 (of bool too), uint16 or float32; int8, int16 and
    float16 become float32, which holds them exactly, negative ones included.
    ``labels`` may be any integers or real numbers, which stay as they are.

    Raises
    ------
    UserError : any other data type.
    """
    stored: np.dtype = np.dtype(dtype).newbyteorder("=")
    kind = (stored.kind, stored.itemsize)
    if kind[0] == "b":
        return np.dtype("uint8")
    if labels:
        if kind[0] not in "uif":
            raise UserError(f"{path}: data type {stored.name} is not supported for labels; convert it to integers")
        return stored
    if kind in (("i", 1), ("i", 2), ("f", 2)):
        return np.dtype("float32")
    if kind not in (("u", 1), ("u", 2), ("f", 4)):
        raise UserError(f"{path}: data type {stored.name} is not supported; convert it to uint8, uint16 or float32")
    return stored


def brief(error: BaseException) -> str:
    """The first line of a library's message, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(". ")


def listing(names: Sequence[str], most: int = 8) -> str:
    """Names for a message, the first of them where there are many.

    >>> listing(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest: List[str] = list(names[most:])
    return ", ".join(names[:most]) + (f" and {len(rest)} more" if rest else "")

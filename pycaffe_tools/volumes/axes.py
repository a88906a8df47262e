"""Which dimension of a file is z, y and x, and which data types are read: never guessed."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from ..base.errors import UserError


class Layout:
    """Where z, y and x are among a file's dimensions."""

    def __init__(self, path: str, shape: Sequence[int], axes: Optional[str], declared: Optional[str] = None):
        shape = tuple(int(size) for size in shape)
        if axes is None:
            axes = {2: "YX", 3: "ZYX"}.get(len(shape)) if declared is None else declared
            others = [size for letter, size in zip(axes or "", shape) if letter not in "ZYX"]
            if axes is None or not set("YX") <= set(axes) or any(size != 1 for size in others):
                raise UserError(f"{path}: has shape {shape}{f' (axes {declared})' if declared else ''}, which is "
                                f"neither one slice (YX) nor a stack (ZYX); name its axes, e.g. --axes CZYX, "
                                f"or save a single channel")
        if len(axes) != len(shape):
            raise UserError(f"{path}: has shape {shape}, but the axes {axes} name {len(axes)} dimensions; "
                            f"give one letter for each")
        for letter, size in zip(axes, shape):
            if letter not in "ZYX" and size != 1:
                raise UserError(f"{path}: has shape {shape} with axes {axes}, and axis {letter} has size {size}; "
                                f"only z, y and x may be longer than 1, save one {letter} by itself")
        if 0 in shape:
            raise UserError(f"{path}: has shape {shape}, which holds no pixel; write it anew")
        self.axes = axes
        self.transposed = axes.index("X") < axes.index("Y")
        size = dict(zip(axes, shape))
        self.shape = (size.get("Z", 1), size["Y"], size["X"])

    def read(self, array: Any, z: int) -> np.ndarray:
        """Slice ``z`` of an array that is indexed lazily."""
        index = {"Z": z, "Y": slice(None), "X": slice(None)}
        image = np.asarray(array[tuple(index.get(letter, 0) for letter in self.axes)])
        return image.T if self.transposed else image


def checked_dtype(path: str, dtype: np.dtype) -> np.dtype:
    """The data type in which slices are read: uint8 (of bool too), uint16 or float32, in the machine's byte order.

    Raises
    ------
    UserError : any other data type.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.dtype("uint8")
    if (dtype.kind, dtype.itemsize) not in (("u", 1), ("u", 2), ("f", 4)):
        raise UserError(f"{path}: data type {dtype.name} is not supported; convert it to uint8, uint16 or float32")
    return dtype.newbyteorder("=")


def label_dtype(path: str, dtype: np.dtype) -> np.dtype:
    """The data type in which labels are read: any integers or real numbers as stored, uint8 for bool.

    Raises
    ------
    UserError : complex numbers, text, records.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.dtype("uint8")
    if dtype.kind not in "uif":
        raise UserError(f"{path}: data type {dtype.name} is not supported for labels; convert it to integers")
    return dtype.newbyteorder("=")


def brief(error: BaseException) -> str:
    """The first line of a library's message, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(". ")

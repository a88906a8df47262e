"""What a dense plan is put into for the native engine: few, larger steps that each pass over the pixels once.

Maps go by their names in the plan.  :mod:`.lowering` makes these items, :mod:`.program` lays them out in memory
and turns them into numbers.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ...base.ranges import Pair

NO_FLOOR = -float(np.finfo(np.float32).max)
"""A floor that no number is below."""


class Link(NamedTuple):
    """One convolution; its products are added to the sums of the link before it."""

    source: str
    kernel: np.ndarray
    """float64, outputs x inputs x rows x columns."""
    offset: Pair
    """Position of the kernel's first element relative to the output's."""
    spacing: Pair
    out: Optional[str]
    """Map that receives the sums so far, plus ``addends``, if any does."""
    addends: Tuple[str, ...] = ()
    rectified: bool = False


class Convolution(NamedTuple):
    """One or two links."""

    bias: np.ndarray
    """float64, outputs."""
    links: Tuple[Link, ...]


class Line(NamedTuple):
    """An operand of a line operation: a row of a map, or the result of an operation before; shifted to the left."""

    map: Optional[str]
    operation: int
    row: int
    column: int

    def shifted(self, columns: int) -> Line:
        """The same, read so many columns further right."""
        return self._replace(column=self.column + columns)


class Operation(NamedTuple):
    """``max(a, b, floor)`` or ``factors[0] a + factors[1] b``, pixel by pixel."""

    kind: str
    """``MAX`` or ``SUM``."""
    a: Line
    b: Line
    factors: Tuple[float, float] = (1.0, 1.0)
    floor: float = NO_FLOOR


class Lines(NamedTuple):
    """Operations on lines of pixels, the same for each channel."""

    channels: int
    operations: Tuple[Operation, ...]
    outs: Tuple[Optional[str], ...]
    """Map that receives each operation's result, None if only later operations need it."""


class SoftmaxItem(NamedTuple):
    """Softmax over the channels."""

    source: str
    out: str


class Output(NamedTuple):
    """One channel of the last map goes to the caller, through the logistic function if so said."""

    source: str
    channel: int
    logistic: bool


Item = Union[Convolution, Lines, SoftmaxItem, Output]


class Lowered(NamedTuple):
    """A dense plan as items, in their order."""

    input: str
    input_channels: int
    channels: Dict[str, int]
    """Of each map that is kept."""
    items: List[Item]

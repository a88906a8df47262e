"""Data types of a dense plan: maps with their positions, and five kinds of steps.

No step knows an engine, a loop or a condition; a plan is read from the first
step to the last.  :mod:`pycaffe_tools.dense_plan.plan` makes plans,
:mod:`pycaffe_tools.dense_plan.onnx_printer` and :mod:`pycaffe_tools.dense_plan.caffe_printer` print them.
"""

from __future__ import annotations

from typing import List, NamedTuple, Tuple, Union

from ..base.ranges import Pair


class Map(NamedTuple):
    """A dense map: for a tile of h x w output pixels it covers the positions
    ``start[0] .. h + reach[0] - 1`` by ``start[1] .. w + reach[1] - 1``.

    Position (y, x) belongs to the patch whose first pixel is the input pixel (y, x).
    """

    name: str
    channels: int
    start: Pair
    reach: Pair


class Convolve(NamedTuple):
    """``out(p) = bias + sum of kernel[:, :, i, j] source(p + spacing * (i, j))`` over i in ``rows``, j in ``columns``.

    ``rows`` and ``columns`` are half-open ranges of the layer's kernel; the
    bias is added only where ``bias`` is set.
    """

    out: Map
    source: Map
    layer: str
    rows: Pair
    columns: Pair
    spacing: Pair
    bias: bool


class Pool(NamedTuple):
    """``out(p) = scale * (maximum or sum)`` of ``source(p + spacing * (i, j))`` over a window.

    Taps beyond the source's end are left out; values made so are never used
    for more than the cancelling part of a difference.
    """

    out: Map
    source: Map
    window: Pair
    spacing: Pair
    kind: str
    """``MAX`` or ``SUM``."""
    scale: float


class Operand(NamedTuple):
    """``coefficient * source(p + offset)``."""

    source: Map
    offset: Pair = (0, 0)
    coefficient: float = 1.0


class Combine(NamedTuple):
    """``out(p)`` = maximum or sum of the operands, element by element."""

    out: Map
    operands: Tuple[Operand, ...]
    kind: str
    """``MAX`` or ``SUM``."""


class Rectify(NamedTuple):
    """``out(p) = max(source(p), 0)``."""

    out: Map
    source: Map


class Softmax(NamedTuple):
    """Softmax over the channels."""

    out: Map
    source: Map


Step = Union[Convolve, Pool, Combine, Rectify, Softmax]


class DensePlan(NamedTuple):
    """Dense evaluation of a net, for tiles of any size."""

    net: str
    patch: Pair
    """Rows and columns of the net's patch."""
    input: Map
    output: Map
    steps: Tuple[Step, ...]
    spacing: Pair
    """Product of all pooling strides along each axis."""
    first_stride: Pair
    """Strides of the first pooling (1, 1 if there is none)."""

    def multiply_accumulates(self) -> int:
        """Multiply-accumulate operations of all convolutions for one output pixel, the tile's halo not counted."""
        return sum(step.source.channels * step.out.channels * (step.rows[1] - step.rows[0]) * (step.columns[1] - step.columns[0])
                   for step in self.steps if isinstance(step, Convolve))


def sources(step: Step) -> List[Map]:
    """The maps that a step reads."""
    return [operand.source for operand in step.operands] if isinstance(step, Combine) else [step.source]

"""How a slice is cut into tiles: as few as can be, all of one size but for the last ones."""

from __future__ import annotations

from typing import List

from .. import engines
from ..base.ranges import Pair, Region
from ..nets.netgraph import NetGraph


def even_tile(largest: Pair, region: Pair, step: int = 4) -> Pair:
    """The tile size at most ``largest`` that covers a region in as few tiles, with the least left over.

    Parameters
    ----------
    largest : rows and columns that a tile may have.
    region : rows and columns to be covered.
    step : sizes are rounded up to a multiple of it where ``largest`` allows.

    >>> even_tile((256, 256), (300, 512))
    (152, 256)
    """
    result = []
    for limit, size in zip(largest, region):
        even = -(-size // -(-size // limit))
        result.append(min(limit, -(-even // step) * step))
    return result[0], result[1]


def grid(region: Pair, tile: Pair) -> List[Region]:
    """Tiles that cover a region of ``region`` rows and columns, in reading order; the last ones may be smaller."""
    return [Region(top, min(top + tile[0], region[0]), left, min(left + tile[1], region[1]))
            for top in range(0, region[0], tile[0]) for left in range(0, region[1], tile[1])]


def slice_tile(engine: str, graph: NetGraph, slice_shape: Pair) -> Pair:
    """The tile that a slice of this shape (rows, columns) is segmented in where memory is not short.

    Raises
    ------
    UserError : the engine is unknown or cannot run the net.
    """
    return even_tile(engines.best_tile(engine, graph, engines.USEFUL_BYTES), slice_shape)

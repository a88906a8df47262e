"""What an engine of segmentation is: padded grey values of a tile in, membrane probabilities out."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from ..base.errors import UserError
from ..base.ranges import Pair
from ..nets.netgraph import NetGraph
from ..nets.paper import centre


class Engine:
    """A net made ready for tiles of up to one size, in this process.

    Attributes
    ----------
    name : one of ``NAMES``.
    tile : rows and columns of output that one call gives at most.
    halo : input pixels that an output pixel needs before it and after it, along
        either axis: (16, 15) for patches of 32, whose centre is (16, 16).
    """

    name = ""

    def __init__(self, graph: NetGraph, tile: Pair):
        self.tile = (int(tile[0]), int(tile[1]))
        self.halo = halo(graph)

    def predict(self, grey: np.ndarray) -> np.ndarray:
        """Probability of membrane at each pixel of a tile.

        Parameters
        ----------
        grey : float32, (h + before + after) x (w + before + after): the
            normalised grey values of the tile and its halo, where h x w is
            ``tile`` or smaller along either axis.

        Returns
        -------
        float32, h x w.
        """
        raise NotImplementedError


def patch_size(graph: NetGraph) -> int:
    """Side of the square, one-channel patches that a net classifies.

    Raises
    ------
    UserError : its input is of another form.
    """
    shapes = [shape for shape in graph.inputs.values() if shape is not None]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 1 or shapes[0][2] != shapes[0][3]:
        raise UserError(f"net {graph.name}: its input is not one square patch of one channel, "
                        f"which segmentation needs; give the net's deploy prototxt")
    return shapes[0][2]


def halo(graph: NetGraph) -> Tuple[int, int]:
    """Input pixels before and after a pixel in its patch; see :func:`~pycaffe_tools.nets.paper.centre`."""
    size = patch_size(graph)
    return centre(size), size - centre(size) - 1

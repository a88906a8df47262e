"""The exact dense net as files for Caffe: prototxt and caffemodel."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from ..base.errors import UserError, naming
from ..base.files import PathLike, atomic_directory
from ..dense_plan.caffe_printer import OUTPUT, dense_net, dense_weights
from ..dense_plan.kernels import kernels
from ..dense_plan.plan import make_plan
from ..engines import best_tile, predicted_bytes
from ..engines.dense_caffe import rounded_tile
from ..engines.engine import halo
from ..nets.classifier import note
from ..nets.files.caffemodel import read_weights, write_weights
from ..nets.netgraph import NetGraph, read_net, write_net
from ..nets.paper import MEMBRANE
from ..nets.running.runtime import check_weights

PROTOTXT, CAFFEMODEL = "dense.prototxt", "dense.caffemodel"


class Written(NamedTuple):
    """What :func:`write_dense` wrote."""

    directory: Path
    tile: Tuple[int, int]
    patch: int
    predicted_bytes: int


def write_dense(deploy: PathLike, weights: PathLike, directory: PathLike, tile: Optional[Tuple[int, int]] = None,
                max_bytes: int = 10**9, force: bool = False) -> Written:
    """Write ``dense.prototxt`` and ``dense.caffemodel``, which any Caffe 1.0 runs.

    Parameters
    ----------
    deploy, weights : the patch net; it is classified by its channel 1.
    directory : is made, whole or not at all.
    tile : rows and columns of output; by default the largest useful one that takes at most ``max_bytes``.
    force : replace an existing folder.

    Raises
    ------
    UserError : the net is not of the kind that has an exact dense form (names
        the layer), the weights are not its own, or the tile does not fit.
    """
    graph = read_net(deploy)
    blobs = read_weights(weights)
    with naming(deploy):
        check_weights(graph, blobs, str(weights))
        plan, added = make_plan(graph), note(graph)
        before, after = halo(graph)
    tile = tile or best_tile("caffe", graph, max_bytes)
    if rounded_tile(plan.first_stride, tile) != tuple(tile):
        raise UserError(f"--tile {tile[0]}x{tile[1]}: must be a multiple of the first pooling's stride, "
                        "{}x{}; take {}x{}".format(*plan.first_stride, *rounded_tile(plan.first_stride, tile)))
    net = dense_net(plan, tile)
    with atomic_directory(directory, force) as folder:
        write_net(folder / PROTOTXT, net, comment=(
            f"{graph.name} for whole tiles: the probabilities of patch by patch, clipped pooling windows included.\n"
            f"Blob data takes a tile of {tile[0]} x {tile[1]} pixels with {before} pixels of its surroundings above\n"
            f"and left of it and {after} below and right, normalised as for training. Blob {OUTPUT} gives the\n"
            f"probability of class {MEMBRANE} at each pixel of the tile.\n"
            + (f"{added}\n" if added else "") +
            f"Made by python -m pycaffe_tools.dense from {Path(deploy).name}; weights in {CAFFEMODEL}."))
        write_weights(folder / CAFFEMODEL, NetGraph(net), dense_weights(plan, kernels(graph, blobs)))
    return Written(Path(directory), tile, before + after + 1, predicted_bytes("caffe", graph, tile))

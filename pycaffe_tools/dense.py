"""Write the exact dense form of a patch net for stock Caffe: a prototxt and a caffemodel.

How it is exact, clipped pooling windows included, stands in
:mod:`pycaffe_tools.dense_plan.plan`; how it is laid out for Caffe in
:mod:`pycaffe_tools.dense_plan.caffe_printer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Tuple

import click

from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.files import PathLike, atomic_directory
from .base.ranges import parse_size, parse_tile
from .dense_plan.caffe_printer import OUTPUT, dense_net, dense_weights
from .dense_plan.kernels import kernels
from .dense_plan.plan import make_plan
from .engines import best_tile, predicted_bytes
from .engines.dense_caffe import rounded_tile
from .engines.engine import halo
from .nets.caffemodel import read_weights, write_weights
from .nets.netgraph import NetGraph, read_net, write_net
from .nets.paper import MEMBRANE
from .nets.runtime import check_weights

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
    check_weights(graph, blobs, str(weights))
    plan = make_plan(graph)
    tile = tile or best_tile("caffe", graph, max_bytes)
    if rounded_tile(plan.first_stride, tile) != tuple(tile):
        raise UserError(f"--tile {tile[0]}x{tile[1]}: must be a multiple of the first pooling's stride, "
                        "{}x{}; take {}x{}".format(*plan.first_stride, *rounded_tile(plan.first_stride, tile)))
    before, after = halo(graph)
    net = dense_net(plan, tile)
    with atomic_directory(directory, force) as folder:
        write_net(folder / PROTOTXT, net, comment=(
            f"{graph.name} for whole tiles: the probabilities of patch by patch, clipped pooling windows included.\n"
            f"Blob data takes a tile of {tile[0]} x {tile[1]} pixels with {before} pixels of its surroundings above\n"
            f"and left of it and {after} below and right, normalised as for training. Blob {OUTPUT} gives the\n"
            f"probability of class {MEMBRANE} at each pixel of the tile.\n"
            f"Made by python -m pycaffe_tools.dense from {Path(deploy).name}; weights in {CAFFEMODEL}."))
        write_weights(folder / CAFFEMODEL, NetGraph(net), dense_weights(plan, kernels(graph, blobs)))
    return Written(Path(directory), tile, before + after + 1, predicted_bytes("caffe", graph, tile))


@click.command(context_settings=OPTIONS)
@click.argument("deploy", type=click.Path(dir_okay=False))
@click.argument("weights", type=click.Path(dir_okay=False))
@click.argument("out_dir", type=click.Path(file_okay=False))
@click.option("--tile", metavar="HxW", help="Pixels of output in one pass. [default: chosen by --max-memory]")
@click.option("--max-memory", default="1G", metavar="SIZE", help="Memory that one Caffe process may take.")
@click.option("--force", is_flag=True, help="Replace OUT_DIR.")
def cli(deploy: str, weights: str, out_dir: str, tile: Optional[str], max_memory: str, force: bool) -> None:
    """Write the net of DEPLOY and WEIGHTS as a dense net for stock Caffe 1.0.

    \b
        python -m pycaffe_tools.dense runs/N/deploy.prototxt runs/N/weights.caffemodel dense_N --tile 128x128

    It segments a whole tile in one forward pass, about fifty times as fast as patch by patch, with the same
    probabilities. The head of the prototxt says what goes in and comes out. (To segment a volume there is
    python -m pycaffe_tools.segment, which does this by itself.)
    """
    written = write_dense(deploy, weights, out_dir, parse_tile(tile) if tile else None, parse_size(max_memory), force)
    rows, columns = written.tile
    click.echo(f"{written.directory / PROTOTXT}: tiles of {rows}x{columns}, "
               f"input {rows + written.patch - 1}x{columns + written.patch - 1}")
    click.echo(f"{written.directory / CAFFEMODEL}: about {written.predicted_bytes // 10**6}M of memory when run")


if __name__ == "__main__":
    run(cli, "dense")

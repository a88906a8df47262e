"""Write the exact dense form of a patch net for stock Caffe: a prototxt and a caffemodel.

How it is exact, clipped pooling windows included, stands in
:mod:`pycaffe_tools.dense_plan.plan`; how it is laid out for Caffe in
:mod:`pycaffe_tools.dense_plan.caffe_printer`.
"""

from __future__ import annotations

from typing import Optional

import click

from .base.command import OPTIONS, run
from .base.ranges import parse_size, parse_tile
from .export.dense_caffe import CAFFEMODEL, PROTOTXT, write_dense


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

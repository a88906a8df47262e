"""The command ``python -m pycaffe_tools.watch``."""

from __future__ import annotations

from typing import Any, Optional

import click

from ..base.command import OPTIONS, FiniteRange, run
from ..base.ranges import parse_size, parse_tile
from ..segment.options import computing_options
from .pace import LATE_FROM
from .request import SETTLE, WatchRequest
from .watching import watch


@click.command(context_settings=OPTIONS)
@click.argument("folder")
@click.option("-o", "--out", required=True, metavar="DIR", help="Folder for the results.")
@click.option("--model", required=True, metavar="MODEL_DIR", help="A model directory, made by train or prune.")
@click.option("--model-when-late", metavar="MODEL_DIR", help="A faster model for when the first falls behind.")
@click.option("--late-from", type=click.IntRange(2), default=LATE_FROM, metavar="N",
              help="Slices waiting from which the faster model takes over; the first comes back when none waits.")
@click.option("--slices", type=click.IntRange(1), metavar="N", help="End when so many slices are finished.")
@click.option("--stop-after", type=FiniteRange(0), metavar="SECONDS",
              help="End after so long without a new slice; while FOLDER is away does not count.")
@click.option("--once", is_flag=True, help="Segment what is there, and end.")
@click.option("--settle", type=FiniteRange(0), default=SETTLE, metavar="SECONDS",
              help="A file is whole when it has not changed for so long.")
@click.option("--poll", type=FiniteRange(0.05), metavar="SECONDS",
              help="Look into FOLDER so often, and do not rely on being told. [default: told by the operating system where "
                   "watchdog is installed and FOLDER is on a disk of this machine; else every second]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Show a web page at this port; 0 is any that is free.")
@click.option("--host", default="127.0.0.1", help="Address to show it at; others than this machine see it only if you say so here.")
@computing_options
@click.option("--force", is_flag=True, help="Start from scratch: forget the results in DIR.")
def cli(out: str, tile: Optional[str], max_memory: Optional[str], **options: Any) -> int:
    """Segment the slices of FOLDER while the microscope writes them.

    \b
        python -m pycaffe_tools.watch slices -o live --model runs/N --model-when-late runs/N7 --port 8765

    A slice is segmented as soon as its file is whole, in the order of the
    numbers in the names. DIR gets, for each slice, its probabilities, mask,
    overlay and a record; probability and mask are folders that open as stacks,
    as FOLDER does. FOLDER may be a pattern in quotes, such as 'slices/*_raw.tif'.

    The values are those that segment gives with FOLDER when it is complete,
    bit for bit if the tiles are the same: watch.json names them, and segment
    takes them by --tile. Only a model trained with --normalise stack cannot be
    used, since its normalisation depends on slices that are still to come.

    Ctrl-C ends it; whatever ends it, the same command goes on. A slice that is
    written again with other pixels is computed again. The exit code is 0 if
    every slice that came is finished.
    """
    summary = watch(WatchRequest(out=out, tile=parse_tile(tile) if tile else None,
                                 max_memory=parse_size(max_memory) if max_memory else None, **options), click.echo)
    for line in summary.lines():
        click.echo(line)
    if summary.lacking:
        click.echo(f"{out}: {summary.lacking}; the same command goes on", err=True)
        return 1
    return 0


if __name__ == "__main__":
    run(cli, "watch")

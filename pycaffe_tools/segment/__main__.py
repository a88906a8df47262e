"""Segment a volume: the probability of membrane at every pixel, with a trained model."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Optional, Tuple

import click

from ..base.command import OPTIONS, FiniteRange, run
from ..base.errors import UserError
from ..base.ranges import parse_part, parse_size, parse_tile
from .ending import exit_code, run_and_tell
from .outputs import merge
from .request import Request
from .segmentation import Segmentation, Summary


def segment(request: Request) -> Summary:
    """Segment a volume, or complete what an earlier, interrupted call has begun.

    Raises
    ------
    UserError : what the user can put right; nothing half-written takes an output's name.
    """
    with closing(Segmentation(request)) as work:
        return work.run()


@click.command(context_settings=OPTIONS)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT")
@click.option("-o", "--out", required=True, help="Probabilities: .tif (ImageJ), .h5[:/dataset] or .zarr.")
@click.option("--model", metavar="MODEL_DIR", help="A model directory, made by train or prune.")
@click.option("--slices", metavar="A:B", help="Slices to segment, half-open, such as 0:4,9. [default: all]")
@click.option("--part", metavar="K/N", help="Only part K of N of these slices, such as 3/16; every N gives the same parts.")
@click.option("--crop", metavar="Y0:Y1,X0:X1", help="Part of each slice to segment; patches reach beyond it.")
@click.option("--axes", metavar="LETTERS", help="Axes of the input where it does not say, such as CZYX.")
@click.option("--threshold", type=FiniteRange(0, 1),
              help="Probability from which a pixel is membrane. [default: the model's]")
@click.option("--mask-out", metavar="FILE", help="Also write the mask, 0 and 255.")
@click.option("--overlay-out", metavar="DIR",
              help="Also write pictures: the mask's outline on the grey image, a PNG a slice.")
@click.option("--mode", type=click.Choice(["dense", "patch"]), default="dense",
              help="The exact dense evaluation, or patch by patch as in the paper (slow, the reference).")
@click.option("--engine", type=click.Choice(["auto", "native", "onnxruntime", "caffe"]), default="auto",
              help="What runs the dense net; auto is the first of the others that is there.")
@click.option("--tile", metavar="HxW", help="Size of a tile in pixels. [default: chosen by --max-memory]")
@click.option("--max-memory", metavar="SIZE", help="Memory for all processes together, such as 800M or 2G. "
              "[default: 1G for each process, at most half of what is free]")
@click.option("--workers", type=click.IntRange(1), help="Worker processes, one thread each. [default: the cores]")
@click.option("--dtype", type=click.Choice(["float32", "uint8"]), default="float32",
              help="Of the probabilities; uint8 holds them times 255, rounded.")
@click.option("--incomplete", is_flag=True, help="Write the outputs although slices failed; these hold zeros.")
@click.option("--dry-run", is_flag=True, help="Print the plan, with the predicted memory, and stop.")
@click.option("--merge", "merging", is_flag=True, help="Join parts: every INPUT is an output of --part or --slices.")
@click.option("--force", is_flag=True, help="Replace outputs, and start unfinished ones from scratch.")
def cli(inputs: Tuple[str, ...], out: str, model: Optional[str], tile: Optional[str], max_memory: Optional[str],
        dry_run: bool, merging: bool, **options: Any) -> int:
    """Probability of membrane at every pixel of INPUT.

    \b
        python -m pycaffe_tools.segment raw.tif -o p.tif --model runs/N7 --mask-out mask.tif

    INPUT is a TIFF, a folder of slices, file.h5:/dataset or an OME-Zarr. When
    the work was interrupted, the same command completes it. What is finished
    stands in OUT.parts until all of it is; a slice that cannot be read fails
    alone, and OUT is then written only with --incomplete.

    Parts of the slices can be jobs of their own on a cluster, and be joined:

    \b
        python -m pycaffe_tools.segment raw.tif -o part1.tif --model runs/N7 --part 1/2
        python -m pycaffe_tools.segment raw.tif -o part2.tif --model runs/N7 --part 2/2
        python -m pycaffe_tools.segment --merge part1.tif part2.tif -o p.tif

    Exit codes: 0 done; 1 the sentence says why not; 2 wrong usage; 3 slices
    failed, and would again; 75 it passes (another process works on OUT, the
    disk is full, SIGTERM or SIGUSR1 asked to stop at the end of a slice), and
    the same command goes on.
    """
    part = parse_part(options.pop("part"))
    if merging:
        if part:
            raise UserError("--part: says what to segment, and --merge joins what is segmented; leave one of them out")
        count = merge(inputs, out, options["slices"], options["force"])
        click.echo(f"{out}: {count} slices of {len(inputs)} parts")
        return 0
    if len(inputs) != 1 or model is None:
        raise UserError("segment: give one INPUT and --model MODEL_DIR (or parts of a volume and --merge)")
    work = Segmentation(Request(inputs[0], out, model, tile=parse_tile(tile) if tile else None,
                                max_memory=parse_size(max_memory) if max_memory else None, part=part, **options))
    for sentence in work.warnings:
        click.echo(f"warning: {sentence}", err=True)
    for line in work.describe():
        click.echo(line)
    if dry_run:
        return 0
    return exit_code(run_and_tell(work))


if __name__ == "__main__":
    run(cli, "segment")

"""Segment a volume: the probability of membrane at every pixel, with a trained model."""

from __future__ import annotations

import shlex
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Optional, Tuple

import click

from ..base.command import OPTIONS, run
from ..base.errors import UserError
from ..base.ranges import parse_part, parse_size, parse_tile
from ..cluster.dask import connected
from .in_place.sharing import finish
from .jobs import on_dask
from .jobs.plan import plan_jobs, read_plan
from .jobs.resubmitting import resubmit as resubmit_jobs
from .jobs.scripts import SUBMIT, write_jobs
from .jobs.status import describe, exit_code as status_code, status_of
from .options import computing_options
from .outputs import merge
from .request import Request
from .segmentation import Segmentation, Summary
from .telling import exit_code, run_and_tell, show

FOLDER = click.Path(path_type=Path)


def segment(request: Request) -> Summary:
    """Segment a volume, or complete what an earlier, interrupted call has begun.

    Raises
    ------
    UserError : what the user can put right; nothing half-written takes an output's name.
    """
    with closing(Segmentation(request)) as work:
        return work.run()


@click.command(context_settings=OPTIONS)
@click.argument("inputs", nargs=-1, metavar="INPUT")
@click.option("-o", "--out", help="Probabilities: .tif (ImageJ), .h5[:/dataset] or .zarr.")
@click.option("--model", metavar="MODEL_DIR", help="A model directory, made by train or prune.")
@click.option("--slices", metavar="A:B", help="Slices to segment, half-open, such as 0:4,9. [default: all]")
@click.option("--part", metavar="K/N", help="Only part K of N of these slices, such as 3/16; every N gives the same parts.")
@click.option("--crop", metavar="Y0:Y1,X0:X1", help="Part of each slice to segment; patches reach beyond it.")
@click.option("--axes", metavar="LETTERS", help="Axes of the input where it does not say, such as CZYX.")
@click.option("--mask-out", metavar="FILE", help="Also write the mask, 0 and 255.")
@click.option("--overlay-out", metavar="DIR",
              help="Also write pictures: the mask's outline on the grey image, a PNG a slice.")
@computing_options
@click.option("--ome-zarr", type=click.Choice(["0.4", "0.5"]), default="0.4",
              help="Version of a .zarr: a file for each chunk (Zarr 2), or for each slice (Zarr 3).")
@click.option("--compress", is_flag=True, help="Write an .h5 in chunks, with gzip.")
@click.option("--incomplete", is_flag=True, help="Write the outputs although slices failed; these hold zeros.")
@click.option("--dry-run", is_flag=True, help="Print the plan, with the predicted memory, and stop.")
@click.option("--dask", metavar="ADDRESS", help="Have the workers of a Dask scheduler compute, such as tcp://host:8786, or its "
              "--scheduler-file; --workers and --max-memory are for each of their threads.")
@click.option("--finish", "finishing", is_flag=True,
              help="Check the slices of an OME-Zarr that parts have filled; the last step.")
@click.option("--merge", "merging", is_flag=True, help="Join parts: every INPUT is an output of --part or --slices.")
@click.option("--force", is_flag=True, help="Replace outputs, and start unfinished ones from scratch.")
@click.option("--slurm", metavar="JOBDIR", type=FOLDER, help="Compute nothing; write the jobs for Slurm into JOBDIR.")
@click.option("--parts", type=click.IntRange(1), help="How many jobs, or tasks of Dask: parts of the slices.")
@click.option("--sbatch", metavar="OPTIONS", default="", help='Options of sbatch for the jobs, such as "--partition=x --mem=8G".')
@click.option("--status", metavar="JOBDIR", type=FOLDER, help="Say how far the jobs of JOBDIR are, from its files.")
@click.option("--resubmit", metavar="JOBDIR", type=FOLDER, help="Submit again what is not done in JOBDIR.")
def cli(inputs: Tuple[str, ...], out: Optional[str], model: Optional[str], tile: Optional[str], max_memory: Optional[str],
        dry_run: bool, merging: bool, slurm: Optional[Path], parts: Optional[int], sbatch: str, status: Optional[Path],
        resubmit: Optional[Path], finishing: bool, dask: Optional[str], **options: Any) -> int:
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

    Parts of an OME-Zarr all have one OUT, and write their slices into it:

    \b
        python -m pycaffe_tools.segment raw.tif -o p.zarr --model runs/N7 --part 1/2
        python -m pycaffe_tools.segment raw.tif -o p.zarr --model runs/N7 --part 2/2
        python -m pycaffe_tools.segment --finish -o p.zarr

    Slurm does that, and submits again what failed:

    \b
        python -m pycaffe_tools.segment raw.tif -o p.tif --model runs/N7 --slurm JOBDIR --parts 16
        JOBDIR/submit.sh
        python -m pycaffe_tools.segment --status JOBDIR
        python -m pycaffe_tools.segment --resubmit JOBDIR

    Exit codes: 0 done; 1 the sentence says why not; 2 wrong usage; 3 slices
    failed, and would again; 75 it passes (another process works on OUT, the
    disk is full, SIGTERM or SIGUSR1 asked to stop at the end of a slice), and
    the same command goes on. Those of --status: 0 all is done; 3 something
    failed, see --resubmit; 75 it is on the way.
    """
    if status or resubmit:
        return _look_after(status, resubmit)
    if not (inputs or finishing) or out is None:
        raise click.UsageError("Missing option '-o' / '--out'." if inputs or finishing else "Missing argument 'INPUT'.")
    part = parse_part(options.pop("part"))
    if merging:
        if part:
            raise UserError("--part: says what to segment, and --merge joins what is segmented; leave one of them out")
        count = merge(inputs, out, options["slices"], options["force"], options["ome_zarr"], options["compress"])
        click.echo(f"{out}: {count} slices of {len(inputs)} parts")
        return 0
    if finishing:
        if inputs or part:
            raise UserError("--finish: needs -o OUT.zarr alone; leave INPUT and --part out")
        click.echo(f"{out}: is whole, {finish(out, options['incomplete'])} slices")
        return 0
    if len(inputs) != 1 or model is None:
        raise UserError("segment: give one INPUT and --model MODEL_DIR (or parts of a volume and --merge)")
    request = Request(inputs[0], out, model, tile=parse_tile(tile) if tile else None,
                      max_memory=parse_size(max_memory) if max_memory else None, part=part, **options)
    if slurm or sbatch or (parts and not dask):
        if not (slurm and parts) or dask:
            raise click.UsageError("--slurm JOBDIR and --parts N belong together, and --sbatch to them.")
        return _plan(request, slurm, parts, sbatch, dry_run)
    with ExitStack() as stack:
        work = stack.enter_context(closing(on_dask.prepare(request) if dask else Segmentation(request)))
        client = stack.enter_context(connected(dask)) if dask else None
        show(work)
        if dry_run:
            return 0
        on_workers = None if client is None else lambda: on_dask.completed(work, work.run(on_dask.on(client, work, parts)))
        return exit_code(run_and_tell(work, on_workers))


def _plan(request: Request, folder: Path, parts: int, sbatch: str, dry_run: bool) -> int:
    plan, work = plan_jobs(request, folder, parts, sbatch)
    show(work)
    click.echo(f"parts    {parts}, the first of slices {plan.parts[0]}; each with the memory and the disk of its own slices")
    if dry_run:
        return 0
    for path in write_jobs(plan):
        click.echo(f"wrote {path}")
    click.echo(f"submit them with {shlex.quote(str(plan.folder / SUBMIT))}")
    return 0


def _look_after(status: Optional[Path], again: Optional[Path]) -> int:
    if again:
        for line in resubmit_jobs(read_plan(again)):
            click.echo(line)
    if status:
        found = status_of(read_plan(status))
        for line in describe(found):
            click.echo(line)
        return status_code(found)
    return 0


if __name__ == "__main__":
    run(cli, "segment")

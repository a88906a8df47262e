"""The command ``python -m pycaffe_tools.patches``."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import click

from ..base.command import OPTIONS, SEED, FiniteRange, run
from ..nets.paper import PATCH_SIZE
from .labels import KINDS, RIM
from .making import make_database
from .sources import LabelledStack


def _per_pair(option: str, values: Sequence[str], count: int) -> List[Optional[str]]:
    """Options that are given once for all pairs, or once for each in order."""
    if len(values) not in (0, 1, count):
        raise click.UsageError(f"{option} is given {len(values)} times for {count} pairs; give it once, or once each")
    return list(values) if len(values) == count else [values[0] if values else None] * count


def _only_one_each(option: str, values: Sequence[str], count: int) -> List[Optional[str]]:
    if len(values) not in (0, count):
        raise click.UsageError(f"{option} is given {len(values)} times for {count} pairs; give it once for each, "
                               f"in order, with - for a pair that has none")
    return [None if value == "-" else value for value in values] or [None] * count


@click.command(context_settings=OPTIONS)
@click.argument("paths", nargs=-1, required=True, metavar="[RAW LABELS] OUT_DIR")
@click.option("--labels-are", type=click.Choice(KINDS), required=True,
              help="What LABELS mark: membrane; filled mitochondria, whose outline is used; or, every object with a "
                   "number of its own, cells between membranes of 0 (instances) or mitochondria.")
@click.option("--membrane-value", type=int,
              help="Value that marks it in LABELS. [default: the one value that is not 0; 0 for instances]")
@click.option("--ignore-value", "ignore_values", type=int, multiple=True, metavar="VALUE",
              help="Value in LABELS of pixels that are neither positive nor negative; may be repeated.")
@click.option("--rim", type=FiniteRange(min=1), default=RIM, help="Pixels of a mitochondrion's outline.")
@click.option("--pair", "pairs", type=(str, str), multiple=True, metavar="RAW LABELS",
              help="A further stack with its labels; may be repeated, and replace the positional pair.")
@click.option("--exclude", multiple=True, metavar="MASK",
              help="What is not 0 here is neither positive nor negative; once for each pair, - for none.")
@click.option("--add-labels", multiple=True, metavar="FILE",
              help="Second label file: its membrane is positive as well; once for each pair, - for none.")
@click.option("--slices", multiple=True, metavar="A:B", help="Use these slices only [default: all].")
@click.option("--val-slices", multiple=True, metavar="A:B",
              help="Slices that validate, or none; the other slices train [default: the last quarter].")
@click.option("--train", type=int, default=20_000, help="Training patches, half of them membrane.")
@click.option("--val", type=int, default=10_000, help="Validation patches, half of them membrane.")
@click.option("--seed", type=SEED, default=0, help="Equal seeds give equal patches.")
@click.option("--axes", help="Axes of RAW (and of LABELS, if unclear) where they are not YX or ZYX, e.g. CZYX.")
@click.option("--patch-size", type=int, default=PATCH_SIZE,
              help="Side of a patch in pixels; a network trained on the patches is for this size. Those of the paper need "
                   "at least 30.")
@click.option("--shard-patches", type=int,
              help="Most patches in one HDF5 file. [default: as many as 128 MiB hold, 32768 of 32 x 32]")
@click.option("--normalise", type=click.Choice(["all", "stack"]), default="all",
              help="One mean and standard deviation for all stacks, or each stack by its own; then a volume to be "
                   "segmented is normalised by its own as well.")
@click.option("--ignore-slice-names", is_flag=True,
              help="Take slices of folders in order, although the numbers in their names differ.")
@click.option("--force", is_flag=True,
              help="Replace OUT_DIR; accept labels of which more than half is membrane, and stacks that are far apart.")
def cli(paths: Tuple[str, ...], pairs: Tuple[Tuple[str, str], ...], exclude: Tuple[str, ...],
        add_labels: Tuple[str, ...], slices: Tuple[str, ...], val_slices: Tuple[str, ...], **options: Any) -> None:
    """Make a patch database from a stack RAW and its LABELS.

    \b
    python -m pycaffe_tools.patches raw.tif membranes.tif patches/ --labels-are membrane --val-slices 6:8
    python -m pycaffe_tools.patches patches/ --labels-are membrane \\
        --pair a_raw.tif a_labels.tif --pair b.h5:/raw b.h5:/labels

    Volumes are TIFF, folders of slices, HDF5 (file.h5:/dataset) or OME-Zarr.
    Slice ranges are half-open, 0:4,9 is 0, 1, 2, 3 and 9.  With several
    stacks, --slices and --val-slices count within each stack: given once they
    hold for all, given once for each pair they go in the order of the pairs,
    the positional one first.
    """
    if len(paths) not in ((1, 3) if pairs else (3,)):
        raise click.UsageError("expected RAW LABELS OUT_DIR, or OUT_DIR with --pair RAW LABELS")
    chosen = ([(paths[0], paths[1])] if len(paths) == 3 else []) + list(pairs)
    count = len(chosen)
    columns = (_only_one_each("--exclude", exclude, count), _only_one_each("--add-labels", add_labels, count),
               _per_pair("--slices", slices, count), _per_pair("--val-slices", val_slices, count))
    made = make_database([LabelledStack(*pair, *rest) for pair, rest in zip(chosen, zip(*columns))], paths[-1], **options)
    for sentence in made.info.get("warnings", ()):
        click.echo(f"warning: {sentence}", err=True)
    click.echo(f"{paths[-1]}: {made.train_count} training and {made.val_count} validation "
               f"patches; membrane is {100 * made.info['class_balance']:.2f} % of the validation slices")


if __name__ == "__main__":
    run(cli, "patches")

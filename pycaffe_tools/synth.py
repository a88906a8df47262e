"""A synthetic electron micrograph of neural tissue, with its exact labels.

The embedded default data: everything in this package runs on it without a
download.  :mod:`pycaffe_tools.datasets.tissue` says where cells and organelles are; here they are
drawn as the microscope shows them, one slice at a time with the memory of one
slice.  Vesicles, reticulum, cristae, ribosomes and synaptic densities are dark
but not membranes to be found, so darkness alone is a poor classifier.

Only numpy and scipy compute.  A seed gives the same bytes on every run; another numpy
or processor may round a few pixels differently.
"""

from __future__ import annotations

from pathlib import Path

import click

from .base.command import OPTIONS, SEED, run
from .datasets.scene import write_synthetic


@click.command(context_settings=OPTIONS)
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--slices", default=8, help="Number of slices.")
@click.option("--size", default=384, help="Height and width of a slice in pixels.")
@click.option("--seed", type=SEED, default=0, help="The same seed gives the same files, byte for byte.")
@click.option("--pixel-size", default=5.0, help="nm, the same along z, y and x.")
@click.option("--force", is_flag=True, help="Replace OUT_DIR if it exists.")
def cli(out_dir: Path, slices: int, size: int, seed: int, pixel_size: float, force: bool) -> None:
    """Draw a synthetic electron micrograph of neural tissue, with its labels.

    OUT_DIR gets three ImageJ TIFF stacks, 8 bits, with the pixel size:

    \b
    raw.tif           the micrograph
    membranes.tif     255 = plasma membranes and the outlines of mitochondria
                      (outer membrane to inner boundary membrane), 0 = the rest
    mitochondria.tif  255 = mitochondria, filled, outline included, 0 = the rest

    Cristae, endoplasmic reticulum, vesicles and synaptic densities are dark
    too, but are not positive: darkness alone does not solve the task. For the
    outlines of mitochondria alone, as in the paper, take mitochondria.tif with
    `--labels-are mitochondria` in pycaffe_tools.patches.

    \b
    Example:
      python -m pycaffe_tools.synth data/synthetic --slices 8 --size 384 --seed 0
    """
    fractions = write_synthetic(out_dir, slices, size, seed, pixel_size, force)
    click.echo(f"{out_dir}: {slices} slices of {size} x {size} pixels of {pixel_size:g} nm; "
               + ", ".join(f"{100 * value:.1f} % {name}" for name, value in fractions.items()))


if __name__ == "__main__":
    run(cli, "synth")

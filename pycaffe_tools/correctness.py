"""Which validation patches a network classifies right: what two networks' accuracies are compared by.

Two networks are scored on the same patches and agree on most of them, so the
error of the difference of their accuracies follows from the patches on which
they differ, and is smaller than each accuracy's own.
"""

from __future__ import annotations

from pathlib import Path

import click

from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.files import refuse_existing, refuse_inputs, require_ending, sha256, write_json
from .nets.model import open_model
from .patches.database import open_database
from .patches.shards import read_pixels
from .train.correctness import by_slice, correctness, packed


@click.command(context_settings=OPTIONS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Patch database.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@click.option("--force", is_flag=True, help="Replace it if it exists.")
def cli(model: Path, data: Path, out: Path, force: bool) -> None:
    """Write which validation patches of a database MODEL classifies right.

    \b
    python -m pycaffe_tools.correctness runs/N7 --data data/patches -o right.json
    """
    require_ending(out, ".json")
    refuse_inputs(out, model, data)
    refuse_existing(out, force)
    opened = open_model(model)
    database = open_database(data)
    right = correctness(opened, database)
    content = packed(right)
    try:
        content["by_slice"] = by_slice(right, read_pixels(database.val, database.patch_size))
    except UserError:
        click.echo(f"warning: {data} does not say from which slices its patches came, so neither does {out}", err=True)
    write_json(out, {"model": opened.name, "weights_sha256": sha256(opened.weights), **content})
    click.echo(f"{out}: {100 * content['accuracy']:.2f} % of {content['patches']} patches are right")


if __name__ == "__main__":
    run(cli, "correctness")

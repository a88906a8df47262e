"""What the scripts of a plan call: ``python -m pycaffe_tools.segment.jobs part FOLDER 3``, and ``merge FOLDER``."""

from __future__ import annotations

from pathlib import Path

import click

from ...base.command import OPTIONS, run
from .work import run_merge, run_part


@click.group(context_settings=OPTIONS)
def cli() -> None:
    """The jobs of a plan that `segment --slurm` made."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("number", type=click.IntRange(1))
def part(folder: Path, number: int) -> int:
    """Compute a part of the plan in FOLDER, or complete it."""
    return run_part(folder, number)


@cli.command("merge")
@click.argument("folder", type=click.Path(path_type=Path))
def merge_command(folder: Path) -> int:
    """Join the parts of the plan in FOLDER."""
    return run_merge(folder)


if __name__ == "__main__":
    run(cli, "segment.jobs")

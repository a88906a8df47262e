"""Takes trained models out of a reproduction's store for other people, and writes their model cards from its logs."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from .base.command import OPTIONS, run
from .report.cards import MODELS, publish, write_cards
from .report.results import Results


@click.command(context_settings=OPTIONS)
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--runs", type=click.Path(path_type=Path), help="Store of the runs (reproduce --runs): copy the models from there.")
@click.option("--out", type=click.Path(path_type=Path), default=MODELS, show_default=True, help="Gets a folder for each model.")
def cli(results: Path, runs: Optional[Path], out: Path) -> None:
    """Copy N, N6 and N7 of the first seed of RESULTS, such as results/vnc, and write their cards.

    \b
    python -m pycaffe_tools.cards results/vnc --runs /scratch/runs

    Without --runs, the cards of the models that are there are written again.
    """
    read = Results(results)
    for path in publish(read, runs, out) if runs else write_cards(read, out):
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    run(cli, "cards")

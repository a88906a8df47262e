"""The command ``python -m pycaffe_tools.datasets``: list public data sets, download them, make stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import click

from ..base.command import OPTIONS, run
from ..base.errors import UserError
from ..base.files import sha256
from .catalogue import MANIFEST, known, terms
from .download import fetch
from .stacks import build_stacks


@click.group(context_settings=OPTIONS)
def cli() -> None:
    """Public data sets with labels: terms, citations, download.

    \b
    python -m pycaffe_tools.datasets list
    python -m pycaffe_tools.datasets fetch vnc -o data/vnc
    python -m pycaffe_tools.datasets stack vnc data/vnc -o data/em
    """


@cli.command("list", context_settings=OPTIONS)
def list_command() -> None:
    """What there is, with terms, citation, label coding and a sensible split."""
    for name, entry in known().items():
        how = "by hand: " + entry["by_hand"] if "by_hand" in entry else f"fetch {name}"
        click.echo("\n".join(terms(name, entry) + [f"  get it    {how}", ""]))


@cli.command("fetch", context_settings=OPTIONS)
@click.argument("name")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--url", "mirror", help="Folder to take the files from instead of their origin, such as a mirror.")
def fetch_command(name: str, out: Path, mirror: Optional[str]) -> None:
    """Download data set NAME; interrupted, the same command goes on."""
    entry = _entry(name)
    click.echo("\n".join(terms(name, entry)))
    for path in fetch(name, entry, out, mirror):
        click.echo(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {sha256(path)}")
    if any(file["sha256"] is None for file in entry["files"]):
        click.echo("No hash is known for some of these files, so they were not compared; theirs stand in "
                   f"{out / MANIFEST}")
    if "stacks" in entry:
        click.echo(f"python -m pycaffe_tools.datasets stack {name} {out} makes the stacks of the reproduction of it, and "
                   f"compares their pixels")


@cli.command("stack", context_settings=OPTIONS)
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--out", default=Path("data/em"), type=click.Path(path_type=Path), help="Folder for the stacks.")
@click.option("--force", is_flag=True, help="Replace stacks that exist.")
def stack_command(name: str, folder: Path, out: Path, force: bool) -> None:
    """Make the stacks that the reproduction reads of data set NAME, fetched into FOLDER.

    Each is written only if its pixels are those that the committed results
    were made from.
    """
    for path in build_stacks(name, _entry(name), folder, out, force):
        click.echo(f"wrote {path}")


def _entry(name: str) -> Dict[str, Any]:
    entries = known()
    if name not in entries:
        raise UserError(f"{name}: is no data set of the list; choose one of {', '.join(entries)}")
    return entries[name]


if __name__ == "__main__":
    run(cli, "datasets")

"""The command ``python -m pycaffe_tools.report``."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import click

from ..base.command import OPTIONS, run
from ..base.files import PathLike, write_json, write_text
from .curve import table_curve
from .figures import draw_figures
from .front import table_front
from .judging.claim import Claim
from .markup import html, markdown
from .page import blocks_of
from .results import Results
from .tables import WHERE_RUN, all_tables, table_summary
from .verdicts import judge_claims


def write_report(folder: PathLike) -> List[Claim]:
    """Write everything below ``results/<data set>`` and return the claims.

    Raises
    ------
    UserError : there are no logs.
    """
    results = Results(folder)
    for table in [*all_tables(results), table_curve(results), table_front(results), table_summary(results)]:
        if not table.rows and table.name in WHERE_RUN:
            continue
        write_text(results.folder / "tables" / f"{table.name}.csv", table.as_csv())
        write_text(results.folder / "tables" / f"{table.name}.md", f"**{table.title}**\n\n{table.as_markdown()}\n")
    judged = judge_claims(results)
    write_json(results.folder / "claims.json", [claim.as_dict() for claim in judged])
    title, page = blocks_of(results, judged, draw_figures(results))
    write_text(results.folder / "report.html", html(title, page, results.folder))
    write_text(results.folder / "report.md", markdown(page))
    return judged


@click.command(context_settings=OPTIONS)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def cli(folders: Tuple[Path, ...]) -> None:
    """Write the report of each of FOLDERS from its logs.

    \b
    python -m pycaffe_tools.report results/epfl results/vnc
    """
    for folder in folders:
        for claim in write_report(folder):
            click.echo(f"{claim.word:15} {claim.text}" + (f" ({claim.reading})" if claim.reading else ""))
        click.echo(f"wrote {folder / 'report.html'} and {folder / 'report.md'}")


if __name__ == "__main__":
    run(cli, "report")

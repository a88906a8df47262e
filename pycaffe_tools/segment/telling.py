"""A segmentation for whoever started it: the plan, the table in the end, the exit code, and signals that ask it to stop.

=========  ===========================================================================================
exit code
=========  ===========================================================================================
0          done
1          the sentence says why not
3          slices failed, and would again: they are listed
75         it passes (another process works on the output, the disk is full, a signal asked to stop);
           the same command goes on
=========  ===========================================================================================
"""

from __future__ import annotations

from typing import Callable, List, Optional

import click

from ..cluster.signals import when_asked
from .segmentation import Segmentation, Summary

SLICES_FAILED = 3
LISTED_FAILURES = 50


def table(summary: Summary) -> List[str]:
    """The table of slices that ends a run."""
    lines = ["completed  skipped  failed",
             f"{len(summary.completed):9d}  {len(summary.skipped):7d}  {len(summary.failed):6d}"]
    sentences = [f"slice {z} failed: {sentence}" for z, sentence in summary.failed.items()]
    more = len(sentences) - LISTED_FAILURES
    return lines + sentences[:LISTED_FAILURES] + ([f"and {more} more"] if more > 0 else [])


def show(work: Segmentation) -> None:
    """Print the plan of a segmentation, and what may be wrong with it."""
    for sentence in work.warnings:
        click.echo(f"warning: {sentence}", err=True)
    for line in work.describe():
        click.echo(line)


def run_and_tell(work: Segmentation, run: Optional[Callable[[], Summary]] = None) -> Summary:
    """Run a segmentation and print how it ended; :func:`exit_code` gives the code for it.

    ``run`` runs it in another way than on this machine.  Raises what :meth:`Segmentation.run` raises.
    """
    out = work.request.out
    if work.complete:
        click.echo(f"{out}: is complete, nothing to do")
        return Summary([], work.slices, {}, [])
    with when_asked(work.stop):
        summary = (run or work.run)()
    for line in table(summary):
        click.echo(line)
    if work.shared and not summary.written:
        click.echo(f"{out}: {len(summary.completed) + len(summary.skipped)} of its {len(work.whole)} slices are there by this "
                   f"command; segment --finish -o {out} ends it when all are")
    elif summary.failed and not summary.written:
        click.echo(f"{out}: not written, {len(summary.failed)} slices failed; the others are kept, run the same command "
                   f"again when the input is put right, or add --incomplete", err=True)
    for path in summary.written:
        click.echo(f"wrote {path}")
    return summary


def exit_code(summary: Summary) -> int:
    """Exit code of a segmentation that ended without an error."""
    return SLICES_FAILED if summary.failed else 0

"""What the jobs of a plan do: one part, or the merge; each keeps a record that others look at."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from typing import Iterator, List

import click

from ...base.command import PASSING
from ...base.errors import TemporaryError, UserError
from ...base.ranges import slice_ranges
from ...cluster.records import DONE, FAILED, STOPPED, Record
from ..in_place.sharing import finish
from ..outputs import merge
from ..segmentation import Segmentation
from ..telling import exit_code, run_and_tell, show
from .plan import JobPlan, read_plan


@contextmanager
def _told(record: Record) -> Iterator[None]:
    """Keep in the record what a user is told."""
    try:
        yield
    except UserError as error:
        passing = isinstance(error, TemporaryError)
        record.end(STOPPED if passing else FAILED, str(error), exit_code=PASSING if passing else 1)
        raise


def run_part(folder: Path, number: int) -> int:
    """Compute part ``number`` of a plan, or complete it.

    Returns
    -------
    The exit code: 0, or that of slices that failed.

    Raises
    ------
    TemporaryError : it passes, and the part goes on when it is run again.
    UserError : it does not.
    """
    plan = read_plan(folder)
    request = plan.part(number)
    with Record(plan.record(number), part=number, skipped=0, failed={}, exit_code=None) as record, _told(record):
        with closing(Segmentation(request)) as work:
            if slice_ranges(work.slices) != plan.parts[number - 1]:
                raise UserError(f"{request.input}: has other slices than when the jobs were planned (part {number} would be "
                                f"{slice_ranges(work.slices)} and not {plan.parts[number - 1]}); put it back, or plan them again")
            record.note(skipped=len(work.skipped))
            show(work)
            summary = run_and_tell(work)
        code = exit_code(summary)
        record.end(FAILED if code else DONE, f"{len(summary.failed)} slices failed" if code else None, exit_code=code,
                   failed={str(z): sentence for z, sentence in summary.failed.items()})
    return code


def run_merge(folder: Path) -> int:
    """Join the parts of a plan into the volumes that were asked for.

    Returns
    -------
    The exit code, 0.

    Raises
    ------
    TemporaryError : it passes.
    UserError : it does not, for example since a part is not finished.
    """
    plan = read_plan(folder)
    with Record(plan.merge_record, exit_code=None) as record, _told(record):
        if plan.in_place:
            click.echo(f"{plan.request.out}: is whole, {finish(plan.request.out)} slices")
        for mask, out in () if plan.in_place else ((True, plan.request.mask_out), (False, plan.request.out)):
            if out is not None:
                count = merge(_outputs(plan, mask), out, plan.request.slices, plan.request.force, plan.request.ome_zarr,
                              plan.request.compress)
                click.echo(f"{out}: {count} slices of {len(plan.parts)} parts")
        record.end(DONE, exit_code=0)
    return 0


def _outputs(plan: JobPlan, mask: bool) -> List[Path]:
    return [plan.output(number, mask) for number in range(1, len(plan.parts) + 1)]

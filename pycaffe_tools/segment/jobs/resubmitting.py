"""What of a plan is not done, submitted again."""

from __future__ import annotations

from typing import Dict, List, Tuple

from ...base.errors import UserError
from ...cluster.queue import cancel, living, submit
from ...cluster.records import DONE
from .plan import JobPlan
from .scripts import SUBMIT
from .status import status_of


def resubmit(plan: JobPlan) -> List[str]:
    """Submit the parts that are not done and neither wait nor run, and a new merge.

    The merge that was submitted before is taken out of the queue, since it
    waits for jobs that failed.

    Returns
    -------
    Lines for the user.

    Raises
    ------
    UserError : Slurm is not here, or refuses.
    """
    status = status_of(plan)
    if status.merge == DONE:
        return [f"{plan.request.out}: is complete, nothing to do"]
    arrays, merges = _submitted(plan)
    alive = living([*arrays, *merges])
    at_work = {arrays[task.job] + task.place for task in alive if task.job in arrays and task.place is not None}
    missing = [number for number in status.incomplete if number not in at_work]
    waiting_merges = [task.job for task in alive if task.job in merges]
    if not missing and waiting_merges:
        return [f"{plan.folder}: all that is missing waits in the queue or runs"]
    cancel(waiting_merges)
    earlier = sorted({task.job for task in alive if task.job in arrays})
    said = submit(str(plan.folder / SUBMIT), [str(number) for number in missing] or ["merge"],
                  {"WAIT_FOR": ":".join(map(str, earlier))})
    return said.splitlines()


def _submitted(plan: JobPlan) -> Tuple[Dict[int, int], List[int]]:
    """Arrays, with how many parts come before their first, and merges that were submitted."""
    arrays: Dict[int, int] = {}
    merges: List[int] = []
    lines = plan.jobs.read_text(encoding="utf-8").splitlines() if plan.jobs.is_file() else []
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "array" and words[1].isdigit() and words[2].isdigit():
            arrays[int(words[1])] = int(words[2])
        elif len(words) == 2 and words[0] == "merge" and words[1].isdigit():
            merges.append(int(words[1]))
        else:
            raise UserError(f"{plan.jobs}: is damaged, its line {line!r} names no job; remove the file if no job of this plan "
                            f"is in the queue")
    return arrays, merges

"""What Slurm's queue holds, asked with its own programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from ..base.errors import UserError


class Task(NamedTuple):
    """A job that waits or runs: its number, and its number in an array (None if it is in none)."""

    job: int
    place: Optional[int]


def living(jobs: Sequence[int]) -> Set[Task]:
    """Those of some jobs that wait or run.

    Parameters
    ----------
    jobs : numbers of jobs and arrays, as ``sbatch`` gave them.

    Raises
    ------
    UserError : Slurm does not answer.
    """
    if not jobs:
        return set()
    found: Set[Task] = set()
    # One by one, since squeue refuses all where one of them is forgotten.
    for job in jobs:
        done = _ask(["squeue", "--noheader", "--array", "--format=%F %K %T", f"--jobs={job}"])
        if done.returncode and "Invalid job id" not in done.stderr:
            raise UserError(f"squeue: does not answer ({_last_line(done.stderr)}); try again when Slurm runs")
        for line in done.stdout.splitlines():
            number, place, state = line.split()
            if state != "COMPLETING":
                found.add(Task(int(number), int(place) if place.isdigit() else None))
    return found


def cancel(jobs: Sequence[int]) -> None:
    """Take jobs out of the queue, and end those that run; ones that are gone are no error."""
    for job in jobs:
        _ask(["scancel", str(job)])


def submit(script: str, arguments: Sequence[str] = (), environment: Optional[Mapping[str, str]] = None) -> str:
    """Run a script that submits jobs, and give what it prints.

    Raises
    ------
    UserError : Slurm refuses.
    """
    if shutil.which("sbatch") is None:
        raise UserError(f"sbatch: is not here; run {script} on a computer from which jobs are submitted")
    done = _ask([script, *arguments], environment)
    if done.returncode:
        raise UserError(f"{script}: {_last_line(done.stderr)}; put that right and run the same command again")
    return done.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it gives no reason"])[-1]


def _ask(command: List[str], environment: Optional[Mapping[str, str]] = None) -> subprocess.CompletedProcess[str]:
    settings: Dict[str, str] = {**os.environ, **(environment or {})}
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=settings)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror}); use a computer from which jobs are submitted") from None

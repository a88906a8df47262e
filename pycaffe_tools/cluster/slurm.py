"""Scripts for Slurm: text that says everything by itself, written on one computer and run on another.

Paths are absolute and quoted, and the Python is the one that wrote the script.
What is to be done stands in a file, never in Slurm's environment: a job that is
submitted again alone finds other numbers there (``SLURM_ARRAY_TASK_COUNT``).

A job that ends with exit code 75 (:data:`~pycaffe_tools.base.command.PASSING`)
is put back into the queue, at most :data:`MOST_RESTARTS` times; before its time
is up it is asked to stop, which ends in 75 as well.  Any other code but 0 fails.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

from ..base.command import PASSING
from ..base.errors import UserError
from ..base.files import PACKAGE_ROOT, atomic_file
from ..base.ranges import parse_size, size_text

MOST_RESTARTS = 20
LEAD = 120
"""Seconds before the end of a job's time at which it is asked to stop."""
LEAST_TIME = 300
"""Seconds that a job needs for something to come of it."""

_OURS = {"array": "the parts stand in the plan", "dependency": "the merge follows the parts", "wrap": "the scripts are files",
         "parsable": "the jobs' numbers are read", "wait": "nobody would submit the merge", "test-only": "nothing would be submitted",
         "signal": "jobs are told in time to stop", "requeue": "it is set", "no-requeue": "jobs go back into the queue",
         "kill-on-invalid-dep": "it is set", "chdir": "all paths are absolute"}
_SHORT = {"a": "array", "d": "dependency", "W": "wait", "D": "chdir", "c": "cpus-per-task", "t": "time"}


class JobOptions(NamedTuple):
    """Options for ``sbatch`` as a user wrote them."""

    text: str
    cores: Optional[int]
    """Cores of a job; None where they are not said."""
    memory: Optional[int]
    """Bytes of a job; None where they are not said."""
    exclusive: bool
    """Whether a job has a node for itself."""


def parse_options(text: str) -> JobOptions:
    """Options such as ``--partition=x --mem=8G``, for ``#SBATCH`` lines.

    Raises
    ------
    UserError : not options, or some that the scripts set themselves.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--sbatch {text}: cannot be read ({error}); write options of sbatch, such as \"--partition=x --mem=8G\"") from None
    if re.search(r"[\n\r#]", text) or (words and not words[0].startswith("-")):
        raise UserError(f"--sbatch {text}: are no options of sbatch; write some, such as \"--partition=x --mem=8G\"")
    values = {}
    for place, word in enumerate(words):
        match = re.fullmatch(r"--([a-z-]+)(?:=(.*))?", word, re.DOTALL) or re.fullmatch(r"-([a-zA-Z])(.+)?", word, re.DOTALL)
        if match is None:
            continue
        name = _SHORT.get(match[1], match[1])
        following = words[place + 1] if place + 1 < len(words) else ""
        values[name] = match[2] if match[2] is not None else following
        if name in _OURS:
            raise UserError(f"--sbatch {word}: is not for you to say, {_OURS[name]}; leave it out")
    limit = _seconds(values.get("time"))
    if limit is not None and limit < LEAST_TIME:
        raise UserError(f"--sbatch --time={values['time']}: is too short, since jobs are asked to stop {LEAD} s before their time is up; "
                        f"give them {LEAST_TIME // 60} minutes or more")
    cores = int(values["cpus-per-task"]) if values.get("cpus-per-task", "").isdigit() else None
    memory = _memory(values, "mem")
    per_core = _memory(values, "mem-per-cpu")
    if memory is None and per_core is not None:
        memory = per_core * (cores or 1)
    return JobOptions(text.strip(), cores, memory, "exclusive" in values)


def _seconds(text: Optional[str]) -> Optional[int]:
    """A limit of time as Slurm reads it, such as ``90``, ``1:30:00`` or ``2-12``; None where it is none, or not of these forms."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text or "")
    if match is None:
        return None
    days, numbers = match[1], [int(number) for number in match.groups()[1:] if number is not None]
    if days is not None:                        # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:                     # hours:minutes:seconds
        hours, minutes, seconds = numbers
    else:                                       # minutes[:seconds]
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _memory(values: Mapping[str, str], name: str) -> Optional[int]:
    text = values.get(name, "0")
    if text == "0":             # all that the node has, whatever that is
        return None
    try:
        # Slurm's units are powers of 1024, and a number alone is in MB.
        return parse_size(text + "MI" if text.isdigit() else re.sub(r"([KMGT])B?$", r"\1I", text.upper()))
    except UserError:
        raise UserError(f"--sbatch --{name}={text}: is not an amount of memory; write for example 800M or 2G") from None


def memory_option(options: JobOptions, needed: int) -> str:
    """What a job that is predicted to need so many bytes asks for: a quarter more, at least 1 GB; empty where the user says it."""
    said = options.exclusive or "--mem" in options.text
    return "" if said else f"--mem={size_text(max(needed * 5 // 4, 10**9))}"


class Script(NamedTuple):
    """A job as a script."""

    name: str
    """Of the job, in lists."""
    log: str
    """Path of what it prints; ``%a`` stands for the number in the array, ``%A`` and ``%j`` for the job's."""
    options: Sequence[str]
    """More lines of options."""
    command: str
    """What is run, in the shell's words; ``$1`` is the script's argument."""
    about: str
    """One line for readers."""


def render(script: Script) -> str:
    """The script's text."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", script.name)
    lines = [f"--job-name={name}", f"--output={_for_slurm(script.log)}", "--open-mode=append", "--requeue",
             f"--signal=B:USR1@{LEAD}", *(line for line in script.options if line)]
    return "\n".join(["#!/usr/bin/env bash", *(f"#SBATCH {line}" for line in lines), f"# {script.about}", _environment(),
                      _BODY.replace("COMMAND", script.command)])


def _for_slurm(path: str) -> str:
    """A path in a line of options; quotes are Slurm's own, and each % of a folder's name is doubled but those of the last part."""
    folder, _, name = path.rpartition("/")
    quoted = folder.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}/{name}"'


def python(*words: str) -> str:
    """A call of a module of this package by the Python that runs now, quoted for a shell."""
    return " ".join([shlex.quote(sys.executable), "-m", *(shlex.quote(word) for word in words)])


def _environment() -> str:
    # The package may be imported from a checkout, which a new Python does not look into by itself.
    root = shlex.quote(str(PACKAGE_ROOT.parent))
    return f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONUNBUFFERED=1"


_BODY = f"""set -u
late= cancelled=
echo "$(date '+%F %T') job $SLURM_JOB_ID on $(hostname), start $((${{SLURM_RESTART_COUNT:-0}} + 1))"
trap 'late=yes; kill -TERM "${{child:-}}" 2>/dev/null' USR1
trap 'cancelled=yes; kill -TERM "${{child:-}}" 2>/dev/null' TERM
COMMAND &
child=$!
wait "$child" && code=0 || code=$?
if [ -n "$late$cancelled" ]; then
    # A signal ended the waiting.  A slice may take longer than there is time; what is finished is kept all the same.
    for _ in $(seq {LEAD - 20}); do
        kill -0 "$child" 2>/dev/null || break
        sleep 1
    done
    if kill -0 "$child" 2>/dev/null; then code={PASSING}; else wait "$child" && code=0 || code=$?; fi
    [ "$code" -ne 143 ] || code={PASSING}       # it was told before it could listen
fi
if [ "$code" -eq {PASSING} ] && [ -z "$cancelled" ]; then
    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MOST_RESTARTS} ]; then
        echo "back into the queue"
        scontrol requeue "$SLURM_JOB_ID" && sleep 60     # in which Slurm ends this script
        echo "could not be put back into the queue; submit it again" >&2
    else
        echo "was put back into the queue {MOST_RESTARTS} times; submit it again when its reason is gone" >&2
    fi
fi
exit "$code"
"""


def write_script(path: Path, text: str) -> None:
    """Write a script that can be run."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o755)

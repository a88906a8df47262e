"""The reproduction as jobs for Slurm: one for each run, each after those that it needs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from ..base.errors import UserError
from ..cluster.slurm import Script, memory_option, parse_options, python, render, write_script
from .nodes import Node

RUN, SUBMIT = "run.sbatch", "submit.sh"
COLLECT = "collect"
"""Name of the job that collects the results in the end."""
MEMORY = 3_200_000_000
"""Bytes of a run: those that order features take up to 3 GB."""


def with_needs(nodes: Sequence[Node], name: str) -> List[Node]:
    """A run after all that it needs, directly or not, in the order of the plan.

    Raises
    ------
    UserError : there is no such run.
    """
    by_name = {node.name: node for node in nodes}
    if name not in by_name:
        raise UserError(f"--only {name}: is no run of this plan; --dry-run lists them")
    wanted, left = set(), [name]
    while left:
        wanted.add(left[-1])
        left += [need for need in by_name[left.pop()].needs if need not in wanted]
    return [node for node in nodes if node.name in wanted]


def write_jobs(folder: Path, nodes: Sequence[Node], command: Sequence[str], sbatch: str) -> List[Path]:
    """Write scripts that submit runs; nothing is submitted.

    Parameters
    ----------
    folder : where to.
    nodes : the runs that are not done, each after those of them that it needs.
    command : module and arguments that do all runs, and with ``--only NAME`` one of them.
    sbatch : options for Slurm.

    Returns
    -------
    The files.

    Raises
    ------
    UserError : the folder holds something else.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / RUN).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds other files; choose another folder for the jobs")
    options = parse_options(sbatch)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    script = Script("reproduce", f"{folder}/logs/%x-%j.log", [memory_option(options, MEMORY), options.text, "--kill-on-invalid-dep=yes"],
                    python(*command) + ' ${1:+--only "$1"}',
                    "A run of the reproduction. $1: its name; without it all that is left, and what is collected of all.")
    write_script(folder / RUN, render(script))
    write_script(folder / SUBMIT, _SUBMIT.replace("FOLDER", shlex.quote(str(folder))) + "\n".join(_lines(nodes)) + "\n")
    return [folder / RUN, folder / SUBMIT]


def _lines(nodes: Sequence[Node]) -> List[str]:
    lines: List[Tuple[str, ...]] = []
    names = {node.name for node in nodes}
    holder: Dict[str, str] = {}
    for node in nodes:
        # Runs that share something come one after the other, so that none waits for a lock with a core in its hands.
        after = [f"afterok:{need}" for need in node.needs if need in names]
        after += sorted({f"afterany:{holder[lock]}" for lock in node.locks if lock in holder})
        holder.update(dict.fromkeys(node.locks, node.name))
        lines.append(("run", node.name, "--exclusive" if node.alone else "", *after))
    # What is collected of a run may depend on others, so all is collected once more in the end.
    needed = {need for node in nodes for need in node.needs}
    lines.append(("run", COLLECT, "", *(f"afterok:{node.name}" for node in nodes if node.name not in needed)))
    return [" ".join(shlex.quote(word) for word in line) for line in lines]


_SUBMIT = f"""#!/usr/bin/env bash
# Submits the runs of the reproduction that were not done when this was written.
set -euo pipefail
folder=FOLDER
declare -A job

run() {{ # run NAME OPTIONS AFTER...: submit a run that begins after others, which were submitted before
    local name=$1 options=$2 after= each
    shift 2
    for each; do after=$after,${{each%%:*}}:${{job[${{each#*:}}]}}; done
    after=${{after:+--dependency=${{after#,}}}}
    set -- "$name"
    [ "$name" != {COLLECT} ] || set --
    job[$name]=$(sbatch --parsable --job-name="$name" ${{options:+"$options"}} ${{after:+"$after"}} "$folder"/{RUN} "$@")
    job[$name]=${{job[$name]%%;*}}
    echo "$name: job ${{job[$name]}}"
}}

"""

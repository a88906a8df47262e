"""The scripts of a plan."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import List

from ...cluster.slurm import Script, memory_option, parse_options, python, render, write_script
from .plan import PLAN, JobPlan, write_plan

ARRAY, MERGE, SUBMIT = "array.sbatch", "merge.sbatch", "submit.sh"


def write_jobs(plan: JobPlan) -> List[Path]:
    """Write the scripts of a plan and then the plan; nothing is submitted.

    Returns
    -------
    The files.
    """
    folder = plan.folder
    for name in ("logs", "state", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    module, name = "pycaffe_tools.segment.jobs", f"segment-{Path(plan.request.out).name}"
    more = [memory_option(parse_options(plan.sbatch), plan.memory), plan.sbatch]
    number = '"$((${1:-0} + SLURM_ARRAY_TASK_ID))"'
    array = Script(name, f"{folder}/logs/part-%A_%a.log", more, f"{python(module, 'part', str(folder))} {number}",
                   f"A part of {PLAN}. $1: how many parts come before the first of this array.")
    merge = Script(f"{name}-merge", f"{folder}/logs/merge-%j.log", [*more, "--kill-on-invalid-dep=yes"],
                   python(module, "merge", str(folder)), f"Joins the parts of {PLAN}.")
    write_script(folder / ARRAY, render(array))
    write_script(folder / MERGE, render(merge))
    write_script(folder / SUBMIT, _submit(plan))
    write_plan(plan)
    return [folder / name for name in (PLAN, ARRAY, MERGE, SUBMIT)]


def _submit(plan: JobPlan) -> str:
    return _SUBMIT.replace("TOTAL", str(len(plan.parts))).replace("FOLDER", shlex.quote(str(plan.folder)))


_SUBMIT = f"""#!/usr/bin/env bash
# Submits all parts of plan.json, or those that are named (submit.sh 3 7), and the merge that follows them;
# submit.sh merge: the merge alone. Where Slurm does not tell its MaxArraySize: MAX_ARRAY_SIZE=500 submit.sh
set -euo pipefail
folder=FOLDER
told=$(scontrol show config 2>/dev/null | sed -n 's/^MaxArraySize *= *\\([0-9]*\\).*/\\1/p') || true
size=${{MAX_ARRAY_SIZE:-${{told:-1001}}}}     # numbers in an array lie below it; 1001 is Slurm's default
[ "$#" -gt 0 ] || set -- $(seq TOTAL)
[ "$*" != merge ] || set --
# A line for each array: how many parts come before its first, and the numbers of its jobs as ranges.
arrays=$(for part; do echo "$part"; done | sort -nu | awk -v most=$((size - 1)) -v total=TOTAL '
    function close_range() {{ if (first) text = text (text ? "," : "") first (last > first ? "-" last : ""); first = 0 }}
    function close_array() {{ close_range(); if (text) print before, text; text = "" }}
    $1 !~ /^[0-9]+$/ || $1 < 1 || $1 > total {{ print "submit.sh: there is no part " $1 > "/dev/stderr"; bad = 1; exit 1 }}
    {{
        start = int(($1 - 1) / most) * most
        if (start != before) close_array()
        before = start; number = $1 - start
        if (first && number == last + 1) last = number; else {{ close_range(); first = last = number }}
    }}
    END {{ if (!bad) close_array() }}')
after=
if [ -n "$arrays" ]; then
    while read -r before numbers; do
        job=$(sbatch --parsable --array="$numbers" "$folder"/{ARRAY} "$before")
        job=${{job%%;*}}
        echo "array $job $before" >> "$folder"/jobs
        echo "parts $numbers after $before: job $job"
        after=$after,afterok:$job
    done <<< "$arrays"
fi
# WAIT_FOR: arrays submitted before, of which parts still wait or run.
after=$after${{WAIT_FOR:+,afterany:$WAIT_FOR}}
job=$(sbatch --parsable ${{after:+--dependency="${{after#,}}"}} "$folder"/{MERGE})
job=${{job%%;*}}
echo "merge $job" >> "$folder"/jobs
echo "merge: job $job"
"""

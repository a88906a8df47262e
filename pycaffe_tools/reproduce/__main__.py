"""Run the reproduction of the paper: every training, pruning, retraining and segmentation, until all are done.

The plan stands in :mod:`pycaffe_tools.reproduce.plan`, what is done in a store
(:mod:`pycaffe_tools.reproduce.store`), and what the report needs is collected into the results
(:mod:`pycaffe_tools.reproduce.collect`) after each run.  Every run is a child process of one of this
package's own commands, so each can also be repeated by hand; its command stands
in the results.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import List, Optional, Sequence

import click

from ..base.command import OPTIONS, PASSING, run
from ..base.errors import TemporaryError, UserError
from ..base.progress import duration
from ..cluster.signals import when_asked
from .catalogue import DATA_SETS, SCALES, STAGES
from .collect import refuse_another_scale
from .jobs import SUBMIT, with_needs, write_jobs
from .nodes import Node
from .plan import plan
from .runner import Outcome, Runner
from .store import RunStore, store_folder


def up_to(nodes: Sequence[Node], stage: str) -> List[Node]:
    """The nodes of a stage and of those before it."""
    return [node for node in nodes if STAGES.index(node.stage) <= STAGES.index(stage)]


def describe(nodes: Sequence[Node], store: RunStore, processes: int) -> List[str]:
    """The plan as lines: what each node needs, how long it may take, whether it is done."""
    lines, left = [], 0.0
    for node in nodes:
        try:
            state = "done" if store.is_done(node) else "to do"
        except UserError:
            state = "other"
        left += 0 if state == "done" else node.seconds
        needs = f"  needs {', '.join(node.needs)}" if node.needs else ""
        lines.append(f"{state:6} {duration(node.seconds):>12}  {node.stage:8} {node.name}{needs}")
    return lines + [f"{len(nodes)} runs; about {duration(left / processes)} on {processes} cores as fast as those "
                    f"that the estimates were made on"]


def table(outcome: Outcome) -> List[str]:
    """The table that ends a call."""
    lines = ["completed  skipped  failed  not run",
             f"{len(outcome.completed):9d}  {len(outcome.skipped):7d}  {len(outcome.failed):6d}  "
             f"{len(outcome.blocked):7d}"]
    lines += [f"{name} failed: {sentence}" for name, sentence in outcome.failed.items()]
    lines += [f"not run, since what they need failed: {', '.join(outcome.blocked)}"] if outcome.blocked else []
    return lines


@click.command(context_settings=OPTIONS)
@click.argument("data_set", metavar="DATASET", type=click.Choice(list(DATA_SETS)))
@click.option("--scale", type=click.Choice(list(SCALES)), default="small", help="How much of everything.")
@click.option("--em", type=click.Path(path_type=Path), default=Path("data/em"), help="Folder of the stacks.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"),
              help="Store of all runs; may lie outside the checkout.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"),
              help="Gets DATASET/logs: what the report is made from.")
@click.option("--stage", type=click.Choice(STAGES), default="segment", help="Stop after this one.")
@click.option("--processes", type=click.IntRange(1), default=2, help="Runs at once, one core each.")
@click.option("--redo", is_flag=True, help="Run again what was made by other commands.")
@click.option("--trust-logs", is_flag=True,
              help="What has its log in the results, but no files in the store, is done unless a run to come needs them.")
@click.option("--dry-run", is_flag=True, help="Print the plan, with estimated times, and stop.")
@click.option("--only", metavar="RUN", help="Run this one alone; what it needs has to be done.")
@click.option("--engine", type=click.Choice(["local", "slurm"]), default="local",
              help="Run here, or write jobs for Slurm: the same as --slurm with a folder beside the store.")
@click.option("--slurm", metavar="JOBDIR", type=click.Path(path_type=Path), help="Run nothing; write a job for each run into JOBDIR.")
@click.option("--sbatch", metavar="OPTIONS", default="", help='Options of sbatch for the jobs, such as "--partition=x --mem=8G".')
def cli(data_set: str, scale: str, em: Path, runs: Path, results: Path, stage: str, processes: int, redo: bool,
        trust_logs: bool, dry_run: bool, only: Optional[str], engine: str, slurm: Optional[Path], sbatch: str) -> int:
    """Run the reproduction of the paper on DATASET.

    \b
    python -m pycaffe_tools.reproduce epfl --scale small --runs /scratch/runs --em data/em

    Killed at any moment, the same command goes on. A run that fails stops
    those that need it and no others. Make the report with
    python -m pycaffe_tools.report results/DATASET.

    Several of these commands may work on one store, on one computer or on many
    that see it. On Slurm, each run can be a job:

    \b
    python -m pycaffe_tools.reproduce epfl --runs /scratch/runs --em data/em --slurm JOBDIR
    JOBDIR/submit.sh

    When jobs failed, both again submit what is not done.
    """
    whole = plan(data_set, scale)
    nodes = up_to(whole, stage)
    store = RunStore(store_folder(runs, data_set, scale), em)
    if dry_run:
        click.echo("\n".join(describe(nodes, store, processes)))
        return 0
    if not (em / DATA_SETS[data_set].raw).is_file():
        raise UserError(f"{em / DATA_SETS[data_set].raw}: there is no such stack; say where it lies with --em, "
                        f"or make it from the public files as data/README.md says")
    refuse_another_scale(results / data_set, scale)
    if engine == "slurm" and slurm is None:
        slurm = runs / f"{data_set}-{scale}.jobs"
    if slurm:
        words = ["pycaffe_tools.reproduce", data_set, "--scale", scale, "--em", str(em.absolute()), "--runs", str(runs.absolute()),
                 "--results", str(results.absolute()), "--stage", stage, *(["--redo"] if redo else []),
                 *(["--trust-logs"] if trust_logs else [])]
        done = Runner(nodes, store, results / data_set, processes, redo, whole, trust_logs=trust_logs).done
        return _plan_jobs(slurm, [node for node in nodes if node.name not in done], store, words, sbatch)
    if only:
        nodes = with_needs(whole, only)
    with store:
        if only:
            _refuse_missing_needs(nodes, store, redo)
        runner = Runner(nodes, store, results / data_set, processes, redo, whole, trust_logs=trust_logs, wait=not only)
        outcome = _run_until_asked(runner) if only else runner.run()
    for line in table(outcome):
        click.echo(line)
    passing = outcome.failed and set(outcome.failed) <= set(outcome.passing)
    return PASSING if passing else 1 if outcome.failed or outcome.blocked else 0


def _refuse_missing_needs(nodes: Sequence[Node], store: RunStore, redo: bool) -> None:
    for node in nodes[:-1]:
        if not store.is_done(node, redo):
            raise UserError(f"{store.root}: {node.name} is not done, which {nodes[-1].name} needs; run it first")


class _Asked(BaseException):
    """A batch system is going to kill this job."""


def _run_until_asked(runner: Runner) -> Outcome:
    def stop() -> None:
        raise _Asked

    try:
        with when_asked(stop):
            return runner.run()
    except _Asked:
        raise TemporaryError(f"{runner.store.root}: stopped, as it was asked to; the same command goes on") from None


def _plan_jobs(folder: Path, left: Sequence[Node], store: RunStore, words: Sequence[str], sbatch: str) -> int:
    if not left:
        click.echo(f"{store.root}: all runs are done, nothing to do")
        return 0
    for path in write_jobs(folder, left, words, sbatch):
        click.echo(f"wrote {path}")
    click.echo(f"{len(left)} runs; submit them with {shlex.quote(str(folder.absolute() / SUBMIT))}")
    return 0


if __name__ == "__main__":
    run(cli, "reproduce")

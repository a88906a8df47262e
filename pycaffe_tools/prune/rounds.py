"""Gradual pruning: a part of the way to the target, retraining with Caffe, and so on until the target is reached.

    python -m pycaffe_tools.prune N7 --from runs/N --data data/patches --out runs/N7 --rounds 3

In each round the features are ordered anew on the retrained weights, so the order knows what retraining has repaired.
All retrainings together take as many iterations as one retraining after pruning at once would.

The steps are those of the public commands ``prune`` and ``train``, in a folder beside the output that stays:

========================  ======================================================================
``OUT.rounds/plan.json``  what decides how the rounds go; rounds of another command are not continued
``round-1-pruned``        the model directory that ``prune`` makes in the first round, with its ordering
``round-1``               the one that ``train`` makes of it
========================  ======================================================================

Each is whole or can be continued, so after a kill the same command goes on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import click

from ..base.errors import UserError
from ..base.files import atomic_directory, read_json_object, sha256, write_json
from ..nets.model import DEPLOY, INFO, WEIGHTS, Model, finish_model, open_model
from ..patches.database import Database
from ..surgery.files import TRAIN_VAL
from ..train.training import train
from ..train.validation import validate
from .pruned_model import PRUNING, provenance, write_pruned
from .pruner import Pruner
from .targets.budget import ROUNDING
from .targets.goal import Goal

FORMAT = 1
PLAN = "plan.json"
PRODUCTS = (DEPLOY, WEIGHTS, TRAIN_VAL, PRUNING, INFO)
"""What the model directory at the end holds."""


class Retraining(NamedTuple):
    """How the network is retrained between the prunings: rounds, iterations of all together, seed, number of a GPU, and how often
    Caffe validates on the way of each."""

    rounds: int
    iterations: int
    seed: int = 1
    gpu: Optional[int] = None
    tests: int = 5

    def iterations_of(self, number: int) -> int:
        """Iterations of the round of this number, counted from 1: as equal as can be."""
        return self.iterations * number // self.rounds - self.iterations * (number - 1) // self.rounds

    def check(self) -> None:
        """Refuse what cannot be.

        Raises
        ------
        UserError : no round, or a round without an iteration.
        """
        if not 1 <= self.rounds <= self.iterations:
            raise UserError(f"--rounds {self.rounds}, --retrain-iterations {self.iterations}: there must be at least one round, "
                            f"and one iteration in each")


def work_folder(out: Path) -> Path:
    """Where the rounds of an output are."""
    return out.with_name(f"{out.name}.rounds")


def prune_in_rounds(out: Path, name: str, goal: Goal, pruner: Pruner, database: Database, retraining: Retraining, *,
                    force: bool = False) -> Model:
    """Prune and retrain in rounds; the result is the retrained model of the last one.

    Parameters
    ----------
    out : model directory to make; it must not exist, or be replaced with ``force``.
    name : of the network.
    goal : what is to be reached; each round goes an equal part of the way.
    pruner : of the unpruned network.
    database : the patches it was trained on.
    retraining : how often and how long.
    force : replace ``out``, and rounds of another command beside it.

    Raises
    ------
    UserError : the target cannot be reached, a round loses more accuracy than allowed, or rounds of another command
        are in the way.
    """
    retraining.check()
    if not goal.target.given:
        raise UserError("--rounds: goes to a target in equal parts, and --max-accuracy-drop alone is none; give NET, --counts, or "
                        "one of --target-time, --target-speedup, --target-parameters and --target-macs besides")
    if pruner.training_net is None:
        raise UserError(f"{pruner.source.directory}: has no {TRAIN_VAL} to retrain with; prune without --rounds")
    if goal.target.counts is not None:
        pruner.check_counts(goal.target.counts)
    work = work_folder(out)
    plan = _plan(name, goal, pruner, database, retraining)
    _begin(work, plan, force)
    full = float(validate(pruner.net, pruner.weights, database).accuracy)
    keep = {layer: list(range(count)) for layer, count in pruner.features.items()}
    history: List[Dict[str, Any]] = []
    model = pruner.source
    for number in range(1, retraining.rounds + 1):
        click.echo(f"round {number} of {retraining.rounds}", err=True)
        pruned = _pruned(work / f"round-{number}-pruned", name, goal, pruner, model, database, number / retraining.rounds)
        said = read_json_object(pruned.directory / PRUNING)
        keep = {layer: [features[at] for at in said["keep"][layer]] for layer, features in keep.items()}
        model = train(str(pruned.directory), database.directory, work / f"round-{number}", weights=pruned.directory,
                      max_iter=retraining.iterations_of(number), seed=retraining.seed, gpu=retraining.gpu, tests=retraining.tests,
                      resume=True)
        history.append({"round": number, "counts": model.counts, "reason": said["reason"],
                        "accuracy_pruned": pruned.validation_accuracy, "iterations": retraining.iterations_of(number),
                        "accuracy_retrained": model.validation_accuracy, "files": model.files})
        _check_drop(goal, full, history, work)
    record = {"format": 1, "counts": model.counts, "reason": f"{history[-1]['reason']}; in {retraining.rounds} rounds",
              "criterion": plan["criterion"], "order": goal.order_name, "direction": goal.direction,
              "seed": plan["seed"], "batches": plan["batches"], "batch_size": plan["batch_size"], "weights_sha256":
              read_json_object(work / "round-1-pruned" / PRUNING)["weights_sha256"],
              "keep": keep, "accuracy_unpruned": round(full, 6), "accuracy_retrained": model.validation_accuracy,
              "rounds": history, **({"time": said["time"]} if "time" in said else {}), "rows": said["rows"]}
    return _finish(out, name, pruner, model, database, record, force)


def _plan(name: str, goal: Goal, pruner: Pruner, database: Database, retraining: Retraining) -> Dict[str, Any]:
    sample = pruner.sample
    return {"format": FORMAT, "name": name, "from_weights": pruner.source.files,
            "data": sha256(database.directory / "patches.json"), **goal.as_json(), "criterion": pruner.criterion,
            "plain": pruner.plain, "batches": sample.batches, "batch_size": sample.batch_size, "seed": sample.seed,
            "rounds": retraining.rounds, "retrain_iterations": retraining.iterations, "retrain_seed": retraining.seed}


def _begin(work: Path, plan: Dict[str, Any], force: bool) -> None:
    """Write the plan of new rounds; go on with those of the same plan, and refuse or delete those of another."""
    if (work / PLAN).is_file():
        before = read_json_object(work / PLAN)
        changed = [key for key in {**plan, **before} if before.get(key) != plan.get(key)]
        if not changed:
            return
        if not force:
            raise UserError(f"{work}: holds the rounds of another command, with another {changed[0]}; choose another --out, or "
                            f"pass --force to delete them")
        shutil.rmtree(work)
    elif work.exists() and (not work.is_dir() or any(entry.name.startswith("round-") for entry in work.iterdir())):
        raise UserError(f"{work}: is needed for the rounds, but has no {PLAN}, so it was not made for that; move it away")
    write_json(work / PLAN, plan)


def _pruned(folder: Path, name: str, goal: Goal, first: Pruner, model: Model, database: Database, part: float) -> Model:
    """The network of a round, pruned: what is there already, or what ``prune`` makes."""
    if folder.exists():
        made = open_model(folder)
        if made.info["provenance"]["from_weights"] != model.files:
            raise UserError(f"{folder}: was not pruned from {model.directory}, which has changed since; delete {folder.parent} and "
                            f"start again")
        return made
    pruner = first if model is first.source else first.again(model)
    return write_pruned(folder, name, pruner, goal.choose(pruner, database, part=part), database)


def _check_drop(goal: Goal, full: float, history: List[Dict[str, Any]], work: Path) -> None:
    limit = goal.target.accuracy_drop
    last = history[-1]
    drop = 100 * (full - last["accuracy_retrained"])
    # Accuracies of models are rounded to six digits.
    if limit is None or drop <= limit + 1e-4 + ROUNDING:
        return
    before = (f"the network of the round before, {work / ('round-%d' % (last['round'] - 1))}, is within it"
              if len(history) > 1 else "ask for less, or for more --retrain-iterations")
    counts = ", ".join(f"{layer} {count}" for layer, count in last["counts"].items())
    raise UserError(f"{goal.target.asked}: round {last['round']} ({counts}) is {drop:.2f} points of accuracy below the unpruned "
                    f"network after retraining, more than --max-accuracy-drop {limit:g}; {before}")


def _finish(out: Path, name: str, pruner: Pruner, model: Model, database: Database, record: Dict[str, Any],
            force: bool) -> Model:
    short = [{key: entry[key] for key in ("counts", "accuracy_pruned", "iterations", "accuracy_retrained")}
             for entry in record["rounds"]]
    with atomic_directory(out, force) as folder:
        for file in (DEPLOY, WEIGHTS, TRAIN_VAL):
            shutil.copyfile(model.directory / file, folder / file)
        write_json(folder / PRUNING, record)
        finish_model(folder, name=name, normalisation=model.info["normalisation"], patch_size=model.patch_size,
                     pixel_size_nm=model.pixel_size_nm, counts=model.counts, threshold=model.threshold,
                     validation=model.info["validation"], calibration=model.info["calibration"],
                     provenance={**provenance(pruner.source, pruner.sample, pruner.criterion, database), "rounds": short})
    return open_model(out)

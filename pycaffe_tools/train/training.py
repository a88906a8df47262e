"""Train or retrain a network with real Caffe, and make a model directory of it.

``OUT/training/`` is the folder Caffe runs in: its own copies of the network
and the solver with the paths filled in, the lists of patch files, snapshots,
and ``caffe.log``.  ``OUT/model.json`` is written last, when the last iteration
was reached, so an interrupted training is never taken for a trained model.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

import click
import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, read_json, refuse_existing, sha256, write_json, write_text
from ..base.progress import Progress
from ..nets import model, paper
from ..nets.files.caffemodel import read_weights
from ..nets.files.schema import parse_prototxt, to_text
from ..nets.netgraph import read_net, write_net
from ..nets.running.process import latest_snapshot, run_caffe_train
from ..patches.database import Database, lists, open_database
from ..patches.shards import check_shards
from . import log as training_log
from .calibration import fit_calibration
from .network import Network, check_initial_weights, check_shapes, network_of
from .validation import probabilities_of, scores_of, versions

SNAPSHOT_PREFIX = "snapshot"
KEPT_SNAPSHOTS = 2
PRODUCTS = ("training", "orderings", "train.csv", "train.png", "train_val.prototxt", model.DEPLOY, model.WEIGHTS,
            model.INFO)
"""What a model directory may hold that is replaced with ``--force``."""

LARGEST_TEST_BATCH = 250


def train(network: Union[str, Mapping[str, int]], data: PathLike, out: PathLike, *, name: Optional[str] = None,
          max_iter: Optional[int] = None, base_lr: Optional[float] = None, weights: Optional[PathLike] = None,
          resume: bool = False, gpu: Optional[int] = None, seed: int = 1, tests: int = 5, force: bool = False) -> model.Model:
    """Train ``network`` on a patch database with ``caffe train``.

    Parameters
    ----------
    network : name of Table 1, a folder with a pruned network, or the features of each layer such as
        ``{"c1": 20, "c2": 20, "c3": 12, "fc4": 16}``.
    data : patch database; the network's input has the size of its patches.
    out : model directory to make.
    name : what a network of own features is called; ``custom-20-20-12-16`` if it is not given.
    max_iter, base_lr : instead of the committed solver's (:mod:`pycaffe_tools.networks`).
    weights : caffemodel or model directory to start from; the retraining solver is used then.
    resume : go on where an interrupted training of the same options stopped.
    gpu : number of a GPU, for a Caffe built for it.
    seed : of the weight fillers.
    tests : times that Caffe validates on the way, after the one at the start.
    force : replace what is in ``out``.

    Raises
    ------
    UserError : the input does not fit, ``out`` holds something else, or Caffe aborted.
    """
    out, database = Path(out), open_database(data)
    work = out / "training"
    plan = _plan(network_of(network, database, name), database, max_iter, base_lr, weights, seed, tests)
    if _finished_before(out, plan, resume, force):
        return model.open_model(out)
    # Caffe itself dies of a damaged shard, without a word.
    check_shards([*database.train, *database.val], database.patch_size)
    work.mkdir(parents=True, exist_ok=True)
    _prepare(work, plan, database)
    _run(out, plan, gpu)
    return _finish(out, plan, database)


class TrainingPlan(NamedTuple):
    """Everything that decides how a training goes; ``options`` is compared when one is resumed."""

    network: Network
    solver: Any
    train_val: Any
    weights: Optional[Path]
    options: Dict[str, Any]


def _plan(network: Network, database: Database, max_iter: Optional[int], base_lr: Optional[float],
          weights: Optional[PathLike], seed: int, tests: int) -> TrainingPlan:
    kind, schedule = ("retrain", paper.RETRAINING) if weights else ("train", paper.TRAINING)
    test_batch, test_iter = _test_batches(database.val_count)
    check_shapes(network, max(paper.TRAIN_BATCH, test_batch), database)
    start = _initial_weights(network, weights, database)
    solver = parse_prototxt(paper.solver_prototxt(network.name, schedule, kind, seed), message="SolverParameter")
    solver.net, solver.snapshot_prefix = "train_val.prototxt", SNAPSHOT_PREFIX
    solver.test_iter[:] = [test_iter]
    if max_iter is not None:
        solver.max_iter = max_iter
    if base_lr is not None:
        solver.base_lr = base_lr
    solver.test_interval = max(solver.max_iter // tests, 1)
    solver.display = solver.average_loss = max(min(solver.max_iter // 20, 100), 1)
    # A snapshot a minute or so on one core: what a kill can cost.
    solver.snapshot = max(min(solver.max_iter // 10, 100), 1)
    train_val = _with_data(network.train_val, test_batch)
    options = {"network": network.name, "counts": network.counts, "step": kind, "max_iter": solver.max_iter,
               "base_lr": round(solver.base_lr, 9), "seed": seed, "data": sha256(database.directory / "patches.json"),
               "initial_weights": sha256(start) if start else None}
    return TrainingPlan(network, solver, train_val, start, options)


def _initial_weights(network: Network, weights: Optional[PathLike], database: Database) -> Optional[Path]:
    if weights is None:
        return None
    path = Path(weights)
    # A caffemodel that lies in its model directory is known as well as the directory.
    if path.is_dir() or (path.name == model.WEIGHTS and (path.parent / model.INFO).is_file()):
        opened = model.open_model(path if path.is_dir() else path.parent)
        database.check_patch_size(opened.patch_size, weights)
        path = opened.weights
    check_initial_weights(network, read_weights(path), path, database)
    return path.resolve()


def _test_batches(count: int) -> Tuple[int, int]:
    """Batch size and number of batches that cover ``count`` validation patches exactly once.

    A TEST net goes on where its last test stopped, so only an exact cover
    gives a figure that can be repeated.
    """
    batch = max(size for size in range(1, min(count, LARGEST_TEST_BATCH) + 1) if count % size == 0)
    return batch, count // batch


def _with_data(train_val: Any, test_batch: int) -> Any:
    filled = type(train_val)()
    filled.CopyFrom(train_val)
    for layer in filled.layer:
        if layer.type == "HDF5Data":
            test = any(rule.phase == 1 for rule in layer.include if rule.HasField("phase"))
            layer.hdf5_data_param.source = "val.txt" if test else "train.txt"
            if test:
                layer.hdf5_data_param.batch_size = test_batch
    return filled


def _finished_before(out: Path, plan: TrainingPlan, resume: bool, force: bool) -> bool:
    """Whether ``out`` already holds this training, finished; clears or refuses anything else in it."""
    record = out / "training" / "options.json"
    if force:
        refuse_existing(out, force, PRODUCTS)
    if not record.is_file():
        if _has_just_begun(out):
            shutil.rmtree(out)
        refuse_existing(out, force)
    elif latest_snapshot(record.with_name(SNAPSHOT_PREFIX)) is None and not (out / model.INFO).is_file():
        # Caffe gave up, or was killed, before its first snapshot: there is nothing to lose.
        shutil.rmtree(out)
    elif resume:
        before = read_json(record)
        changed = [key for key in plan.options if before.get(key) != plan.options[key]]
        if changed:
            raise UserError(f"{out}: holds a training with another {changed[0]} ({before.get(changed[0])}, now "
                            f"{plan.options[changed[0]]}); choose another --out, or pass --force to start from scratch")
        return (out / model.INFO).is_file()
    elif not force:
        state = "a finished" if (out / model.INFO).is_file() else "an interrupted"
        raise UserError(f"{out}: holds {state} training; pass --resume to go on with it or --force to start from scratch")
    if force and not resume and out.exists():
        shutil.rmtree(out)
    return False


def _has_just_begun(out: Path) -> bool:
    """Whether a folder is all that a training left which was killed as it began."""
    return (out.is_dir() and [path.name for path in out.iterdir()] == ["training"]
            and all(path.name.startswith(".options.partial-") for path in (out / "training").iterdir()))


def _prepare(work: Path, plan: TrainingPlan, database: Database) -> None:
    # First, so that what a kill leaves is known as a training of ours.
    if not (work / "options.json").is_file():
        write_json(work / "options.json", plan.options)
    lists(database, work)
    write_net(work / "train_val.prototxt", plan.train_val, "Filled in by pycaffe_tools.train: data sources, test batch.")
    changes = "# The committed solver with its paths, lengths and intervals filled in by pycaffe_tools.train.\n"
    write_text(work / "solver.prototxt", changes + to_text(plan.solver))


def _run(out: Path, plan: TrainingPlan, gpu: Optional[int]) -> None:
    work = out / "training"
    log = work / "caffe.log"
    snapshot = latest_snapshot(work / SNAPSHOT_PREFIX)
    rows = training_log.collect(log.read_text(errors="replace").splitlines()) if log.is_file() else {}
    already = snapshot[0] if snapshot else 0
    title = f"{plan.network.name}, {'retraining' if plan.weights else 'training'}"
    try:
        if already < plan.solver.max_iter:
            if already:
                click.echo(f"resuming at iteration {already} of {plan.solver.max_iter}", err=True)
            with Progress(plan.solver.max_iter, title, already) as progress:
                def follow(event: Any) -> None:
                    training_log.add(rows, event)
                    _forget_old_snapshots(work)
                    if event.kind in ("loss", "test_loss") and not math.isfinite(event.value):
                        # Caffe would go on, and may crash on what it computes then.
                        raise UserError(f"{out}: the training diverged, its loss is {event.value} at iteration "
                                        f"{event.iteration}; lower --base-lr and pass --force")
                    if event.kind in ("loss", "accuracy"):
                        progress.update(event.iteration, _figures(rows))
                run_caffe_train(work / "solver.prototxt", log, follow, gpu=gpu, weights=plan.weights,
                                snapshot=snapshot[1] if snapshot else None)
    finally:
        # Also where a run that was killed after its last iteration left none of them.
        training_log.write_csv(out / "train.csv", rows)
        training_log.draw(out / "train.png", rows, title)
    reached = latest_snapshot(work / SNAPSHOT_PREFIX)
    if reached is None or reached[0] != plan.solver.max_iter:
        raise UserError(f"{out}: the training stopped at iteration {reached[0] if reached else 0} of "
                        f"{plan.solver.max_iter}; pass --resume to go on")


def _figures(rows: Mapping[int, Mapping[str, float]]) -> str:
    loss, accuracy = training_log.last(rows, "loss"), training_log.last(rows, "accuracy")
    parts = [f"loss {loss:.4f}"] if loss is not None else []
    parts += [f"validation accuracy {100 * accuracy:.2f} %"] if accuracy is not None else []
    return ", ".join(parts)


def _forget_old_snapshots(work: Path) -> None:
    """Keep the newest snapshots, one more than needed in case the last is being written."""
    states = sorted(work.glob(f"{SNAPSHOT_PREFIX}_iter_*.solverstate"), key=lambda path: path.stat().st_mtime)
    for state in states[:-KEPT_SNAPSHOTS]:
        state.unlink()
        weights = state.with_suffix(".caffemodel")
        if weights.is_file():
            weights.unlink()


def _finish(out: Path, plan: TrainingPlan, database: Database) -> model.Model:
    newest = latest_snapshot(out / "training" / SNAPSHOT_PREFIX)
    assert newest is not None, "_run has reached the last iteration"
    caffemodel = newest[2]
    if not all(np.isfinite(blob).all() for blobs in read_weights(caffemodel).values() for blob in blobs):
        raise UserError(f"{out}: the training diverged, its weights are not finite; lower --base-lr and pass --force")
    write_text(out / model.DEPLOY, plan.network.deploy)
    write_text(out / "train_val.prototxt", to_text(plan.network.train_val))
    shutil.copyfile(caffemodel, out / model.WEIGHTS)
    net = read_net(out / model.DEPLOY)
    found = probabilities_of(net, read_weights(out / model.WEIGHTS), database.val, database.val_count)
    scores = scores_of(*found, database)
    return model.finish_model(
        out, name=plan.network.name, normalisation=database.model_normalisation(), patch_size=database.patch_size,
        pixel_size_nm=database.pixel_size_nm, counts=plan.network.counts, threshold=scores.threshold,
        validation=scores.as_dict(), calibration=fit_calibration(*found, database.info["class_balance"]).as_json(),
        provenance={**plan.options, "source": "Roels et al., ISBI 2017, arXiv:1810.09735", "versions": versions()})

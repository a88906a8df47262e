"""What ``pycaffe_tools.prune(...)`` and ``python -m pycaffe_tools.prune`` call: a whole pruning as one function."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Union

from ..base.errors import UserError
from ..base.files import PathLike, refuse_existing
from ..base.ranges import Pair
from ..nets import paper
from ..nets.model import Model, open_model
from ..ordering.ordering import OrderingOptions
from ..ordering.sample import draw_sample
from ..patches.database import Database, open_database
from ..train.validation import validate
from . import rounds as rounds_module
from .pruned_model import PRODUCTS, write_pruned
from .pruner import Pruner, check_same_normalisation
from .pruning import DIRECTIONS
from .rounds import Retraining, prune_in_rounds
from .targets.budget import ROUNDING, Choice, drop_of
from .targets.goal import Goal, OrderOptions
from .targets.target import Target


def prune(target: Union[str, Mapping[str, int], None], source: PathLike, data: PathLike, out: PathLike, *,
          target_parameters: Optional[float] = None, target_macs: Optional[float] = None, target_time: Optional[float] = None,
          target_speedup: Optional[float] = None, max_accuracy_drop: Optional[float] = None, globally: bool = False,
          cost: Optional[str] = None, time_model: Optional[PathLike] = None, engine: Optional[str] = None,
          segment_workers: Optional[int] = None, slice_shape: Pair = paper.SLICE_SHAPE, rounds: Optional[int] = None,
          retrain_iterations: int = paper.RETRAIN_ITERATIONS, retrain_seed: int = 1, retrain_tests: int = 5,
          gpu: Optional[int] = None, criterion: str = "loss", batches: int = 20, batch_size: int = 128, seed: int = 0, plain: bool = False,
          full_order: bool = False, direction: str = DIRECTIONS[0], workers: int = 2, max_memory: int = 2_000_000_000,
          cache: Optional[PathLike] = None, force: bool = False) -> Model:
    """Prune a trained network and write the result as a model directory, not retrained unless ``rounds`` are given.

    Every step is on disk before the next one: after an interruption the same call goes on.

    Parameters
    ----------
    target : a network of Table 1 such as ``"N7"``, or features to keep in each layer such as ``{"c1": 30, "fc4": 10}``;
        None where a budget is given instead.
    source : trained model directory.
    data : the patch database it was trained on.
    out : model directory to make.
    target_parameters : keep at most this share of the parameters, above 0 and up to 1; the orderings decide where.
    target_macs : keep at most this share of the dense net's multiply-accumulates, likewise.
    target_time : seconds that a slice of ``slice_shape`` may take on this machine.
    target_speedup : how many times as fast as the unpruned network, dense.
    max_accuracy_drop : percentage points. Alone: prune as far as the validation accuracy before retraining drops by at
        most so many. Besides a target: refuse a network that lost more, after retraining where there is any.
    globally : prune in one order of all layers.
    cost : what that order weighs the loss against: ``time``, ``parameters`` or ``macs``.
    time_model, engine, segment_workers, slice_shape : see :class:`~pycaffe_tools.prune.targets.goal.OrderOptions`.
    rounds : prune and retrain with Caffe in so many rounds; see :mod:`pycaffe_tools.prune.rounds`.
    retrain_iterations, retrain_seed, retrain_tests, gpu : iterations of all retrainings together; seed, validations on the way
        and GPU of ``train``.
    criterion, plain, workers, max_memory : see :func:`pycaffe_tools.order_layer`.
    batches, batch_size, seed : see :func:`pycaffe_tools.draw_sample`.
    full_order : order each layer to its end (Figure 3), not only as far as needed.
    direction : layers are ordered ``bottom-up``, as in the paper, ``top-down``, or ``separate`` on the whole network.
    cache : folder of orderings; by default ``orderings`` in ``source``.
    force : replace ``out``.

    Raises
    ------
    UserError : not exactly one target is given, it cannot be reached, or anything about the inputs or ``out`` that the
        user can put right.
    """
    asked = Target(target if isinstance(target, str) else None, None if isinstance(target, str) else target, target_parameters,
                   target_macs, target_time, target_speedup, max_accuracy_drop)
    asked.check()
    place = Path(out)
    if place.resolve() in [path.resolve() for given in map(Path, (source, data))
                           for path in (given, *given.absolute().parents)]:
        raise UserError(f"{out}: is or holds the model or the patches to prune from; choose another --out")
    # Asked before the work, and again when the new folder takes its place.
    refuse_existing(out, force, rounds_module.PRODUCTS if rounds is not None else PRODUCTS)
    trained, database = open_model(source), open_database(data)
    database.check_patch_size(trained.patch_size, trained.directory)
    check_same_normalisation(trained, database)
    options = OrderingOptions(criterion, plain, workers, max_memory, cache)
    sample = draw_sample(database, batches, batch_size, seed)
    pruner = Pruner(trained, sample, options)
    order = OrderOptions(globally, direction, cost, time_model, engine, segment_workers, slice_shape)
    goal = Goal(asked, order, trained, Path(cache or trained.directory / "orderings"))
    name = target if isinstance(target, str) else f"{trained.name}-pruned"
    if rounds is not None:
        if full_order:
            raise UserError("--full-order: draws Figure 3 of one pruning, and there are several in --rounds; leave it out")
        return prune_in_rounds(place, name, goal, pruner, database,
                               Retraining(rounds, retrain_iterations, retrain_seed, gpu, retrain_tests), force=force)
    choice = goal.choose(pruner, database, full_order=full_order)
    if asked.given and max_accuracy_drop is not None:
        _refuse_drop(asked, pruner, choice, database)
    return write_pruned(out, name, pruner, choice, database, force=force)


def _refuse_drop(target: Target, pruner: Pruner, choice: Choice, database: Database) -> None:
    limit = float(target.accuracy_drop or 0.0)
    full = validate(pruner.net, pruner.weights, database).accuracy
    drop = drop_of(pruner, choice.pruning, full, database)
    if drop > limit + ROUNDING:
        counts = ", ".join(f"{layer} {count}" for layer, count in choice.pruning.counts.items())
        raise UserError(f"{target.asked}: the network of {counts} loses {drop:.2f} points of accuracy before retraining, more than "
                        f"--max-accuracy-drop {limit:g}; ask for less, give --max-accuracy-drop alone to prune as far as it "
                        f"allows, or retrain with --rounds, after which it is judged then")

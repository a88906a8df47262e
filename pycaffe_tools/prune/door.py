"""What ``pycaffe_tools.prune(...)`` and ``python -m pycaffe_tools.prune`` call: a whole pruning as one function."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Union

from ..base.errors import UserError
from ..base.files import PathLike, refuse_existing
from ..nets import paper
from ..nets.model import Model, open_model
from ..ordering.ordering import OrderingOptions
from ..ordering.sample import draw_sample
from ..patches.database import Database, open_database
from .budget import Choice, within_accuracy_drop, within_parameters
from .pruned_model import PRODUCTS, write_pruned
from .pruner import Pruner, check_same_normalisation


def prune(target: Union[str, Mapping[str, int], None], source: PathLike, data: PathLike, out: PathLike, *,
          target_parameters: Optional[float] = None, max_accuracy_drop: Optional[float] = None, criterion: str = "loss",
          batches: int = 20, batch_size: int = 128, seed: int = 0, plain: bool = False, full_order: bool = False,
          direction: str = "bottom-up", workers: int = 2, max_memory: int = 2_000_000_000,
          cache: Optional[PathLike] = None, force: bool = False) -> Model:
    """Prune a trained network and write the result, not yet retrained, as a model directory.

    Every step is on disk before the next one: after an interruption the same call goes on.

    Parameters
    ----------
    target : a network of Table 1 such as ``"N7"``, or features to keep in each layer such as ``{"c1": 30, "fc4": 10}``;
        None where a budget is given instead.
    source : trained model directory.
    data : the patch database it was trained on.
    out : model directory to make.
    target_parameters : keep at most this share of the parameters, above 0 and up to 1; the orderings decide where.
    max_accuracy_drop : prune as far as the validation accuracy before retraining drops by at most so many percentage
        points.
    criterion, plain, workers, max_memory : see :func:`pycaffe_tools.order_layer`.
    batches, batch_size, seed : see :func:`pycaffe_tools.draw_sample`.
    full_order : order each layer to its end (Figure 3), not only as far as needed.
    direction : layers are ordered ``bottom-up``, as in the paper, ``top-down``, or ``separate`` on the whole network.
    cache : folder of orderings; by default ``orderings`` in ``source``.
    force : replace ``out``.

    Raises
    ------
    UserError : not exactly one of ``target``, ``target_parameters`` and ``max_accuracy_drop`` is given, or anything
        about the inputs or ``out`` that the user can put right.
    """
    if sum(given is not None for given in (target, target_parameters, max_accuracy_drop)) != 1:
        raise UserError("prune: say what to prune to by exactly one of a network or counts, a share of the parameters "
                        "and a drop of the accuracy")
    place = Path(out)
    if place.resolve() in [path.resolve() for given in map(Path, (source, data))
                           for path in (given, *given.absolute().parents)]:
        raise UserError(f"{out}: is or holds the model or the patches to prune from; choose another --out")
    # Asked before the work, and again when the new folder takes its place.
    refuse_existing(out, force, PRODUCTS)
    trained, database = open_model(source), open_database(data)
    database.check_patch_size(trained.patch_size, trained.directory)
    check_same_normalisation(trained, database)
    options = OrderingOptions(criterion, plain, workers, max_memory, cache)
    pruner = Pruner(trained, draw_sample(database, batches, batch_size, seed), options)
    choice = _choose(pruner, target, target_parameters, max_accuracy_drop, database)
    name = target if isinstance(target, str) else f"{trained.name}-pruned"
    return write_pruned(out, name, pruner, pruner.prune(choice.counts, full_order, direction), database, reason=choice.reason,
                        force=force)


def _choose(pruner: Pruner, target: Union[str, Mapping[str, int], None], target_parameters: Optional[float],
            max_accuracy_drop: Optional[float], database: Database) -> Choice:
    if isinstance(target, str):
        return Choice(paper.counts_of(target), f"{target} of Table 1")
    if target is not None:
        return Choice(dict(target), "counts as given")
    if target_parameters is not None:
        return within_parameters(pruner, target_parameters)
    return within_accuracy_drop(pruner, max_accuracy_drop or 0.0, database)

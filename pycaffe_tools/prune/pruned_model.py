"""Prune a trained network as the paper does (Section 3), and prove that removing equals zeroing.

Layer by layer, from the bottom unless another direction is asked for, features are discarded in the order that costs
least training loss (Eq. 2 and 3), each layer on the already pruned ones.
The pruned model is written twice: masked, with the original shapes and zeros,
and slim, with the features gone from the blobs and the counts reduced.  Both
are run on random inputs and must agree.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from ..base.files import PathLike, atomic_directory, sha256, write_json
from ..nets.files.caffemodel import read_weights
from ..nets.model import INFO, Model, finish_model, open_model
from ..nets.netgraph import read_net
from ..patches.database import Database
from ..surgery.files import PRODUCTS as SURGERY_PRODUCTS, write_files
from ..surgery.proof import prove
from ..surgery.surgery import remove_features
from ..train.validation import validate, versions
from .pruner import Pruner, Pruning

PRUNING = "pruning.json"
PRODUCTS = (*SURGERY_PRODUCTS, PRUNING, INFO)
"""What a pruned model directory holds."""


def write_pruned(out: PathLike, name: str, pruner: Pruner, pruning: Pruning, database: Database, *,
                 reason: Optional[str] = None, force: bool = False) -> Model:
    """Write the masked and the slim model of a pruning as a model directory.

    Beside the files of every model (:mod:`pycaffe_tools.nets.model`) it holds
    ``train_val.prototxt`` for retraining, ``masked.prototxt`` and
    ``masked.caffemodel``, and ``pruning.json`` with every step.

    Raises
    ------
    UserError : ``out`` exists, or the masked and the slim model differ.
    """
    source = pruner.source
    surgery = remove_features(pruner.net, pruner.weights, pruning.keep)
    difference = prove(surgery)
    with atomic_directory(out, force) as folder:
        write_files(folder, surgery, pruner.training_net, name)
        scores = validate(read_net(folder / "deploy.prototxt"), read_weights(folder / "weights.caffemodel"), database)
        write_json(folder / PRUNING, _record(pruning, reason, difference))
        finish_model(folder, name=name, normalisation=source.info["normalisation"], patch_size=source.patch_size,
                     pixel_size_nm=source.pixel_size_nm, counts=pruning.counts, threshold=scores.threshold,
                     validation=scores.as_dict(), provenance=_provenance(pruner, pruning, database))
    return open_model(out)


def _record(pruning: Pruning, reason: Optional[str], difference: float) -> Dict[str, Any]:
    first = pruning.orderings[0]
    layers = []
    for ordering in pruning.orderings:
        entry = ordering.as_json()
        for shared in ("rows", "batches", "batch_size", "seed", "criterion", "weights_sha256", "format"):
            del entry[shared]
        layers.append({**entry, "kept": pruning.counts[ordering.layer]})
    return {"format": 1, "counts": pruning.counts, "reason": reason, "criterion": first.criterion,
            "direction": pruning.direction,
            "loss": "mean softmax loss, without the weight penalty of Eq. 1", "seed": first.seed,
            "batches": first.batches, "batch_size": first.batch_size, "weights_sha256": first.weights_sha256,
            "masked_slim_difference": difference, "keep": pruning.keep, "layers": layers, "rows": first.rows}


def _provenance(pruner: Pruner, pruning: Pruning, database: Database) -> Dict[str, Any]:
    first = pruning.orderings[0]
    return {"step": "prune", "from": pruner.source.name, "from_weights": pruner.source.files,
            "data": sha256(database.directory / "patches.json"), "criterion": first.criterion, "seed": first.seed,
            "batches": first.batches, "batch_size": first.batch_size, "versions": versions(),
            "source": "Roels et al., ISBI 2017, arXiv:1810.09735"}

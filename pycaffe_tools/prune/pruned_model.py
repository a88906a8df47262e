"""Prune a trained network as the paper does (Section 3), and prove that removing equals zeroing.

Layer by layer, from the bottom unless another direction is asked for, features are discarded in the order that costs
least training loss (Eq. 2 and 3), each layer on the already pruned ones; or in the global order of all layers.
The pruned model is written twice: masked, with the original shapes and zeros,
and slim, with the features gone from the blobs and the counts reduced.  Both
are run on random inputs and must agree.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np

from ..base.files import PathLike, atomic_directory, sha256, write_json
from ..nets.files.caffemodel import read_weights
from ..nets.model import INFO, Model, finish_model, open_model
from ..nets.netgraph import NetGraph, read_net
from ..nets.running.runtime import Weights, forward_patches, load_net
from ..ordering.sample import Sample
from ..patches.database import Database
from ..surgery.files import PRODUCTS as SURGERY_PRODUCTS, write_files
from ..surgery.proof import prove
from ..surgery.surgery import remove_features
from ..train.validation import validate, versions
from .pruner import Pruner
from .pruning import Pruning
from .targets.budget import Choice

PRUNING = "pruning.json"
PRODUCTS = (*SURGERY_PRODUCTS, PRUNING, INFO)
"""What a pruned model directory holds."""

AUDIT_TOLERANCE = 1e-4


def write_pruned(out: PathLike, name: str, pruner: Pruner, choice: Choice, database: Database, *,
                 force: bool = False) -> Model:
    """Write the masked and the slim model of a pruning as a model directory.

    Beside the files of every model (:mod:`pycaffe_tools.nets.model`) it holds
    ``train_val.prototxt`` for retraining, ``masked.prototxt`` and
    ``masked.caffemodel``, and ``pruning.json`` with every step.

    Raises
    ------
    UserError : ``out`` exists, or the masked and the slim model differ.
    """
    source, pruning = pruner.source, choice.pruning
    surgery = remove_features(pruner.net, pruner.weights, pruning.keep)
    difference = prove(surgery)
    audit = _audit(pruner, pruning, NetGraph(surgery.slim_proto), surgery.slim_weights)
    with atomic_directory(out, force) as folder:
        write_files(folder, surgery, pruner.training_net, name)
        scores = validate(read_net(folder / "deploy.prototxt"), read_weights(folder / "weights.caffemodel"), database)
        write_json(folder / PRUNING, _record(choice, difference, audit))
        finish_model(folder, name=name, normalisation=source.info["normalisation"], patch_size=source.patch_size,
                     pixel_size_nm=source.pixel_size_nm, counts=pruning.counts, threshold=scores.threshold,
                     validation=scores.as_dict(), provenance=provenance(source, pruner.sample, pruning.criterion, database))
    return open_model(out)


def _audit(pruner: Pruner, pruning: Pruning, slim: NetGraph, weights: Weights) -> Dict[str, Optional[float]]:
    """Compare the loss that the order tells with that of passes of the slim net in Caffe, on the same patches."""
    sample = pruner.sample
    probabilities = forward_patches(load_net(slim.with_batch(sample.batch_size), weights), sample.data, slim.outputs[0].blob)
    right = probabilities[np.arange(len(sample.labels)), sample.labels].astype(np.float64)
    loss = float(-np.mean(np.log(np.maximum(right, np.finfo(np.float32).tiny))))
    if pruning.loss is None:
        return {"loss": loss, "relative_difference": None}
    difference = abs(loss - pruning.loss) / max(loss, 1e-30)
    if difference > AUDIT_TOLERANCE:
        raise RuntimeError(f"the order says that the pruned net's loss is {pruning.loss!r}, but passes of it in Caffe give "
                           f"{loss!r}: please report it")
    return {"loss": loss, "relative_difference": difference}


def _record(choice: Choice, difference: float, audit: Dict[str, Optional[float]]) -> Dict[str, Any]:
    pruning, basis = choice.pruning, choice.pruning.basis
    record = dict(pruning.record)
    layers = record.pop("layers")
    return {"format": 1, "counts": pruning.counts, "reason": choice.reason, "criterion": pruning.criterion,
            "loss": "mean softmax loss, without the weight penalty of Eq. 1", "seed": basis.seed,
            "batches": basis.batches, "batch_size": basis.batch_size, "weights_sha256": basis.weights_sha256,
            "masked_slim_difference": difference, "audit": audit, "keep": pruning.keep, **record,
            **({} if choice.time is None else {"time": choice.time}), "layers": layers, "rows": basis.rows}


def provenance(source: Model, sample: Sample, criterion: str, database: Database) -> Dict[str, Any]:
    """How a pruned model was made."""
    return {"step": "prune", "from": source.name, "from_weights": source.files,
            "data": sha256(database.directory / "patches.json"), "criterion": criterion, "seed": sample.seed,
            "batches": sample.batches, "batch_size": sample.batch_size, "versions": versions(),
            "source": "Roels et al., ISBI 2017, arXiv:1810.09735"}

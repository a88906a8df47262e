"""How well a network classifies the validation patches, and from which probability a pixel is membrane."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ..base.progress import Progress
from ..evaluate.pixels import best_threshold
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import forward_patches, import_caffe, load_net
from ..patches.database import Database
from ..patches.shards import read_rows

BATCH = 100
READ_AT_ONCE = 2000


class Scores(NamedTuple):
    """Result on the validation patches, of which half are membrane."""

    patches: int
    accuracy: float
    """Share of patches whose more probable class is the labelled one (A of Table 2)."""
    loss: float
    """Mean softmax loss."""
    threshold: float
    """Probability that maximises F1 at the volume's own share of membrane."""
    expected_f1: float
    """F1 at that threshold, likewise."""

    def as_dict(self) -> Dict[str, float]:
        """For ``model.json``."""
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in self._asdict().items()}


def probabilities_of(net: NetGraph, weights: Mapping[str, Sequence[np.ndarray]], shards: Sequence[Path],
                     count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Membrane probabilities (float32) and labels (0 or 1) of the ``count`` patches in some shards, in order."""
    runner = load_net(net.with_batch(BATCH), weights)
    output, size = net.outputs[0].blob, runner.blobs[runner.inputs[0]].shape[-1]
    probabilities: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    with Progress(count, "validating") as progress:
        for start in range(0, count, READ_AT_ONCE):
            data, label = read_rows(shards, range(start, min(start + READ_AT_ONCE, count)), size)
            probabilities.append(forward_patches(runner, data, output)[:, 1])
            labels.append(label)
            progress.update(start + len(label))
    return np.concatenate(probabilities), np.concatenate(labels)


def is_correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the more probable class is the labelled one, bool; a tie is the lower class, as in Caffe's Accuracy."""
    return np.where(labels == 1, probabilities > 0.5, probabilities <= 0.5)


def validate(net: NetGraph, weights: Mapping[str, Sequence[np.ndarray]], database: Database) -> Scores:
    """Score a network on a database's validation patches.

    Training on as many membrane as other pixels makes a network call too much
    membrane where only a few percent are; so the threshold is chosen with the
    patches weighted to the validation slices' own share of membrane pixels.
    """
    return scores_of(*probabilities_of(net, weights, database.val, database.val_count), database)


def scores_of(probabilities: np.ndarray, labels: np.ndarray, database: Database) -> Scores:
    """The same from what :func:`probabilities_of` gives for the database's validation patches."""
    membrane = labels == 1
    right = np.where(membrane, probabilities, 1 - probabilities.astype(np.float64))
    threshold, f1 = best_threshold(probabilities, membrane, positive_fraction=database.info["class_balance"])
    accuracy = float(np.mean(is_correct(probabilities, labels)))
    loss = float(-np.mean(np.log(np.maximum(right, np.finfo(np.float32).tiny))))
    return Scores(len(labels), accuracy, loss, float(threshold), float(f1))


def versions() -> Dict[str, str]:
    """Versions of what a result depends on."""
    import google.protobuf
    caffe = import_caffe()
    return {"caffe": caffe.__version__, "python": platform.python_version(), "numpy": np.__version__,
            "protobuf": google.protobuf.__version__, "machine": platform.machine()}

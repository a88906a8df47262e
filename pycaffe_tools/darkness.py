"""The baseline that every network has to beat: membranes are dark.

A patch is called membrane where the grey value around its centre pixel,
smoothed by a Gaussian, is at most a threshold.  Width of the Gaussian and
threshold are chosen on the training patches; the accuracy is the one on the
validation patches, so it stands beside A of Table 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import click
import numpy as np

from .base.command import OPTIONS, run
from .base.files import refuse_existing, refuse_inputs, require_ending, write_json
from .evaluate.pixels import roc_auc
from .nets.paper import centre
from .patches.database import Database, open_database
from .patches.shards import read_rows

SIGMAS = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Widths of the Gaussian that are tried, in pixels; 0 is the pixel itself."""

READ_AT_ONCE = 4000


class Darkness(NamedTuple):
    """The chosen classifier and how well it does."""

    sigma: float
    threshold: float
    """Of the smoothed grey value, in grey values of the raw data: at most this is membrane.  Where each stack has a
    normalisation of its own, in standard deviations from its mean."""
    train_accuracy: float
    accuracy: float
    auc: float
    patches: int


def weights_around_centre(sigma: float, size: int) -> np.ndarray:
    """Weights of a patch's pixels in the smoothed value of its centre: float32, size x size, sum 1."""
    distance = np.arange(size) - centre(size)
    line = np.exp(-0.5 * (distance / sigma) ** 2) if sigma else (distance == 0).astype(np.float64)
    kernel: np.ndarray = np.outer(line, line)
    weights: np.ndarray = (kernel / kernel.sum()).astype(np.float32)
    return weights


def best_dark_threshold(values: np.ndarray, membrane: np.ndarray) -> Tuple[float, float]:
    """Threshold with the highest accuracy where values up to it are called membrane, and that accuracy.

    The threshold lies half-way between two values that occur; of equally good ones it is the lowest.
    """
    order = np.argsort(values, kind="stable")
    ordered, label = values[order].astype(np.float64), membrane[order]
    right = np.count_nonzero(~label) + np.cumsum(np.where(label, 1, -1))
    # Equal values fall on the same side, so only the last of them can be a cut.
    last = np.append(ordered[1:] != ordered[:-1], True)
    candidates = np.flatnonzero(last)
    best = candidates[int(np.argmax(right[candidates]))]
    upper = ordered[min(best + 1, len(ordered) - 1)]
    return float((ordered[best] + upper) / 2), float(right[best] / len(values))


def darkness(database: Database) -> Darkness:
    """Choose on the training patches of a database and score on its validation patches."""
    kernels = np.stack([weights_around_centre(sigma, database.patch_size).ravel() for sigma in SIGMAS], axis=1)
    train, train_labels = _smoothed(database.train, database.train_count, database.patch_size, kernels)
    val, val_labels = _smoothed(database.val, database.val_count, database.patch_size, kernels)
    found = [best_dark_threshold(train[:, column], train_labels) for column in range(len(SIGMAS))]
    column = int(np.argmax([accuracy for _, accuracy in found]))
    threshold, train_accuracy = found[column]
    accuracy = float(np.mean((val[:, column] <= threshold) == val_labels))
    mean, std = database.normalisation or (0.0, 1.0)
    return Darkness(SIGMAS[column], threshold * std + mean, train_accuracy, accuracy,
                    roc_auc(-val[:, column], val_labels), database.val_count)


def _smoothed(shards: Sequence[Path], count: int, size: int, kernels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    values: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    for start in range(0, count, READ_AT_ONCE):
        data, label = read_rows(shards, range(start, min(start + READ_AT_ONCE, count)), size)
        values.append(data.reshape(len(data), -1) @ kernels)
        labels.append(label == 1)
    return np.concatenate(values), np.concatenate(labels)


@click.command(context_settings=OPTIONS)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@click.option("--force", is_flag=True, help="Replace it if it exists.")
def cli(data: Path, out: Path, force: bool) -> None:
    """Score "dark is membrane" on the patch database DATA.

    \b
    python -m pycaffe_tools.darkness data/patches -o darkness.json
    """
    require_ending(out, ".json")
    refuse_inputs(out, data)
    refuse_existing(out, force)
    database = open_database(data)
    found = darkness(database)
    unit = "" if database.normalisation else " standard deviations from its stack's mean"
    content: Dict[str, Any] = {key: round(value, 6) for key, value in found._asdict().items()}
    write_json(out, content)
    click.echo(f"{out}: {100 * found.accuracy:.2f} % accuracy where the grey value, smoothed with sigma "
               f"{found.sigma:g}, is at most {found.threshold:.1f}{unit}")


if __name__ == "__main__":
    run(cli, "darkness")

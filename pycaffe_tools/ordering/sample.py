"""The mini-batches over which the pruning loss is averaged."""

from __future__ import annotations

from typing import Any, List, NamedTuple

import numpy as np

from ..base.errors import UserError


class Sample(NamedTuple):
    """The mini-batches on which losses are averaged.

    Attributes
    ----------
    data, labels : patches (float32, n x 1 x size x size, normalised) and their classes (n integers).
    rows : where they stand: row numbers from 0 through the shards of ``train.txt`` in order.
    batches, batch_size, seed : how they were drawn.
    """

    data: np.ndarray
    labels: np.ndarray
    rows: List[int]
    batches: int
    batch_size: int
    seed: int


def draw_sample(database: Any, batches: int = 20, batch_size: int = 128, seed: int = 0) -> Sample:
    """Draw mini-batches of training patches, without repetition.

    Parameters
    ----------
    database : an opened patch database.
    batches, batch_size : how many mini-batches of how many patches.
    seed : of the draw.

    Raises
    ------
    UserError : the database has fewer training patches.
    """
    from ..patches.shards import read_rows
    wanted, count = batches * batch_size, database.train_count
    if min(batches, batch_size) < 1:
        raise UserError(f"{batches} mini-batches of {batch_size} patches: both must be at least 1")
    if wanted > count:
        raise UserError(f"{database.directory}: has {count} training patches, but {batches} mini-batches of "
                        f"{batch_size} are {wanted}; ask for fewer, or make a larger database")
    # RandomState, since its sequence of numbers is frozen for all versions of numpy.
    rows = np.random.RandomState(seed).permutation(count)[:wanted]
    data, labels = read_rows(database.train, rows, database.patch_size)
    return Sample(data, labels.astype(np.int64), [int(row) for row in rows], batches, batch_size, seed)

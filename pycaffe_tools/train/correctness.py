"""Which validation patches a network classifies correctly, packed for JSON."""

from __future__ import annotations

import base64
from typing import Any, Dict, List, Mapping

import numpy as np

from ..nets.model import Model
from ..patches.database import Database
from .validation import is_correct, probabilities_of


def correctness(model: Model, database: Database) -> np.ndarray:
    """Whether each validation patch is classified right: bool, in the order of the database.

    Raises
    ------
    UserError : the database's patches are of another size than the model's.
    """
    database.check_patch_size(model.patch_size, model.directory)
    return is_correct(*probabilities_of(model.net(), model.load_weights(), database.val, database.val_count))


def by_slice(right: np.ndarray, pixels: np.ndarray) -> List[List[int]]:
    """Stack, slice, patches and those classified right, for each slice that validation patches come from.

    ``pixels`` : int, n x 4, as :func:`pycaffe_tools.patches.shards.read_pixels` gives them.
    """
    slices, group = np.unique(pixels[:, :2], axis=0, return_inverse=True)
    group = group.reshape(-1)
    patches, good = np.bincount(group), np.bincount(group, weights=right)
    return [[int(stack), int(z), int(count), int(hits)] for (stack, z), count, hits in zip(slices, patches, good)]


def packed(right: np.ndarray) -> Dict[str, Any]:
    """Right and wrong as text for JSON: eight patches a byte, in base64."""
    return {"patches": int(right.size), "accuracy": round(float(right.mean()), 6),
            "right": base64.b64encode(np.packbits(right).tobytes()).decode("ascii")}


def unpacked(content: Mapping[str, Any]) -> np.ndarray:
    """What :func:`packed` was given: bool, one a patch."""
    octets = np.frombuffer(base64.b64decode(content["right"]), np.uint8)
    return np.unpackbits(octets)[:content["patches"]].astype(bool)

"""Arrays with the patches on the last axis, in which everything behind a pruned layer is computed.

Maps are float32 arrays ``height x width x channels x patches``.  With the
patches last every operation runs over long contiguous stretches: pooling is a
maximum of a few slices, and a row of a map is, as it stands, a matrix that
BLAS multiplies.  (With the patches first, as in Caffe, pooling took half of
the time.)
"""

from __future__ import annotations

from typing import Dict

import numpy as np

PatchMaps = np.ndarray
"""float32, height x width x channels x patches."""


class Scratch:
    """Arrays of one shape in height, width and channels for any number of patches, made once for each number."""

    def __init__(self, *shape: int):
        self.shape = shape
        self._arrays: Dict[int, np.ndarray] = {}

    def of(self, patches: int) -> np.ndarray:
        """The array for so many patches; its content is whatever the last user left."""
        if patches not in self._arrays:
            self._arrays[patches] = np.empty(self.shape + (patches,), np.float32)
        return self._arrays[patches]

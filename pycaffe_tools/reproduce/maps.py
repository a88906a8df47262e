"""How two networks' probability maps of the same slices compare: Figure 4 in numbers."""

from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from ..base.files import PathLike
from ..volumes.opening import open_volume

SMOOTHING = 2.0
"""Standard deviation, in pixels, of the Gaussian that takes high frequencies away."""


def compare_maps(own: PathLike, reference: Optional[PathLike]) -> Dict[str, Optional[float]]:
    """Numbers for one network's map of some slices, and against another's of the same.

    Parameters
    ----------
    own, reference : volumes of probabilities, of the same shape and type; without a reference its numbers are None.

    Returns
    -------
    ``high_frequencies``: share of the map's variance that smoothing by :data:`SMOOTHING` pixels takes away, lower for
    a blurred map; ``correlation``: Pearson's, over all pixels of all slices, with the reference.
    """
    from scipy.ndimage import gaussian_filter

    rough = total = 0.0
    sums = np.zeros(5)      # of x, y, xx, yy, xy
    count = 0
    with open_volume(own) as mine, open_volume(reference if reference is not None else own) as other:
        for z in range(mine.shape[0]):
            x = mine.read(z).astype(np.float64)
            rough += float(np.square(x - gaussian_filter(x, SMOOTHING, mode="reflect")).sum())
            total += float(np.square(x - x.mean()).sum())
            y = other.read(z).astype(np.float64)
            sums += [x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]
            count += x.size
    mean_x, mean_y = sums[0] / count, sums[1] / count
    spread = np.sqrt((sums[2] / count - mean_x ** 2) * (sums[3] / count - mean_y ** 2))
    correlation = (sums[4] / count - mean_x * mean_y) / spread if spread > 0 else None
    return {"high_frequencies": round(rough / total, 6) if total else None,
            "correlation": round(float(correlation), 6) if reference is not None and correlation is not None else None}

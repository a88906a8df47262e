"""Maps are compared as Figure 4's caption does: how alike they are, and how blurred."""

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pycaffe_tools.reproduce.maps import compare_maps


def test_correlation_and_blur_are_those_of_the_pixels(tmp_path):
    rng = np.random.default_rng(0)
    full = rng.integers(0, 256, (2, 50, 60)).astype(np.uint8)
    mixed = (0.7 * full + 0.3 * rng.integers(0, 256, full.shape)).astype(np.uint8)
    blurred = np.stack([gaussian_filter(image, 3) for image in full])
    for name, stack in (("full", full), ("mixed", mixed), ("blurred", blurred)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
    found = compare_maps(tmp_path / "mixed.tif", tmp_path / "full.tif")
    assert found["correlation"] == pytest.approx(np.corrcoef(mixed.ravel(), full.ravel())[0, 1], abs=1e-6)
    assert compare_maps(tmp_path / "full.tif", tmp_path / "full.tif")["correlation"] == pytest.approx(1)
    rough = [compare_maps(tmp_path / f"{name}.tif", None)["high_frequencies"] for name in ("full", "blurred")]
    assert rough[0] > 0.9 and rough[1] < 0.3
    assert compare_maps(tmp_path / "full.tif", None)["correlation"] is None

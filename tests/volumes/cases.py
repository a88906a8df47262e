"""Small volumes and ways to read them, for the tests beside this file."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from pycaffe_tools.volumes.creating import create_volume
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.pixel_size import PixelSize

SHAPE = (5, 37, 52)
UNKNOWN = PixelSize()


def stack(dtype="uint8", shape=SHAPE):
    return (np.random.default_rng(1).random(shape) * 250).astype(dtype)


def slices_of(path, **options):
    with open_volume(path, **options) as volume:
        return np.stack([volume.read(z) for z in range(volume.shape[0])])


def pixel_size_of(path):
    with open_volume(path) as volume:
        return volume.pixel_size


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    return text


def written(path, data, size, **options):
    with create_volume(path, data.shape, data.dtype, size, **options) as writer:
        for z, image in enumerate(data):
            writer.write(z, image)
    return path


TIFF_LAYOUTS: Dict[str, Dict[str, Any]] = {
    "plain": {}, "big-endian": {"byteorder": ">"}, "bigtiff": {"bigtiff": True},
    "tiled": {"tile": (16, 16)}, "deflate": {"compression": "zlib"},
    "deflate with predictor": {"compression": "zlib", "predictor": True},
    "tiled, deflate, bigtiff": {"tile": (32, 16), "compression": "zlib", "bigtiff": True},
    "many strips": {"rowsperstrip": 5}, "no metadata": {"metadata": None},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej, one header": {"imagej": True, "metadata": {"axes": "ZYX"}, "truncate": True},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
}
"""Keyword arguments of ``tifffile.imwrite``."""

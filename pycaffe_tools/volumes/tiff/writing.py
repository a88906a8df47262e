"""Writing TIFF stacks slice by slice: ImageJ's layout below 4 GB, BigTIFF with OME-XML above."""

from __future__ import annotations

import math
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from ...base.files import atomic_file
from ..hdf5.writing import reserve_space
from ..pixel_size import PixelSize
from ..storage import Storage

CLASSIC_TIFF_LIMIT = 4_000_000_000
"""Bytes of pixels up to which a TIFF is written in ImageJ's own layout; offsets there have 32 bits."""


def create_tiff(stack: ExitStack, file: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                pixel_size: PixelSize, description: str, force: bool, storage: Storage) -> Callable[[int, np.ndarray], None]:
    """Create a TIFF of zeros; see :func:`~pycaffe_tools.volumes.creating.create_volume`.

    Returns
    -------
    A function that writes slice z; ``stack`` finishes the file.
    """
    import tifffile

    temporary = stack.enter_context(atomic_file(file))
    imagej = math.prod(shape) * dtype.itemsize < CLASSIC_TIFF_LIMIT
    options, metadata = (_imagej_metadata if imagej else _ome_metadata)(pixel_size, description)
    # The headers come first and the pixels are one block behind them, which is then filled slice by slice.
    with tifffile.TiffWriter(temporary, byteorder=">", imagej=imagej, ome=not imagej, bigtiff=not imagej) as tif:
        tif.write(shape=shape, dtype=dtype, photometric="minisblack", metadata=metadata, **options)
    # Not returnoffset: on Python 3.8, tifffile gives none for an order of bytes that is not the machine's own.
    with tifffile.TiffFile(temporary) as written:
        start = written.pages[0].dataoffsets[0]
    reserve_space(temporary)
    stream = stack.enter_context(open(temporary, "r+b", buffering=0))
    length = shape[1] * shape[2] * dtype.itemsize

    def write(z: int, image: np.ndarray) -> None:
        rest = memoryview(image.astype(dtype.newbyteorder(">"), order="C").tobytes())
        stream.seek(start + z * length)
        while rest:
            rest = rest[stream.write(rest):]

    return write


def _imagej_metadata(size: PixelSize, description: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """ImageJ has one unit and no word for a single unknown axis: then a line of our own says which are known."""
    metadata: Dict[str, Any] = {"axes": "ZYX"}
    if description:
        metadata["Info"] = description
    options = {}
    if size.x is not None and size.y is not None:
        metadata["unit"] = "nm"
        options["resolution"] = tuple((1 / Fraction(f"{length:.9g}")).as_integer_ratio() for length in (size.x, size.y))
        if size.z is not None:
            metadata["spacing"] = size.z
    elif any(length is not None for length in size):
        metadata["pixel_size_nm"] = ",".join("unknown" if length is None else f"{length:.10g}" for length in size)
    return options, metadata


def _ome_metadata(size: PixelSize, description: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    metadata: Dict[str, Any] = {"axes": "ZYX"}
    if description:
        metadata["Description"] = description
    for axis, length in zip("ZYX", size):
        if length is not None:
            metadata.update({f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": "nm"})
    return {}, metadata

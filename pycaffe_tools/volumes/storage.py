"""How a volume is stored where its kind of file leaves a choice."""

from __future__ import annotations

from typing import NamedTuple

ZARR_2_IMAGE, ZARR_3_IMAGE = "0.4", "0.5"
"""Versions of OME-Zarr: in Zarr 2, with a file for each chunk, and in Zarr 3, with a file for each slice."""

MEAN, MAJORITY = "mean", "majority"
"""How four pixels of one level of a pyramid become one of the next, see :mod:`pycaffe_tools.volumes.chunked.pyramid`."""


class Storage(NamedTuple):
    """Choices that do not change the pixels."""

    ome_zarr: str = ZARR_2_IMAGE
    """Version of OME-Zarr."""
    compress: bool = False
    """HDF5 in chunks compressed with gzip, not in one block."""
    reduction: str = MEAN
    """Of the levels of an OME-Zarr's pyramid."""


DEFAULT_STORAGE = Storage()

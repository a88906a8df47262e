"""Dimension labels and attached scales of an HDF5 dataset, read as plain attributes.

The library's own calls for them believe that the attributes have the right type and end the process where they have
not, so each is looked at first: ``DIMENSION_LABELS`` and ``DIMENSION_LIST`` of the HDF5 Dimension Scales specification.
"""
from __future__ import annotations

from typing import Any, List, Optional

import numpy as np


def labels(data: Any) -> List[str]:
    """A label a dimension; where there are none, the names of the scales that are attached, as netCDF has it.

    ``""`` where a dimension has neither, or what is there is not as the specification says.
    """
    written = _entries(data, "DIMENSION_LABELS")
    names = []
    for number, label in enumerate(written):
        text = label.decode("utf-8", "replace") if isinstance(label, bytes) else label
        if not (isinstance(text, str) and text):
            scale = scale_of(data, number)
            text = "" if scale is None else str(scale.name).rsplit("/", 1)[-1]
        names.append(text)
    return names


def scale_of(data: Any, number: int) -> Optional[Any]:
    """The first dataset that is attached to dimension ``number`` as its scale, or None."""
    import h5py

    references = _entries(data, "DIMENSION_LIST")[number]
    if not isinstance(references, np.ndarray) or not references.size:
        return None
    first = references.flat[0]
    if not isinstance(first, h5py.Reference) or not first:
        return None
    try:
        scale = data.file[first]
    except (ValueError, KeyError, OSError, RuntimeError):
        return None
    return scale if isinstance(scale, h5py.Dataset) else None


def _entries(data: Any, name: str) -> List[Any]:
    """The entries of an attribute that has one for each dimension; Nones where it has not."""
    nothing = [None] * data.ndim
    try:
        if name not in data.attrs:
            return nothing
        value = data.attrs[name]
    except (OSError, TypeError, ValueError, RuntimeError, UnicodeError):
        return nothing
    if not isinstance(value, np.ndarray) or value.shape != (data.ndim,):
        return nothing
    return list(value)

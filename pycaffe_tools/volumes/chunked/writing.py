"""Writing OME-Zarr volumes slice by slice."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.files import PathLike, atomic_directory
from ..pixel_size import PixelSize

ENTRIES = (".zgroup", ".zattrs", "0")
"""What a written volume holds at its top."""


def check_zarr(folder: PathLike, inner: Optional[str]) -> None:
    """Raise :class:`UserError` where the zarr package is not installed, or ``inner`` is not level 0."""
    if inner not in (None, "/0"):
        raise UserError(f"{folder}: OME-Zarr is written as level 0 of a new folder; leave {inner} out")
    if importlib.util.find_spec("zarr") is None:
        raise UserError(f"{folder}: writing OME-Zarr needs the zarr package; install it (pip install zarr), or choose .tif "
                        f"or .h5")


def create_zarr(stack: ExitStack, folder: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                 pixel_size: PixelSize, description: str, force: bool) -> Callable[[int, np.ndarray], None]:
    """Create an OME-Zarr 0.4 of zeros; see :func:`~pycaffe_tools.volumes.creating.create_volume`.

    Returns
    -------
    A function that writes slice z; ``stack`` finishes the folder.
    """
    check_zarr(folder, inner)
    import zarr

    temporary = stack.enter_context(atomic_directory(folder, force))
    chunks = (1, min(shape[1], 512), min(shape[2], 512))
    if int(zarr.__version__.split(".")[0]) >= 3:
        group = zarr.open_group(str(temporary), mode="a", zarr_format=2)
        data = group.create_array("0", shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
                                  chunk_key_encoding={"name": "v2", "separator": "/"})
    else:
        group = zarr.open_group(str(temporary), mode="a")
        data = group.create_dataset("0", shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
                                    dimension_separator="/")
    axes = [{"name": letter, "type": "space", **({"unit": "nanometer"} if length else {})}
            for letter, length in zip("zyx", pixel_size)]
    group.attrs["multiscales"] = [{
        "version": "0.4", "name": folder.stem, "axes": axes, "datasets": [{
            "path": "0", "coordinateTransformations": [
                {"type": "scale", "scale": [float(length or 1) for length in pixel_size]}]}]}]
    if description:
        group.attrs["description"] = description

    def write(z: int, image: np.ndarray) -> None:
        data[z] = image

    return write

"""OME-Zarr volumes, read and written slice by slice."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Optional, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, atomic_directory
from . import pixel_size as calibration
from .axes import Layout, brief
from .pixel_size import PixelSize
from .volume import Volume


def _needs_zarr(path: PathLike) -> None:
    if importlib.util.find_spec("zarr") is None:
        raise UserError(f"{path}: writing OME-Zarr needs the zarr package; install it, or choose .tif or .h5")


# OME-Zarr

def _create_zarr(stack: ExitStack, folder: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                 pixel_size: PixelSize, description: str, force: bool) -> Callable[[int, np.ndarray], None]:
    if inner not in (None, "/0"):
        raise UserError(f"{folder}: OME-Zarr is written as level 0 of a new folder; leave {inner} out")
    _needs_zarr(folder)
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


def _is_zarr(folder: Path) -> bool:
    return any((folder / marker).exists() for marker in (".zgroup", ".zarray", "zarr.json"))


def _open_zarr(path: str, folder: Path, inner: Optional[str], axes: Optional[str]) -> Volume:
    try:
        import zarr
    except ImportError:
        raise UserError(f"{folder}: reading OME-Zarr needs the zarr package; install it, or convert to TIFF") from None
    try:
        node = zarr.open(str(folder), mode="r")
        declared, pixel_size = None, PixelSize()
        if not hasattr(node, "shape"):
            attributes = dict(node.attrs)
            levels = attributes.get("ome", attributes).get("multiscales")
            if levels:
                declared = "".join(str(axis["name"] if isinstance(axis, dict) else axis).upper()
                                   for axis in levels[0].get("axes", ["t", "c", "z", "y", "x"]))
                if (inner or "").strip("/") in ("", str(levels[0]["datasets"][0]["path"])):
                    pixel_size = calibration.of_multiscale(levels[0])
            inner = inner or (levels and levels[0]["datasets"][0]["path"])
            if not inner:
                raise UserError(f"{folder}: is a Zarr group without OME-Zarr metadata; name an array, as in "
                                f"{folder.name}:/0")
            node = node[str(inner).strip("/")]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: is not a readable OME-Zarr ({brief(error)}); check the path, or copy it anew") from error
    layout = Layout(path, node.shape, axes, declared)
    return Volume(path, layout.shape, node.dtype, pixel_size, lambda z: layout.read(node, z), lambda: None,
                  lambda: sorted(file for file in folder.rglob("*") if file.is_file()))

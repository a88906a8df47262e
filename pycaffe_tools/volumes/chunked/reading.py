"""Reading OME-Zarr, plain Zarr, N5 and Neuroglancer's precomputed volumes slice by slice."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ..attributes import declared_axes, multiscale_pixel_size, pixel_size_of
from ..axes import Layout, brief
from ..pixel_size import PixelSize, to_nm
from ..volume import Stored
from .arrays import TensorStoreArray, missing_codec, open_array
from .tree import N5, Node, image_in, is_group_or_array, node_at


def is_chunked(folder: Path) -> bool:
    """Whether a folder is a Zarr, N5 or precomputed volume, and not a folder of slices."""
    return is_group_or_array(folder) or folder.suffix.lower() in (".zarr", ".n5") or _precomputed_info(folder) is not None


def read_chunked(path: str, folder: Path, inner: Optional[str], axes: Optional[str]) -> Stored:
    """Open an array for reading slice by slice.

    Parameters
    ----------
    path : what to call it in messages.
    folder : the folder of the whole file.
    inner : an array, or a group with one image below it; None is the whole folder.
    axes : a letter for each dimension, or None.

    Raises
    ------
    UserError : damaged, several images, a package or a codec that is not installed, or a shape that is not supported.
    """
    if _precomputed_info(folder) is not None:
        array, declared, pixel_size = _open_precomputed(path, folder, inner)
    else:
        node, group = image_in(path, folder, inner)
        array = open_array(path, node.folder, node.kind)
        declared, pixel_size = _described(path, node, group, axes)
    layout = Layout(path, array.shape, axes, declared)

    def read(z: int) -> np.ndarray:
        try:
            return layout.read(array, z)
        except Exception as error:
            raise missing_codec(path, error) or error from error

    def files() -> List[Path]:
        return sorted(file for file in folder.rglob("*") if file.is_file())

    return Stored(layout.shape, array.dtype, pixel_size, read, files)


def _described(path: str, node: Node, group: Optional[Node], axes: Optional[str]) -> Tuple[Optional[str], PixelSize]:
    """Axes and pixel size as the array, its multiscales group and the groups above say them."""
    shape = node.shape or ()
    if node.kind == N5:                 # the convention of N5, whatever wrote it: x first
        declared: Optional[str] = {2: "XY", 3: "XYZ"}.get(len(shape))
        keep = ("pixelResolution",) if declared else ()
        attributes = {name: node.attributes[name] for name in keep if name in node.attributes}
        above = node_at(node.folder.parent)
        return declared, pixel_size_of([attributes, *([above.attributes] if above else [])][:2], declared or "")
    entry, level = _level(node, group)
    attributes = dict(node.attributes)
    if entry is not None:
        named = entry.get("axes", ["t", "c", "z", "y", "x"])
        attributes["axis_names"] = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in named]
    declared = axes or declared_axes(path, len(shape), attributes, node.dimension_names)
    size = multiscale_pixel_size(entry, level) if entry is not None else PixelSize()
    if size == PixelSize():
        letters = declared or {2: "YX", 3: "ZYX"}.get(len(shape), "")
        size = pixel_size_of([node.attributes, *([group.attributes] if group else [])], letters)
    return declared, size


def _level(node: Node, group: Optional[Node]) -> Tuple[Any, int]:
    """The multiscales entry that names an array, and which of its levels it is."""
    if group is not None:
        name = node.folder.relative_to(group.folder).as_posix()
        for entry in group.multiscales:
            for level, dataset in enumerate(entry["datasets"]):
                if str(dataset.get("path", "")).strip("/") == name:
                    return entry, level
    return None, 0


# Neuroglancer's precomputed

def _precomputed_info(folder: Path) -> Any:
    try:
        info = json.loads((folder / "info").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) and isinstance(info.get("scales"), list) and info["scales"] else None


def _open_precomputed(path: str, folder: Path, inner: Optional[str]) -> Tuple[Any, Optional[str], PixelSize]:
    scales = _precomputed_info(folder)["scales"]
    wanted = (inner or "").strip("/")
    number = next((place for place, scale in enumerate(scales) if str(scale.get("key")) == wanted), None if wanted else 0)
    if number is None:
        raise UserError(f"{path}: has no scale {wanted}; it holds {', '.join(str(scale.get('key')) for scale in scales)}")
    if importlib.util.find_spec("tensorstore") is None:
        raise UserError(f"{path}: is a precomputed volume of Neuroglancer, and reading that needs the package tensorstore; "
                        f"install it (pip install tensorstore), or convert to TIFF")
    try:
        array = TensorStoreArray({"driver": "neuroglancer_precomputed", "scale_index": number,
                              "kvstore": {"driver": "file", "path": f"{folder.resolve()}/"}})
    except Exception as error:          # the library on bytes that are not what it expects
        raise UserError(f"{path}: is not a readable precomputed volume ({brief(error)}); copy it again") from error
    x, y, z = (to_nm(size, "nm") for size in scales[number].get("resolution", (0, 0, 0)))
    return array, "XYZC", PixelSize(z, y, x)

"""Folders that hold arrays in chunks (Zarr, N5): which arrays there are, and what is said of them, without a library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ...base.errors import UserError
from ..axes import listing
from ..hdf5.reading import full_resolution
from ..images.slice_names import natural_key

ZARR_2, ZARR_3, N5 = "Zarr 2", "Zarr 3", "N5"


class Node(NamedTuple):
    """A group or an array.

    folder : of this node.
    kind : ``Zarr 2``, ``Zarr 3`` or ``N5``.
    shape : of an array; None for a group.
    attributes : as the user wrote them.
    dimension_names : of an array of Zarr 3, where it names them.
    """

    folder: Path
    kind: str
    shape: Optional[Tuple[int, ...]]
    attributes: Dict[str, Any]
    dimension_names: Tuple[Any, ...] = ()

    @property
    def multiscales(self) -> List[Dict[str, Any]]:
        """The OME-NGFF entries of a group, in the place of version 0.4 or 0.5; those without a data set do not count."""
        ome = self.attributes.get("ome")
        found = (ome if isinstance(ome, dict) else self.attributes).get("multiscales")
        return [entry for entry in found if isinstance(entry, dict) and entry.get("datasets")] \
            if isinstance(found, list) else []


def node_at(folder: Path) -> Optional[Node]:
    """The node that a folder is, or None.

    Raises
    ------
    UserError : its description is not readable JSON.
    """
    if (folder / "zarr.json").is_file():
        content = _json(folder / "zarr.json")
        names = content.get("dimension_names")
        shape = tuple(content.get("shape", ())) if content.get("node_type") == "array" else None
        return Node(folder, ZARR_3, shape, dict(content.get("attributes") or {}), tuple(names or ()))
    for marker in (".zarray", ".zgroup"):
        if (folder / marker).is_file():
            attributes = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
            shape = tuple(_json(folder / marker).get("shape", ())) if marker == ".zarray" else None
            return Node(folder, ZARR_2, shape, attributes)
    if (folder / "attributes.json").is_file():
        content = _json(folder / "attributes.json")
        return Node(folder, N5, tuple(content["dimensions"]) if "dimensions" in content else None, content)
    return None


def is_group_or_array(folder: Path) -> bool:
    """Whether a folder is a node of Zarr or N5."""
    return any((folder / marker).is_file() for marker in (".zgroup", ".zarray", "zarr.json", "attributes.json"))


def image_in(path: str, root: Path, inner: Optional[str]) -> Tuple[Node, Optional[Node]]:
    """The array that is meant, and the multiscales group that it is a level of.

    Parameters
    ----------
    path : what to call it in messages.
    root : the folder of the whole file.
    inner : path inside of an array or of a group with one image below it; None is the root.

    Raises
    ------
    UserError : there is none or several; the sentence lists them as they may be given.
    """
    below = (inner or "").strip("/")
    start = node_at(root / below) if ".." not in Path(below).parts else None
    if start is None and below and (root / below).is_dir() and node_at(root) is not None:
        start = Node(root / below, N5, None, {})        # a group of N5 may have no attributes
    everything = _names(root, root)
    if start is None:
        raise UserError(f"{path}: has no array {inner or '/'}; {root} holds {listing(everything) or 'none'}")
    if start.shape is not None:
        return start, _multiscale_group(root, start)
    names = _names(root, start.folder)
    if len(names) != 1:
        advice = f"name one, as in {root}:{names[0]}" if names else "check the path"
        raise UserError(f"{path}: holds {len(names)} images ({listing(names) or 'no array of two or more dimensions'}); {advice}")
    node = node_at(root / names[0].strip("/")) or start
    if node.shape is not None:
        return node, _multiscale_group(root, node)
    level = str(node.multiscales[0]["datasets"][0].get("path", ""))
    array = node_at(node.folder / level)
    if array is None or array.shape is None:
        raise UserError(f"{path}: its metadata names the array {level}, which is not there; copy it again")
    return array, node


def _names(root: Path, start: Path) -> List[str]:
    """Images below a folder, as they are written behind the colon: multiscales groups as one, arrays by themselves."""
    found = {"/" + "/".join(folder.relative_to(root).parts): shape for folder, shape in _images(start)}
    return full_resolution(found)


def _images(folder: Path) -> Iterator[Tuple[Path, Tuple[int, ...]]]:
    node = node_at(folder)
    if node is not None and node.shape is not None:
        if len(node.shape) >= 2:
            yield folder, node.shape
    elif node is not None and node.multiscales:
        # Its label images are beside it, below labels, and are not meant unless they are named.
        paths = {str(entry["datasets"][0].get("path", "")) for entry in node.multiscales}
        for path in sorted(paths, key=natural_key) if len(paths) > 1 else [""]:
            yield folder / path, ()
    else:
        for child in sorted((child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")),
                            key=lambda child: natural_key(child.name)):
            yield from _images(child)


def _multiscale_group(root: Path, array: Node) -> Optional[Node]:
    folder = array.folder
    while folder != root and root in folder.parents:
        folder = folder.parent
        group = node_at(folder)
        if group is not None and group.multiscales:
            return group
    return None


def _json(file: Path) -> Dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: is not valid JSON ({error}); copy the folder again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: is not a description of an array or a group; copy the folder again")
    return content

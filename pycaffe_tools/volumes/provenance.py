"""The provenance record of a volume that was computed: ``OUT.tif.json`` beside ``OUT.tif``.

=================  ==============================================================================
``format``         1
``content``        ``probability`` or ``mask``
``bytes``          length of the file that it tells of; null for a folder
``manifest``       what was asked: input, model and options (:mod:`pycaffe_tools.segment.request`)
``pixel_size_nm``  z, y, x; null where unknown
``slices``         number of each of the input's slices, in the order of the volume's own, with the
                   SHA-256 of its grey values; null where it failed and the volume holds zeros
``pixels``         number of each of the input's slices, with the SHA-256 of the volume's pixels
``failed``         numbers of the slices that failed
=================  ==============================================================================

By it a second run knows that there is nothing to do, parts of a volume are
merged without gaps and overlaps, and scores compare a map with the labels of
its own slices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

from ..base.errors import UserError
from ..base.fields import shown
from ..base.files import PathLike, read_json, write_json
from .paths import split_dataset
from .pixel_size import PixelSize

FORMAT = 1
PROBABILITY, MASK = "probability", "mask"


def provenance_path(volume: PathLike) -> Path:
    """Where the provenance record of a volume lies."""
    file, _ = split_dataset(volume)
    return file.with_name(file.name + ".json")


def read_provenance(volume: PathLike) -> Optional[Dict[str, Any]]:
    """The provenance record of a volume; None if there is none, or it tells of another file than the one at hand.

    Raises
    ------
    UserError : the record is damaged.
    """
    path = provenance_path(volume)
    if not split_dataset(volume)[0].exists() or not path.is_file():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("bytes") != _bytes(volume):
        return None
    for field, is_right in _FIELDS.items():
        if not is_right(record.get(field)):
            raise UserError(f"{path}: is a damaged provenance record, its field {field} is {shown(record.get(field))}; "
                            f"remove it, and make the volume again where its provenance matters")
    return record


def _by_slice(value: Any, may_be_null: bool) -> bool:
    """Whether a value holds a hash for each of some slices, by their numbers."""
    return isinstance(value, dict) and all(name.isdigit() and (isinstance(digest, str) or may_be_null and digest is None)
                                           for name, digest in value.items())


_FIELDS: Dict[str, Callable[[Any], bool]] = {
    "content": lambda value: value in (PROBABILITY, MASK),
    "manifest": lambda value: isinstance(value, dict),
    "pixel_size_nm": lambda value: (isinstance(value, list) and len(value) == 3 and all(
        size is None or isinstance(size, (int, float)) and not isinstance(size, bool) and size > 0 for size in value)),
    "slices": lambda value: _by_slice(value, True),
    "pixels": lambda value: value is None or _by_slice(value, False),       # records of older versions have none
    "failed": lambda value: isinstance(value, list) and all(type(z) is int and z >= 0 for z in value),
}


def write_provenance(volume: PathLike, content: str, manifest: Mapping[str, Any], slices: Mapping[str, Optional[str]],
                     pixels: Mapping[str, str], pixel_size: PixelSize) -> None:
    """Write the provenance record of a finished volume.

    Parameters
    ----------
    volume : the finished volume.
    content : ``probability`` or ``mask``.
    manifest : what was asked.
    slices : for each of the volume's slices the number of the input's slice and the hash of its grey values, None
        where that slice failed and holds zeros.
    pixels : for each of them the hash of the volume's own pixels.
    pixel_size : the volume's.
    """
    write_json(provenance_path(volume), {
        "format": FORMAT, "content": content, "bytes": _bytes(volume), "manifest": dict(manifest),
        "pixel_size_nm": list(pixel_size), "failed": [int(z) for z, digest in slices.items() if digest is None],
        "slices": dict(slices), "pixels": dict(pixels)})


def _bytes(volume: PathLike) -> Optional[int]:
    file, _ = split_dataset(volume)
    return file.stat().st_size if file.is_file() else None

"""One OME-Zarr that parts of a segmentation fill in place, from the request to the finished volume."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.files import PathLike
from ...base.progress import Progress
from ...base.ranges import parse_slices, slice_ranges
from ...volumes.chunked.writing import ImageWriter
from ...volumes.opening import open_volume
from ...volumes.paths import split_dataset
from ...volumes.pixel_size import PixelSize
from ...volumes.provenance import MASK, PROBABILITY, read_provenance, write_provenance
from ..outputs import DESCRIPTIONS
from ..request import Request, storage_for
from ..slices.slice_store import MANIFEST, pixel_hash
from .records import Record, forget, manifest_in, records_in, refuse_living, store_lock
from .shared_store import Target


def records_path(out: PathLike) -> Path:
    """Where the records of an OME-Zarr that is filled in place stand."""
    file, _ = split_dataset(out)
    return file.with_name(file.name + ".records")


def is_shared(request: Request) -> bool:
    """Whether results go straight into the output: an OME-Zarr of which parts are asked for, or which parts have begun."""
    if split_dataset(request.out)[0].suffix.lower() != ".zarr":
        return False
    return request.part is not None or request.shared or manifest_in(records_path(request.out)) is not None


def check_shared(request: Request) -> None:
    """Refuse what cannot be done in place.

    Raises
    ------
    UserError : says what.
    """
    if request.mask_out and split_dataset(request.mask_out)[0].suffix.lower() != ".zarr":
        raise UserError(f"{request.mask_out}: the parts of an OME-Zarr write their masks into another one; end the name in .zarr")
    if request.force and not request.shared:
        raise UserError(f"--force: would take away what other parts have written; remove {request.out} and "
                        f"{records_path(request.out)} to start from scratch")


class Share(NamedTuple):
    """Which slices of a volume that is filled in place a process does."""

    whole: List[int]
    """All of the volume's."""
    own: List[int]


def share_of(request: Request, asked: Sequence[int], depth: int) -> Share:
    """What a request means for a volume that may have been begun.

    Parameters
    ----------
    request : with a part: ``slices`` are the whole volume.  Without, they are a range of the volume that is there.
    asked : its slices.
    depth : slices of the input.

    Raises
    ------
    UserError : a range that the volume does not hold.
    """
    if request.part is not None:
        return Share(list(asked), request.part.of(asked))
    standing = manifest_in(records_path(request.out))
    if standing is None or request.slices is None and request.shared:
        return Share(list(asked), list(asked))
    whole = _slices_of(standing, depth)
    beyond = sorted(set(asked) - set(whole))
    if beyond and request.slices is not None:
        raise UserError(f"{request.out}: was begun for slices {slice_ranges(whole)}, and {slice_ranges(beyond)} are not among "
                        f"them; ask for some of these, or choose another output")
    return Share(whole, list(asked) if request.slices is not None else whole)


def targets_of(request: Request, outputs: Sequence[Tuple[str, str, str]], depth: int, rows: int, columns: int,
               pixel_size: PixelSize) -> List[Target]:
    """The volumes to be filled; ``outputs`` are path, content and data type of each."""
    return [Target(split_dataset(path)[0], content, (depth, rows, columns), np.dtype(dtype), pixel_size, DESCRIPTIONS[content],
                   storage_for(request.ome_zarr, False, content)) for path, content, dtype in outputs]


def finished_slices(out: PathLike) -> Set[int]:
    """Slices of a volume, begun or finished, that are there as far as its records say."""
    folder = records_path(out)
    if manifest_in(folder) is not None:
        return {z for z, _ in records_in(folder)}
    record = read_provenance(out)
    return {int(z) for z, digest in record["slices"].items() if digest is not None} if record else set()


# The last step

def finish(out: PathLike, incomplete: bool = False) -> int:
    """Check that every slice of an OME-Zarr that parts have filled is there as they wrote it, and write its record.

    All slices are read once.  A slice that is not what its part wrote counts as not done from then on.

    Parameters
    ----------
    out : the probabilities; a mask that was asked for with them is finished as well.
    incomplete : let slices be missing; they hold zeros.

    Returns
    -------
    Number of slices that are there.

    Raises
    ------
    TemporaryError : parts are still at work.
    UserError : nothing was begun there, slices are missing, or are not what was written.
    """
    folder = records_path(out)
    manifest = manifest_in(folder)
    if manifest is None:
        record = read_provenance(out)
        if record is None:
            raise UserError(f"{out}: no part has begun this volume ({folder.name} is not beside it); name the output of "
                            f"segment --part, which is an OME-Zarr")
        _clear(folder)          # of one that was killed at its end
        return len(record["slices"]) - len(record["failed"])
    with store_lock(folder):
        refuse_living(folder)
        records: Dict[int, List[Record]] = {}
        for z, each in records_in(folder):
            records.setdefault(z, []).append(each)
        whole = _slices_of(manifest)
        missing = [z for z in whole if z not in records]
        if missing and not incomplete:
            raise UserError(f"{out}: slices {slice_ranges(missing)} are not there yet; run the commands of their parts first (or "
                            f"add --incomplete to have zeros there)")
        for path, content in _volumes(Path(out), manifest):
            hashes = _verify(path, content, manifest, whole, records, folder)
            with open_volume(path) as volume:
                pixel_size = volume.pixel_size
            grey = {str(z): records[z][-1].grey if z in records else None for z in whole}
            write_provenance(path, content, manifest, grey, hashes, pixel_size)
        _clear(folder)
    return len(whole) - len(missing)


def _clear(folder: Path) -> None:
    """Remove the records of a volume that is finished."""
    (folder / MANIFEST).unlink(missing_ok=True)     # first: without it, what is left counts for nothing
    shutil.rmtree(folder, ignore_errors=True)


def _verify(path: Path, content: str, manifest: Mapping[str, Any], whole: Sequence[int], records: Mapping[int, Sequence[Record]],
            folder: Path) -> Dict[str, str]:
    """Hash of the pixels of each slice, which are one of those that its records name."""
    options = manifest["options"]
    top, bottom, left, right = options["crop"]
    writer = ImageWriter(path, (len(whole), bottom - top, right - left), storage_for(options.get("ome_zarr"), False, content))
    hashes: Dict[str, str] = {}
    damaged = []
    with Progress(len(whole), f"checking {path.name}") as progress:
        for place, z in enumerate(whole):
            progress.update(place)
            image = _read(writer, place)
            if z not in records:
                if image is None or image.any():        # of a process that was killed in this slice
                    image = np.zeros((bottom - top, right - left), options["dtype"] if content == PROBABILITY else np.uint8)
                    writer.replace(place, image)
            elif image is None or pixel_hash(image) not in {record.pixels.get(content) for record in records[z]}:
                damaged.append(z)
                continue
            writer.mend_levels(place, image)
            hashes[str(z)] = pixel_hash(image)
        progress.update(len(whole))
    if damaged:
        forget(folder, set(damaged))
        raise UserError(f"{path}: slices {slice_ranges(damaged)} are not what the segmentation wrote there; run the commands of "
                        f"their parts again, which compute just these, and then this one")
    return hashes


def _read(writer: ImageWriter, place: int) -> Optional[np.ndarray]:
    try:
        return writer.read(place)
    except Exception:           # a decoder may fail in any way on a damaged chunk
        return None


def _slices_of(manifest: Mapping[str, Any], depth: Optional[int] = None) -> List[int]:
    return parse_slices(manifest["options"]["slices"], depth or manifest["input"]["shape"][0])


def _volumes(out: Path, manifest: Mapping[str, Any]) -> List[Tuple[Path, str]]:
    """Path and content of each volume, the probabilities last: their record tells that all is done."""
    mask = manifest["options"]["mask_out"]
    file = split_dataset(out)[0]
    masks = [(Path(os.path.normpath(file.resolve().parent / mask)), MASK)] if mask else []
    return masks + [(file, PROBABILITY)]

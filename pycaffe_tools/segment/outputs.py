"""Finished volumes, put together from the results of their slices or from parts of a volume."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, read_json, write_json
from ..base.progress import Progress
from ..base.ranges import parse_slices, slice_ranges
from ..volumes.creating import check_output, create_volume
from ..volumes.opening import open_volume
from ..volumes.paths import split_dataset
from ..volumes.pixel_size import PixelSize
from ..volumes.provenance import MASK, PROBABILITY, provenance_path, read_provenance, write_provenance
from ..volumes.storage import DEFAULT_STORAGE, Storage
from ..volumes.volume import Volume
from .request import size_and_time, storage_for
from .slices.slice_store import NOT_COMPARED, DamagedSlice, SliceStore, differences, output_lock, pixel_hash


class Hashes(NamedTuple):
    """SHA-256 of each slice, by its number in the input."""

    grey: Dict[str, Optional[str]]
    """Of the grey values that it was made from; None where it failed."""
    pixels: Dict[str, str]
    """Of the pixels as they were written."""


DESCRIPTIONS = {PROBABILITY: "probability of membrane", MASK: "membrane mask"}


def parts_path(out: PathLike) -> Path:
    """Where the results of an unfinished output stand."""
    file, _ = split_dataset(out)
    return file.with_name(file.name + ".parts")


def assemble(store: SliceStore, out: PathLike, content: str, slices: Sequence[int], failed: Sequence[int],
             shape: Sequence[int], dtype: Any, pixel_size: PixelSize, storage: Storage, force: bool) -> Hashes:
    """Write one output from the results of its slices.

    Returns
    -------
    Hashes of each slice, for :func:`~pycaffe_tools.volumes.provenance.write_provenance`.

    Raises
    ------
    DamagedSlice : a result is not whole, or not of this shape and type.
    """
    hashes = Hashes({}, {})
    unreadable = set(failed)
    with create_volume(out, (len(slices),) + tuple(shape), dtype, pixel_size, DESCRIPTIONS[content],
                       force=force, storage=storage) as writer, Progress(len(slices), "writing") as progress:
        for place, z in enumerate(slices):
            progress.update(place)
            if z in unreadable:
                pixels, hashes.grey[str(z)] = np.zeros(tuple(shape), dtype), None
            else:
                result = store.load(z)
                pixels, hashes.grey[str(z)] = getattr(result, content), result.grey_sha256
                if pixels is None or pixels.shape != tuple(shape) or pixels.dtype != dtype:
                    raise DamagedSlice(z, store.folder)
            writer.write(place, pixels)
            hashes.pixels[str(z)] = pixel_hash(pixels)
        progress.update(len(slices))
    return hashes


# Parts of a volume

def merge(parts: Sequence[PathLike], out: PathLike, slices: Optional[str] = None,
          force: bool = False, ome_zarr: str = DEFAULT_STORAGE.ome_zarr, compress: bool = False) -> int:
    """Join outputs of slice ranges of one input, in whatever order they are named.

    Parameters
    ----------
    parts : outputs of :func:`pycaffe_tools.segment.__main__.segment`, all probabilities or all masks.
    out : the volume to write.
    slices : what the parts have to make up, such as ``0:200``; all of the input's slices by default.
    force : replace ``out``.
    ome_zarr, compress : how ``out`` is stored.

    Returns
    -------
    Number of slices; nothing is written if ``out`` is the same merge, finished.

    Raises
    ------
    TemporaryError : another process writes ``out``.
    UserError : a part is not finished, made from another input or with other options, slices are missing or twice.
    """
    records = []
    for part in parts:
        record = read_provenance(part)
        if record is None:
            raise UserError(f"{part}: is not a finished output of a segmentation ({provenance_path(part).name} has to stand "
                            f"beside it, unchanged); finish it, or name the right file")
        if record["failed"]:
            raise UserError(f"{part}: its slices {slice_ranges(record['failed'])} failed; run its command again first")
        records.append(record)
    _refuse_unlike(parts, records)
    now = _input_now(parts, records)
    order = _order(parts, records, slices)
    with _merge_lock(out):
        return _join(parts, records, order, now, out, storage_for(ome_zarr, compress, records[0]["content"]), force)


@contextmanager
def _merge_lock(out: PathLike) -> Iterator[None]:
    """The lock that a segmentation of the same output takes as well; leaves nothing behind."""
    folder = parts_path(out)
    try:
        with output_lock(folder, Path(out), passing=True):
            yield
    finally:
        with suppress(OSError):         # an unfinished segmentation's results, or another process' lock
            folder.rmdir()


def _join(parts: Sequence[PathLike], records: Sequence[Mapping[str, Any]], order: Mapping[int, int], now: Mapping[str, Any],
          out: PathLike, storage: Storage, force: bool) -> int:
    """Write the volume whose slice z comes from part ``order[z]``; ``now`` is what the manifest says of the input."""
    first = records[0]
    with open_volume(parts[0]) as sample:
        shape, dtype = sample.shape[1:], sample.dtype
    pixel_size = PixelSize(*first["pixel_size_nm"])
    manifest = dict(first["manifest"], input=now, options=dict(first["manifest"]["options"], slices=slice_ranges(sorted(order)),
                                                            part=None))
    asked = {"content": first["content"], "manifest": manifest,
             "slices": {str(z): records[number]["slices"][str(z)] for z, number in order.items()}}
    begun = _merging_path(out)
    before = None if force else read_provenance(out)
    if before is not None and all(before[key] == value for key, value in asked.items()):
        return len(order)
    hashes = Hashes({}, {})
    # What stands there without a record is this merge's own if it was killed before it wrote one.
    own = begun.is_file() and before is None and _is_same(begun, asked)
    check_output(out, force or own, dtype, storage)
    write_json(begun, asked)
    try:
        with create_volume(out, (len(order),) + shape, dtype, pixel_size, DESCRIPTIONS[first["content"]],
                           force=force or own, storage=storage) as writer, closing(_Parts(parts, records)) as opened:
            for place, (z, number) in enumerate(order.items()):
                name, record = str(z), records[number]
                pixels = opened.read(number, name)
                hashes.pixels[name], hashes.grey[name] = pixel_hash(pixels), record["slices"][name]
                if (record.get("pixels") or hashes.pixels).get(name) != hashes.pixels[name]:
                    raise UserError(f"{parts[number]}: slice {z} is not what the segmentation wrote there; remove the file, run "
                                    f"its command again, and merge then")
                writer.write(place, pixels)
    except BaseException:
        begun.unlink()      # nothing stands there that would have to be told from others' files
        raise
    write_provenance(out, first["content"], manifest, hashes.grey, hashes.pixels, pixel_size)
    begun.unlink()
    return len(order)


class _Parts:
    """The parts of a volume, of which one is open at a time: there may be more of them than a process may open files."""

    def __init__(self, parts: Sequence[PathLike], records: Sequence[Mapping[str, Any]]):
        self._parts = parts
        self._places = [{name: place for place, name in enumerate(record["slices"])} for record in records]
        self._current = -1
        self._volume: Optional[Volume] = None

    def read(self, number: int, name: str) -> np.ndarray:
        """The slice that part ``number`` holds under this name."""
        if self._volume is None or number != self._current:
            self.close()
            self._current, self._volume = number, open_volume(self._parts[number])
        return self._volume.read(self._places[number][name])

    def close(self) -> None:
        """Close the part that is open."""
        if self._volume is not None:
            self._volume.close()
            self._volume = None


def _merging_path(out: PathLike) -> Path:
    """What a merge that has begun is asked for; removed when it has ended."""
    file, _ = split_dataset(out)
    return file.with_name(f".{file.name}.merging.json")


def _is_same(begun: Path, asked: Mapping[str, Any]) -> bool:
    try:
        return bool(read_json(begun) == asked)
    except UserError:
        return False


def _refuse_unlike(parts: Sequence[PathLike], records: Sequence[Mapping[str, Any]]) -> None:
    first = records[0]
    # Tiles and the other outputs' names do not change numbers beyond rounding, or at all.
    ignored = ("manifest.options.slices", "manifest.options.part", "manifest.options.tile", "manifest.options.mask_out",
                   "manifest.options.overlay_out", "slices", "pixels", "bytes",
               *(f"manifest.{name}" for name in NOT_COMPARED))
    for part, record in zip(parts[1:], records[1:]):
        for name, one, other in differences(first, record, ignored):
            raise UserError(f"{part}: {name.replace('manifest.', '')} is {other!r}, in {parts[0]} it is {one!r}; "
                            f"merge parts of one segmentation")


def _input_now(parts: Sequence[PathLike], records: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """What a manifest says of the input of all parts.

    If it was touched between two parts, for example since a damaged slice was
    put right, its grey values tell whether it is still the input of all.
    """
    inputs = [record["manifest"]["input"] for record in records]
    first: Dict[str, Any] = inputs[0]
    if all(one.get(name) == first.get(name) for one in inputs for name in ("bytes", "modified")):
        return first
    path = first["path"]
    with open_volume(path, axes=first.get("axes")) as volume:
        for part, record in zip(parts, records):
            for z, digest in record["slices"].items():
                if int(z) >= volume.shape[0] or pixel_hash(volume.read(int(z))) != digest:
                    raise UserError(f"{part}: was made from another input.slice {z} than {path} holds now; put the input back, or "
                                    f"remove the part and run its command again")
    return {**first, **size_and_time(path)}


def _order(parts: Sequence[PathLike], records: Sequence[Mapping[str, Any]],
           slices: Optional[str]) -> Dict[int, int]:
    """Slice number to number of its part, in ascending order."""
    owner: Dict[int, int] = {}
    for number, record in enumerate(records):
        for z in map(int, record["slices"]):
            if z in owner:
                raise UserError(f"{parts[number]}: slice {z} is in {parts[owner[z]]} already; "
                                f"parts must not overlap")
            owner[z] = number
    wanted = parse_slices(slices, records[0]["manifest"]["input"]["shape"][0])
    missing, beyond = sorted(set(wanted) - set(owner)), sorted(set(owner) - set(wanted))
    if missing:
        raise UserError(f"--merge: slices {slice_ranges(missing)} of the input are in none of the parts; "
                        f"name all parts, or pass with --slices what they have to make up")
    if beyond:
        raise UserError(f"--merge: the parts hold slices {slice_ranges(beyond)} that --slices leaves out; "
                        f"name the parts that belong together")
    return {z: owner[z] for z in sorted(owner)}

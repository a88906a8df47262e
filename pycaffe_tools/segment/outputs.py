"""Finished volumes and the account of how they were made, ``OUT.tif.json`` beside ``OUT.tif``.

The account holds the manifest of :mod:`pycaffe_tools.segment.slice_store`, the input's
slices with the hashes of their grey values, and the slices that failed.  By it
a second run knows that there is nothing to do, and parts of a volume are
merged without gaps and overlaps.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, read_json, write_json
from ..base.progress import Progress
from ..base.ranges import parse_slices, slice_ranges
from ..volumes.opening import create_volume, open_volume
from ..volumes.paths import split_dataset
from ..volumes.pixel_size import PixelSize
from .slice_store import SliceStore, differences

FORMAT = 1
PROBABILITY, MASK = "probability", "mask"
DESCRIPTIONS = {PROBABILITY: "probability of membrane", MASK: "membrane mask"}


def account_path(out: PathLike) -> Path:
    """Where the account of an output stands."""
    file, _ = split_dataset(out)
    return file.with_name(file.name + ".json")


def parts_path(out: PathLike) -> Path:
    """Where the results of an unfinished output stand."""
    file, _ = split_dataset(out)
    return file.with_name(file.name + ".parts")


def exists(out: PathLike) -> bool:
    """Whether there is something at an output's path."""
    return split_dataset(out)[0].exists()


def read_account(out: PathLike) -> Optional[Dict[str, Any]]:
    """The account of a finished output; None if it is missing or the output is not the file that it tells of."""
    path = account_path(out)
    if not exists(out) or not path.is_file():
        return None
    account = read_json(path)
    return account if account.get("format") == FORMAT and account.get("bytes") == _bytes(out) else None


def _bytes(out: PathLike) -> Optional[int]:
    file, _ = split_dataset(out)
    return file.stat().st_size if file.is_file() else None


def write_account(out: PathLike, content: str, manifest: Mapping[str, Any], slices: Mapping[str, Optional[str]],
                  pixel_size: PixelSize) -> None:
    """Write the account of a finished output.

    Parameters
    ----------
    out : the output.
    content : ``probability`` or ``mask``.
    manifest : what was asked.
    slices : for each of the output's slices the number of the input's slice and the hash of its grey values, None
        where that slice failed and holds zeros.
    pixel_size : the output's.
    """
    write_json(account_path(out), {
        "format": FORMAT, "content": content, "bytes": _bytes(out), "manifest": dict(manifest),
        "pixel_size_nm": list(pixel_size), "failed": [int(z) for z, digest in slices.items() if digest is None],
        "slices": dict(slices)})


def assemble(store: SliceStore, out: PathLike, content: str, slices: Sequence[int], failed: Sequence[int],
             shape: Sequence[int], dtype: Any, pixel_size: PixelSize, force: bool) -> Dict[str, Optional[str]]:
    """Write one output from the results of its slices.

    Returns
    -------
    Hash of the grey values of each slice, for :func:`write_account`.
    """
    hashes: Dict[str, Optional[str]] = {}
    with create_volume(out, (len(slices),) + tuple(shape), dtype, pixel_size, DESCRIPTIONS[content],
                       force=force) as writer, Progress(len(slices), "writing") as progress:
        for place, z in enumerate(slices):
            progress.update(place)
            if z in failed:
                writer.write(place, np.zeros(tuple(shape), dtype))
                hashes[str(z)] = None
                continue
            result = store.load(z)
            writer.write(place, getattr(result, content))
            hashes[str(z)] = result.grey_sha256
        progress.update(len(slices))
    return hashes


# Parts of a volume

def merge(parts: Sequence[PathLike], out: PathLike, slices: Optional[str] = None,
          force: bool = False) -> int:
    """Join outputs of slice ranges of one input, in whatever order they are named.

    Parameters
    ----------
    parts : outputs of :func:`pycaffe_tools.segment.__main__.segment`, all probabilities or all masks.
    out : the volume to write.
    slices : what the parts have to make up, such as ``0:200``; all of the input's slices by default.
    force : replace ``out``.

    Returns
    -------
    Number of slices written.

    Raises
    ------
    UserError : a part is not finished, made from another input or with other options, slices are missing or twice.
    """
    accounts = []
    for part in parts:
        account = read_account(part)
        if account is None:
            raise UserError(f"{part}: is not a finished output of a segmentation ({account_path(part).name} has to stand "
                            f"beside it, unchanged); finish it, or name the right file")
        if account["failed"]:
            raise UserError(f"{part}: its slices {slice_ranges(account['failed'])} failed; run its command again first")
        accounts.append(account)
    _refuse_unlike(parts, accounts)
    order = _order(parts, accounts, slices)
    first = accounts[0]
    with open_volume(parts[0]) as sample:
        shape, dtype = sample.shape[1:], sample.dtype
    pixel_size = PixelSize(*first["pixel_size_nm"])
    digests: Dict[str, Optional[str]] = {}
    with create_volume(out, (len(order),) + shape, dtype, pixel_size, DESCRIPTIONS[first["content"]],
                       force=force) as writer, ExitStack() as stack:
        current, volume = None, None
        for place, (z, number) in enumerate(order.items()):
            if number != current:
                current, volume = number, stack.enter_context(open_volume(parts[number]))
            numbers = list(accounts[number]["slices"])
            writer.write(place, volume.read(numbers.index(str(z))))
            digests[str(z)] = accounts[number]["slices"][str(z)]
    manifest = dict(first["manifest"], options=dict(first["manifest"]["options"], slices=slice_ranges(sorted(order))))
    write_account(out, first["content"], manifest, digests, pixel_size)
    return len(order)


def _refuse_unlike(parts: Sequence[PathLike], accounts: Sequence[Mapping[str, Any]]) -> None:
    first = accounts[0]
    # Tiles and the other outputs' names do not change numbers beyond rounding, or at all.
    passed_over = ("manifest.options.slices", "manifest.options.tile", "manifest.options.mask_out",
                   "manifest.options.overlay_out", "manifest.input.path", "manifest.made_with", "slices", "bytes")
    for part, account in zip(parts[1:], accounts[1:]):
        for name, one, other in differences(first, account, passed_over):
            raise UserError(f"{part}: {name.replace('manifest.', '')} is {other!r}, in {parts[0]} it is {one!r}; "
                            f"merge parts of one segmentation")


def _order(parts: Sequence[PathLike], accounts: Sequence[Mapping[str, Any]],
           slices: Optional[str]) -> Dict[int, int]:
    """Slice number to number of its part, in ascending order."""
    owner: Dict[int, int] = {}
    for number, account in enumerate(accounts):
        for z in map(int, account["slices"]):
            if z in owner:
                raise UserError(f"{parts[number]}: slice {z} is in {parts[owner[z]]} already; "
                                f"parts must not overlap")
            owner[z] = number
    wanted = parse_slices(slices, accounts[0]["manifest"]["input"]["shape"][0])
    missing, beyond = sorted(set(wanted) - set(owner)), sorted(set(owner) - set(wanted))
    if missing:
        raise UserError(f"--merge: slices {slice_ranges(missing)} of the input are in none of the parts; "
                        f"name all parts, or say with --slices what they have to make up")
    if beyond:
        raise UserError(f"--merge: the parts hold slices {slice_ranges(beyond)} that --slices leaves out; "
                        f"name the parts that belong together")
    return {z: owner[z] for z in sorted(owner)}

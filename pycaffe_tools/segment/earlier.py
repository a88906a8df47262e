"""What an earlier run on the same output has left, compared with what is asked now."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from ..base.errors import UserError
from ..base.files import refuse_existing
from ..base.ranges import Pair
from ..volumes.paths import split_dataset
from ..volumes.provenance import provenance_path, read_provenance
from ..volumes.volume import Volume
from .in_place.shared_store import SharedStore
from .request import Request
from .slices.slice_store import MANIFEST, SliceStore, pixel_hash, refuse_difference


class Earlier(NamedTuple):
    """An earlier run on the same output."""

    where: Path
    """Where that is written."""
    manifest: Dict[str, Any]
    """What it was asked for."""
    record: Optional[Dict[str, Any]]
    """The provenance record of its output; None if it did not get so far."""

    @property
    def tile(self) -> Pair:
        """Tiles that it used: an unfinished output keeps them, so that it ends with the bytes of an uninterrupted run.

        Raises
        ------
        UserError : its manifest is damaged.
        """
        options = self.manifest.get("options")
        tile = options.get("tile") if isinstance(options, dict) else None
        if not (isinstance(tile, list) and len(tile) == 2 and all(isinstance(side, int) and side > 0 for side in tile)):
            raise UserError(f"{self.where}: is damaged, it does not tell the size of the tiles of the earlier run on this "
                            f"output; pass --force to start from scratch")
        return tile[0], tile[1]


class Standing(NamedTuple):
    """How far the work is when a run begins."""

    complete: bool
    """All outputs are there, made by the same request from the same grey values."""
    finished: List[int]
    """Slices that need not be computed."""


def earlier_run(request: Request, store: Union[SliceStore, SharedStore]) -> Optional[Earlier]:
    """The run that worked on this output before; None if there was none, or ``--force`` says to forget it.

    Raises
    ------
    UserError : the output is there, but made by something else.
    """
    if request.force:
        return None
    unfinished = store.manifest
    if unfinished is not None:
        return Earlier(store.folder / MANIFEST, unfinished, None)
    record = read_provenance(request.out)
    if record is not None:
        return Earlier(provenance_path(request.out), record["manifest"], record)
    for path in (request.out, request.mask_out):
        if path and split_dataset(path)[0].exists():
            refuse_existing(split_dataset(path)[0])
    if request.overlay_out:
        refuse_existing(request.overlay_out)
    return None


def compare(earlier: Optional[Earlier], manifest: Mapping[str, Any], request: Request, store: Union[SliceStore, SharedStore],
            slices: Sequence[int], volume: Volume) -> Standing:
    """What of a request is done already.

    Parameters
    ----------
    earlier : the run before, if there was one.
    manifest : what is asked now.
    slices : of the input, those asked for now.

    Raises
    ------
    UserError : the earlier run was asked for something else, or its input has changed since.
    """
    if earlier is None:
        return Standing(False, [])
    refuse_difference(store.folder if earlier.record is None else Path(request.out), earlier.manifest, manifest, store.afresh)
    before, now = earlier.manifest["input"], manifest["input"]      # both are there, or they would differ
    touched = any(before.get(name) != now[name] for name in ("bytes", "modified"))
    if earlier.record is None:
        finished = store.finished(slices)
        if touched:
            store.check_grey_values(finished, volume.read, request.input)
        return Standing(False, finished)
    if touched:
        _check_finished_output(earlier.record, request, volume)
    _check_other_outputs(earlier.record, request)
    return Standing(True, list(slices))


def _check_finished_output(record: Mapping[str, Any], request: Request, volume: Volume) -> None:
    for z, digest in record["slices"].items():
        if digest is not None and pixel_hash(volume.read(int(z))) != digest:
            raise UserError(f"{request.out}: exists already, and input.slice {z} is not the one it was made from; "
                            f"choose another output, or pass --force to replace it")


def _check_other_outputs(record: Mapping[str, Any], request: Request) -> None:
    gone = [path for path in (request.mask_out,) if path and read_provenance(path) is None]
    gone += [path for path in (request.overlay_out,) if path and not Path(path).is_dir()]
    if record["failed"] or gone:
        why = f"{gone[0]} is gone or changed" if gone else f"{len(record['failed'])} of its slices failed"
        raise UserError(f"{request.out}: exists already, but {why}; pass --force to make all outputs again")

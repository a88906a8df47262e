"""Which slices and which part of them a probability map holds, from the provenance record beside it."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ..base.errors import UserError
from ..base.ranges import Region, parse_region, parse_slices, slice_ranges
from ..patches.sources import Placement
from ..volumes.provenance import provenance_path, read_provenance
from ..volumes.volume import Volume


class _Origin(NamedTuple):
    """What a record says of the volume that a map was computed from, and of its part."""

    shape: List[int]
    slices: List[int]
    region: Region
    failed: List[int]


class MapAlignment:
    """Finds the place of a map in its labels.

    Parameters
    ----------
    slices : those of the labels to evaluate, as the user gives them; None is all that the map holds.
    crop : part of each of them that the map holds, likewise; None is what the record says, or all.

    Attributes
    ----------
    warnings : sentences for the user on what could not be compared.
    """

    def __init__(self, slices: Optional[str] = None, crop: Optional[str] = None):
        self.slices, self.crop = slices, crop
        self.warnings: List[str] = []

    def place(self, raw: Volume, labels: Volume) -> Placement:
        """The part of ``labels`` that the map ``raw`` holds.

        Raises
        ------
        UserError : the record beside the map says that it was made from other slices or another crop, or that a slice
            failed.
        """
        origin = self._origin(raw)
        if origin is None or tuple(origin.shape) != labels.shape:
            placement = self._as_asked(raw, labels)
            if origin is not None and self._is_part(origin):
                self.warnings.append(
                    f"{raw.path}: was made from slices {slice_ranges(origin.slices)}, crop {crop_text(origin.region)}, of a "
                    f"stack of shape {tuple(origin.shape)}, and {labels.path} has {labels.shape}; both are taken in order, "
                    f"check that they show the same pixels")
        else:
            placement = self._as_recorded(raw, labels, origin)
        if origin is not None:
            failed = [z for z, place in placement.raw_slices.items() if origin.slices[place] in origin.failed]
            if failed:
                raise UserError(f"{raw.path}: its slices {slice_ranges(failed)} failed and hold zeros; segment them again, or "
                                f"leave them out with --slices")
        return placement

    def _as_asked(self, raw: Volume, labels: Volume) -> Placement:
        depth = labels.shape[0]
        chosen = parse_slices(self.slices, depth)
        is_part = raw.shape[0] == len(chosen) < depth
        return Placement({z: place if is_part else z for place, z in enumerate(chosen)},
                         parse_region(self.crop, labels.shape[1:]), is_part)

    def _as_recorded(self, raw: Volume, labels: Volume, origin: _Origin) -> Placement:
        chosen = parse_slices(self.slices, labels.shape[0]) if self.slices is not None else origin.slices
        missing = sorted(set(chosen) - set(origin.slices))
        if missing:
            raise UserError(f"{raw.path}: was made from slices {slice_ranges(sorted(origin.slices))} of its stack, and not from "
                            f"{slice_ranges(missing)}, as {provenance_path(raw.path).name} says; pass --slices "
                            f"{slice_ranges(sorted(origin.slices))} or the map of these slices")
        if self.crop is not None and parse_region(self.crop, labels.shape[1:]) != origin.region:
            raise UserError(f"{raw.path}: was made from the crop {crop_text(origin.region)} of its slices, and not from "
                            f"{self.crop}, as {provenance_path(raw.path).name} says; pass --crop "
                            f"{crop_text(origin.region)} or the map of this crop")
        return Placement({z: origin.slices.index(z) for z in chosen}, origin.region, raw.shape[0] != labels.shape[0])

    def _origin(self, raw: Volume) -> Optional[_Origin]:
        record = read_provenance(raw.path)
        origin = _parsed(record) if record is not None else None
        if origin is not None and (len(origin.slices) != raw.shape[0] or origin.region.shape != raw.shape[1:]):
            origin = None
        if origin is None and provenance_path(raw.path).is_file():
            self.warnings.append(f"{raw.path}: {provenance_path(raw.path).name} beside it is not the provenance record of this "
                                 f"file, so its slices and its crop could not be compared; check them")
        return origin

    def _is_part(self, origin: _Origin) -> bool:
        return len(origin.slices) != origin.shape[0] or list(origin.region.shape) != origin.shape[1:]


def crop_text(region: Region) -> str:
    """A region as ``--crop`` reads it."""
    return f"{region.top}:{region.bottom},{region.left}:{region.right}"


def _parsed(record: Mapping[str, Any]) -> Optional[_Origin]:
    try:
        manifest: Dict[str, Any] = record["manifest"]
        shape = [int(size) for size in manifest["input"]["shape"]]
        region = Region(*(int(edge) for edge in manifest["options"]["crop"]))
        return _Origin(shape, [int(z) for z in record["slices"]], region, [int(z) for z in record["failed"]])
    except (KeyError, TypeError, ValueError):
        return None

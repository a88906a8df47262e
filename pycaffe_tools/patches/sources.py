"""A raw stack with its labels and masks: grey values and the class of every pixel, slice by slice."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from ..base.errors import UserError
from ..base.ranges import Region, parse_region
from ..volumes.opening import open_labels, open_volume
from ..volumes.volume import Volume
from .belonging import other_pixel_size, refuse_other_slices
from .labels import LabelCoding, LabelFile, listed

POSITIVE, NEGATIVE, EXCLUDED = 1, 0, -1


class LabelledStack(NamedTuple):
    """One stack and its labels, as the user names them.

    raw, labels : paths for :func:`~pycaffe_tools.volumes.opening.open_volume`.
    exclude : mask; what is not 0 is neither positive nor negative.
    add_labels : second label file, whose membrane counts as well.
    slices, val_slices : half-open ranges such as ``0:4,9``; None is the default of
        :func:`~pycaffe_tools.patches.making.split_slices`.
    """

    raw: str
    labels: str
    exclude: Optional[str] = None
    add_labels: Optional[str] = None
    slices: Optional[str] = None
    val_slices: Optional[str] = None


class Placement(NamedTuple):
    """Which part of the labels the raw file holds."""

    raw_slices: Mapping[int, int]
    """Number of the labels' slice to number of the raw file's."""
    region: Region
    """Part of each of the labels' slices."""
    is_part: bool = False
    """Whether the raw file holds some of the labelled slices only."""


def whole_stack(raw: Volume, labels: Volume) -> Placement:
    """The placement of a raw file that holds all slices of its labels."""
    return Placement({z: z for z in range(labels.shape[0])}, parse_region(None, labels.shape[1:]))


class LabelledSlice(NamedTuple):
    """One slice of a stack with its labels."""

    grey: np.ndarray
    """y by x, as stored; NaN and infinite values in excluded pixels only."""
    classes: np.ndarray
    """int8 of the same shape: POSITIVE, NEGATIVE or EXCLUDED."""

    @property
    def counted(self) -> np.ndarray:
        """Where a pixel is not excluded, bool."""
        counted: np.ndarray = self.classes != EXCLUDED
        return counted


class Source:
    """An opened :class:`LabelledStack`: grey values and classes, slice by slice.

    Parameters
    ----------
    stack : the files.
    coding : what the values of the labels mean.
    axes : of the raw file, where they are not YX or ZYX, and of the others where they are not clear.
    ignore_slice_names : take slices of folders in order, whatever their names.
    place : which part of the labels the raw file holds, from both volumes; all by default.

    Raises
    ------
    UserError : files that cannot be read or do not belong together.
    """

    def __init__(self, stack: LabelledStack, coding: LabelCoding, axes: Optional[str] = None,
                 ignore_slice_names: bool = False, place: Callable[[Volume, Volume], Placement] = whole_stack):
        self.stack = stack
        self.warnings: List[str] = []
        self._open: List[Volume] = []
        coding = coding.checked()
        try:
            self.raw = open_volume(stack.raw, axes=axes)
            self._open.append(self.raw)
            self.labels = LabelFile(self._opened_beside(stack.labels, axes), coding)
            self.added = (LabelFile(self._opened_beside(stack.add_labels, axes), coding.of_added_labels())
                          if stack.add_labels else None)
            self.exclude = self._opened_beside(stack.exclude, axes) if stack.exclude else None
            self.placement = place(self.raw, self.labels.volume)
            self._check_together(ignore_slice_names)
        except BaseException:
            self.close()
            raise

    def _opened_beside(self, path: str, axes: Optional[str]) -> Volume:
        """Labels or a mask: with axes of their own, or where these are not clear those of the stack."""
        try:
            volume = open_labels(path)
        except UserError:
            if axes is None:
                raise
            volume = open_labels(path, axes=axes)
        self._open.append(volume)
        return volume

    def _check_together(self, ignore_slice_names: bool) -> None:
        raw, labels, region = self.raw, self.labels.volume, self.placement.region
        for other in self._open[1:]:
            if not ignore_slice_names:
                for first in (raw, labels):
                    held = list(self.placement.raw_slices) if first is raw else None
                    self._doubt(refuse_other_slices(first, other, held))
            self._doubt(other_pixel_size(raw, other, "check that they belong together"))
        cropped = region.shape != labels.shape[1:]
        if cropped and raw.shape[1:] != region.shape:
            top, bottom, left, right = region
            raise UserError(f"{raw.path}: has slices of shape {raw.shape[1:]}, but --crop {top}:{bottom},{left}:{right} "
                            f"has {region.shape}; give the crop it was made with")
        # Of a crop, labels and masks are compared among themselves.
        whole = labels if cropped else raw
        for other in self._open[1:]:
            depth = labels.shape[0] if self.placement.is_part else raw.shape[0]
            if other.shape[1:] != whole.shape[1:] or other.shape[0] != depth:
                raise UserError(f"{other.path}: has shape {other.shape}, but {raw.path} has {raw.shape}; labels and "
                                f"masks belong to their raw stack pixel by pixel")

    def _doubt(self, sentence: Optional[str]) -> None:
        if sentence is not None and sentence not in self.warnings:
            self.warnings.append(sentence)

    @property
    def excludes(self) -> bool:
        """Whether pixels may be excluded: a mask or values to ignore are given."""
        return self.exclude is not None or bool(self.labels.coding.ignore_values)

    def close(self) -> None:
        """Close all files."""
        for volume in self._open:
            volume.close()

    def read(self, z: int) -> LabelledSlice:
        """Grey values and classes of slice ``z`` of the labels, or of the part of it that the raw file holds.

        Raises
        ------
        UserError : NaN or infinite grey values in pixels that are not excluded; labels that are not clear.
        """
        found = [(file, file.read(z)) for file in self._label_files]
        membrane, excluded = found[0][1].membrane, found[0][1].ignored
        for _, added in found[1:]:
            membrane, excluded = membrane | added.membrane, _either(excluded, added.ignored)
        if self.exclude is not None:
            excluded = _either(excluded, self.exclude.read(z) != 0)
        for file, labels in found:
            file.count_marked(labels.marked, excluded)
        classes = membrane.astype(np.int8)
        if excluded is not None:
            classes[excluded] = EXCLUDED
        grey = self.raw.read(self.placement.raw_slices[z])
        part = LabelledSlice(grey, np.ascontiguousarray(classes[self.placement.region.slices]))
        if grey.dtype.kind == "f" and not np.isfinite(grey[part.counted]).all():
            raise UserError(f"{self.raw.path}: slice {z} holds NaN or infinite values; replace them, mark them in a mask "
                            f"for --exclude, or leave the slice out with --slices")
        return part

    @property
    def _label_files(self) -> List[LabelFile]:
        return [self.labels] if self.added is None else [self.labels, self.added]

    def refuse_mostly_marked(self) -> None:
        """Refuse labels that mark more than half of the pixels in the slices read so far, as inverted ones do."""
        for file in self._label_files:
            file.refuse_mostly_marked()

    def doubts(self) -> List[str]:
        """Sentences for the user on what may not be as it should in the slices read so far."""
        met = set().union(*(file.ignored_values for file in self._label_files))
        values = self.labels.values
        unmet = [f"{self.labels.volume.path}: holds no pixel of --ignore-value {value}"
                 + (f", only of {listed(values)}" if values else "") + "; check the value"
                 for value in self.labels.coding.ignore_values if value not in met]
        return self.warnings + unmet + [sentence for file in self._label_files for sentence in file.warnings()]

    def describe(self) -> Dict[str, Any]:
        """Files with hashes, shape, data type and pixel size, as ``patches.json`` holds them."""
        def file(volume: Optional[Volume]) -> Optional[Dict[str, str]]:
            return None if volume is None else {"path": volume.path, "sha256": volume.sha256()}

        return {"raw": file(self.raw), "labels": file(self.labels.volume),
                "add_labels": file(self.added.volume if self.added else None), "exclude": file(self.exclude),
                "shape": list(self.raw.shape), "dtype": self.raw.dtype.name,
                "pixel_size_nm": self.raw.pixel_size.as_list()}


def _either(one: Optional[np.ndarray], other: Optional[np.ndarray]) -> Optional[np.ndarray]:
    if one is None or other is None:
        return other if one is None else one
    both: np.ndarray = one | other
    return both

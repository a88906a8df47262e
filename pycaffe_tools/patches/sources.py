"""A raw stack with its labels and masks: grey values and the class of every pixel, slice by slice."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from ..base.errors import UserError
from ..base.ranges import parse_region, parse_slices
from ..volumes.opening import open_volume
from ..volumes.volume import Volume

POSITIVE, NEGATIVE, EXCLUDED = 1, 0, -1


def outline(mask: np.ndarray, width: float) -> np.ndarray:
    """Pixels of a mask at most ``width`` pixels (Euclidean) from a pixel outside of it.

    The image's border does not count as outside: what goes on beyond it is not known.

    Parameters
    ----------
    mask : y by x, bool.
    width : in pixels; 1 gives a line of one pixel inside the mask.
    """
    from scipy.ndimage import distance_transform_edt

    if mask.all():
        return np.zeros_like(mask)
    return mask & (distance_transform_edt(mask) <= width)


class Pair(NamedTuple):
    """One stack and its labels, as the user names them.

    raw, labels : paths for :func:`~pycaffe_tools.volumes.opening.open_volume`.
    exclude : mask; what is not 0 is neither positive nor negative.
    add_labels : second label file, whose membrane counts as well.
    slices, val_slices : half-open ranges such as ``0:4,9``; None is the default of :func:`split_slices`.
    """

    raw: str
    labels: str
    exclude: Optional[str] = None
    add_labels: Optional[str] = None
    slices: Optional[str] = None
    val_slices: Optional[str] = None


class LabelFile:
    """Labels with two values, 0 and one other (255 as a rule), read slice by slice as a mask."""

    def __init__(self, volume: Volume, marked_value: int):
        self.volume = volume
        self.marked_value = marked_value
        self.other_value: Optional[float] = None

    def mask(self, z: int) -> np.ndarray:
        """What is marked in slice ``z``: the zeros for a marked value of 0, otherwise the rest.

        Raises
        ------
        UserError : more than two values in the file, so that it is not clear what they mean.
        """
        image = self.volume.read(z)
        set_pixels = image != 0
        highest = image.max()
        if highest != 0 or set_pixels.any():
            other = highest if self.other_value is None else self.other_value
            odd = image[set_pixels & (image != other)]
            if odd.size:
                raise UserError(f"{self.volume.path}: slice {z} holds the values 0, {other} and {odd[0]}; labels have "
                                f"to be 0 and one other value, threshold them first")
            self.other_value = other
        return set_pixels if self.marked_value else ~set_pixels


class Source:
    """An opened :class:`Pair`: grey values and classes, slice by slice.

    ``part`` names slices of the labels, such as ``6:8``, that may be all that
    the raw file holds: a segmentation of just those, for instance.  ``crop``
    names the part of each labelled slice that it holds, ``Y0:Y1,X0:X1``.
    """

    def __init__(self, pair: Pair, labels_are: str, membrane_value: int, rim: float, axes: Optional[str] = None,
                 part: Optional[str] = None, crop: Optional[str] = None):
        self.pair = pair
        self.outlined = rim if labels_are == "mitochondria" else None
        self._open: List[Volume] = []
        try:
            self.raw = self._opened(pair.raw, axes)
            self.labels = LabelFile(self._opened_beside(pair.labels, axes), membrane_value)
            self.added = LabelFile(self._opened_beside(pair.add_labels, axes), membrane_value) if pair.add_labels else None
            self.exclude = self._opened_beside(pair.exclude, axes) if pair.exclude else None
            held = parse_slices(part, self.labels.volume.shape[0])
            is_part = self.raw.shape[0] == len(held) < self.labels.volume.shape[0]
            self._raw_slice = {z: number if is_part else z for number, z in enumerate(held)} if part else None
            self._region = parse_region(crop, self.labels.volume.shape[1:])
            if crop and self.raw.shape[1:] != self._region.shape:
                raise UserError(f"{self.raw.path}: has slices of shape {self.raw.shape[1:]}, but --crop {crop} has "
                                f"{self._region.shape}; give the crop it was made with")
            # Of a crop, labels and masks are compared among themselves.
            whole = self.labels.volume if crop else self.raw
            for other in self._open[1:]:
                if other.shape[1:] != whole.shape[1:] or not is_part and other.shape[0] != self.raw.shape[0]:
                    raise UserError(f"{other.path}: has shape {other.shape}, but {self.raw.path} has "
                                    f"{self.raw.shape}; labels and masks belong to their raw stack pixel by pixel")
        except BaseException:
            self.close()
            raise

    def _opened(self, path: str, axes: Optional[str] = None) -> Volume:
        self._open.append(open_volume(path, axes=axes))
        return self._open[-1]

    def _opened_beside(self, path: str, axes: Optional[str]) -> Volume:
        """Labels or a mask: with axes of their own, or where these are not clear those of the stack."""
        try:
            return self._opened(path)
        except UserError:
            if axes is None:
                raise
            return self._opened(path, axes)

    def close(self) -> None:
        """Close all files."""
        for volume in self._open:
            volume.close()

    def grey(self, z: int) -> np.ndarray:
        """Raw grey values of slice ``z``.

        Raises
        ------
        UserError : NaN or infinite values.
        """
        image = self.raw.read(self._raw_slice[z] if self._raw_slice else z)
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise UserError(f"{self.raw.path}: slice {z} holds NaN or infinite values; replace them, or leave the "
                            f"slice out with --slices")
        return image

    def marked(self, z: int) -> np.ndarray:
        """What the label file marks in slice ``z``, bool: membrane, or filled mitochondria."""
        return self.labels.mask(z)

    def classes(self, z: int, marked: Optional[np.ndarray] = None) -> np.ndarray:
        """Class of every pixel of slice ``z`` (of its crop): int8 of POSITIVE, NEGATIVE or EXCLUDED."""
        positive = self.marked(z) if marked is None else marked
        if self.outlined is not None:
            positive = outline(positive, self.outlined)
        if self.added is not None:
            positive = positive | self.added.mask(z)
        classes = positive.astype(np.int8)
        if self.exclude is not None:
            classes[self.exclude.read(z) != 0] = EXCLUDED
        return classes[self._region.slices]

    def describe(self) -> Dict[str, Any]:
        """Files with hashes, shape, data type and pixel size, as ``patches.json`` holds them."""
        def file(volume: Optional[Volume]) -> Optional[Dict[str, str]]:
            return volume and {"path": volume.path, "sha256": volume.sha256()}

        return {"raw": file(self.raw), "labels": file(self.labels.volume),
                "add_labels": file(self.added.volume if self.added else None), "exclude": file(self.exclude),
                "shape": list(self.raw.shape), "dtype": self.raw.dtype.name,
                "pixel_size_nm": self.raw.pixel_size.as_list()}

"""What the values of a label file mean: membrane, mitochondria or instances, and values that are to be ignored."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ..base.errors import UserError
from ..volumes.volume import Volume

RIM = 6.0
"""Pixels of a mitochondrion's outline: as wide as hand-drawn boundaries at 5 nm a pixel (the paper gives no width)."""

KINDS = ("membrane", "mitochondria", "instances", "numbered-mitochondria")
"""What labels can be; see :class:`LabelCoding`."""

LISTED_VALUES = 6
TOUCHING = 0.1
"""Direct contacts of two instances for each membrane pixel from which a warning is given."""

Number = Union[int, float]


class LabelCoding(NamedTuple):
    """How the values of label files are read.

    labels_are : ``"membrane"``: one value marks membrane, one other value does not.
        ``"mitochondria"``: likewise filled mitochondria, of which the outline inside the mask is membrane.
        ``"instances"``: every cell has a number of its own, and ``membrane_value`` (0) lies between them.
        ``"numbered-mitochondria"``: every mitochondrion has a number of its own, and 0 is the rest.
    membrane_value : the value that marks membrane, or mitochondria; None is the one that is not 0, and for
        instances it is 0.  255 stands for the one value that is not 0 as well, in files without a 255.
    ignore_values : pixels of these values are neither membrane nor the rest.
    rim : width of a mitochondrion's outline in pixels.
    """

    labels_are: str = "membrane"
    membrane_value: Optional[int] = None
    ignore_values: Tuple[int, ...] = ()
    rim: float = RIM

    @property
    def outlined(self) -> bool:
        """Whether the outline of what is marked is membrane, and not all of it."""
        return self.labels_are.endswith("mitochondria")

    @property
    def numbered(self) -> bool:
        """Whether every object has a value of its own."""
        return self.labels_are in ("instances", "numbered-mitochondria")

    @property
    def recorded_value(self) -> int:
        """The membrane value as files of this package record it."""
        default = 0 if self.labels_are == "instances" else 255
        return default if self.membrane_value is None else self.membrane_value

    def checked(self) -> LabelCoding:
        """This coding.

        Raises
        ------
        UserError : an unknown kind of labels, or options that contradict each other.
        """
        if self.labels_are not in KINDS:
            raise UserError(f"--labels-are {self.labels_are}: is not known; pass one of {', '.join(KINDS)}")
        if self.labels_are == "numbered-mitochondria" and self.membrane_value is not None:
            raise UserError("--membrane-value: has no meaning for numbered mitochondria, where every value but 0 is a "
                            "mitochondrion; leave it out")
        if self.membrane_value is not None and self.membrane_value in self.ignore_values:
            raise UserError(f"--ignore-value {self.membrane_value}: is the --membrane-value as well; choose one")
        return self

    def of_added_labels(self) -> LabelCoding:
        """The coding of a second label file, which marks membrane itself, in two values."""
        return self._replace(labels_are="membrane", membrane_value=None if self.numbered else self.membrane_value)


class MarkedSlice(NamedTuple):
    """One slice of a label file: bool arrays, y by x."""

    marked: np.ndarray
    """What the values mark: membrane, or filled mitochondria."""
    membrane: np.ndarray
    """The same, or its outline where that is what counts."""
    ignored: Optional[np.ndarray]
    """Pixels of a value to ignore; None without such values."""


class LabelFile:
    """A label volume and its coding, read slice by slice."""

    def __init__(self, volume: Volume, coding: LabelCoding):
        self.volume = volume
        self.coding = coding
        self.values: List[Number] = []
        """Values that were met, those to be ignored left out; of numbered objects only a few."""
        self.ignored_values: Set[int] = set()
        """Values to be ignored that were met."""
        self._marked_value: Optional[Number] = None
        self._contacts = self._membrane_pixels = 0
        self._marked_pixels = self._labelled_pixels = 0

    def read(self, z: int) -> MarkedSlice:
        """What slice ``z`` marks.

        Raises
        ------
        UserError : values of which it is not clear what they mean, with all that were met.
        """
        image = self.volume.read(z)
        if image.dtype.kind == "f" and np.isnan(image).any():
            raise UserError(f"{self.volume.path}: slice {z} of the labels holds NaN; replace it by a value for "
                            f"--ignore-value")
        ignored = None
        for value in self.coding.ignore_values:
            hit = _equal(image, value)
            ignored = hit if ignored is None else ignored | hit
            if hit.any():
                self.ignored_values.add(value)
        marked = self._numbered(image, ignored) if self.coding.numbered else self._two_valued(z, image, ignored)
        if ignored is not None:
            marked &= ~ignored
        return MarkedSlice(marked, self._membrane(image, marked, ignored), ignored)

    def count_marked(self, marked: np.ndarray, excluded: Optional[np.ndarray]) -> None:
        """Take a slice into :meth:`refuse_mostly_marked`: what the file marks, and what counts nowhere."""
        if excluded is not None:
            marked = marked & ~excluded
        self._marked_pixels += int(np.count_nonzero(marked))
        self._labelled_pixels += marked.size - (0 if excluded is None else int(np.count_nonzero(excluded)))

    def refuse_mostly_marked(self) -> None:
        """Raise :class:`UserError` if more than half of the pixels counted so far are marked, as in inverted labels."""
        if 2 * self._marked_pixels <= self._labelled_pixels:
            return
        other, share = self.opposite(), 100 * self._marked_pixels / self._labelled_pixels
        advice = f"try --membrane-value {other:g}, or pass --force" if other is not None else "check it, or pass --force"
        raise UserError(f"{self.volume.path}: {share:.0f} % of the pixels are marked, which hints at a wrong --membrane-value "
                        f"{self.coding.recorded_value}; {advice} if it is right")

    def opposite(self) -> Optional[Number]:
        """The value that marks the other pixels, where labels have two values and both were met."""
        if self.coding.numbered:
            return None
        if self.coding.membrane_value == 0:
            return next((value for value in self.values if value != 0), 255)
        return next((value for value in self.values if value != self._marked_value), 0)

    def warnings(self) -> List[str]:
        """Sentences on what the slices read so far make doubtful."""
        if self._contacts <= TOUCHING * self._membrane_pixels:
            return []
        return [f"{self.volume.path}: cells touch each other at {self._contacts} places without membrane of value "
                f"{self.coding.recorded_value} between them, and that counts as no membrane; draw the borders, or check "
                f"--membrane-value"]

    def _numbered(self, image: np.ndarray, ignored: Optional[np.ndarray]) -> np.ndarray:
        if self.coding.labels_are == "numbered-mitochondria":
            anything: np.ndarray = image != 0
            return anything
        marked = _equal(image, self.coding.recorded_value)
        if not marked.any():
            self._remember(image, ignored)
        cell = ~marked if ignored is None else ~(marked | ignored)
        for one, other, inside, too in ((image[1:], image[:-1], cell[1:], cell[:-1]),
                                        (image[:, 1:], image[:, :-1], cell[:, 1:], cell[:, :-1])):
            self._contacts += int(np.count_nonzero((one != other) & inside & too))
        self._membrane_pixels += int(np.count_nonzero(marked))
        return marked

    def _two_valued(self, z: int, image: np.ndarray, ignored: Optional[np.ndarray]) -> np.ndarray:
        self._remember(image, ignored)
        asked, nonzero = self.coding.membrane_value, [value for value in self.values if value != 0]
        if asked in (None, 255):
            # Fixed by the first slice that marks anything, so that all slices are read alike.
            if self._marked_value is None and nonzero:
                self._marked_value = 255 if asked == 255 and 255 in nonzero else nonzero[0]
            clear = len(nonzero) < 2 or asked == 255 and self._marked_value == 255 and len(self.values) == 2
        else:
            self._marked_value = asked
            clear = len([value for value in self.values if value != asked]) < 2
        if not clear:
            raise self._unclear(z)
        return np.zeros(image.shape, bool) if self._marked_value is None else _equal(image, self._marked_value)

    def _remember(self, image: np.ndarray, ignored: Optional[np.ndarray]) -> None:
        new = image.ravel() if ignored is None else image[~ignored]
        for value in self.values:
            new = new[new != value]
        if new.size:
            self.values = sorted([*self.values, *(value.item() for value in np.unique(new))])

    def _unclear(self, z: int) -> UserError:
        asked, kind = self.coding.membrane_value, self.coding.labels_are
        numbered = ("--labels-are numbered-mitochondria if each has a number of its own" if self.coding.outlined else
                    "--labels-are instances if each cell has a number of its own")
        text = f"{self.volume.path}: holds the values {listed(self.values)} (up to slice {z})"
        if asked not in (None, 255) and asked not in self.values:
            text += f", and not --membrane-value {asked}"
        if len(self.values) == 2:
            one, other = self.values
            return UserError(f"{text}, and it is not clear which of them is {kind}; pass --membrane-value {one:g} or "
                             f"--membrane-value {other:g}, and --ignore-value for one that means not labelled")
        return UserError(f"{text}, where two are expected; pass --ignore-value for each that means not labelled, or "
                         f"{numbered}")

    def _membrane(self, image: np.ndarray, marked: np.ndarray, ignored: Optional[np.ndarray]) -> np.ndarray:
        if not self.coding.outlined:
            return marked
        if self.coding.numbered:
            return rims_of_objects(image, marked, self.coding.rim, ignored)
        return rim_inside(marked, self.coding.rim, ignored)


def rim_inside(mask: np.ndarray, width: float, unknown: Optional[np.ndarray] = None) -> np.ndarray:
    """Pixels of a mask at most ``width`` pixels (Euclidean) from a pixel outside of it.

    Neither the image's border nor what is ``unknown`` counts as outside: what is there is not known.

    Parameters
    ----------
    mask : y by x, bool.
    width : in pixels; 1 gives a line of one pixel inside the mask.
    unknown : y by x, bool; None where all pixels are known.

    Returns
    -------
    y by x, bool.
    """
    from scipy.ndimage import distance_transform_edt

    inside = mask if unknown is None else mask | unknown
    if inside.all():
        return np.zeros_like(mask)
    rim: np.ndarray = mask & (distance_transform_edt(inside) <= width)
    return rim


def rims_of_objects(image: np.ndarray, mask: np.ndarray, width: float,
                    unknown: Optional[np.ndarray] = None) -> np.ndarray:
    """:func:`rim_inside` of each object by itself, so that two that touch have a rim between them.

    Parameters
    ----------
    image : y by x, the number of its object for each pixel.
    mask : y by x, bool: pixels that belong to an object.
    width, unknown : as for :func:`rim_inside`.
    """
    from scipy.ndimage import find_objects

    _, numbers = np.unique(image, return_inverse=True)
    numbers = np.where(mask, numbers.reshape(image.shape) + 1, 0)
    rims = np.zeros(image.shape, bool)
    reach = int(width) + 1
    for number, box in enumerate(find_objects(numbers), 1):
        if box is not None:
            around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
            rims[around] |= rim_inside(numbers[around] == number, width, None if unknown is None else unknown[around])
    return rims


def listed(values: Sequence[Number]) -> str:
    """Values for a message.

    >>> listed([0, 1, 255])
    '0, 1 and 255'
    """
    shown = [str(value) if isinstance(value, int) else f"{value:g}" for value in values]
    if len(shown) > LISTED_VALUES:
        shown = [*shown[:LISTED_VALUES - 1], f"{len(shown) - LISTED_VALUES + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _equal(image: np.ndarray, value: Number) -> np.ndarray:
    """Where an image has a value, which its data type need not be able to hold."""
    if image.dtype.kind in "ui":
        limits = np.iinfo(image.dtype)
        if not limits.min <= value <= limits.max:
            return np.zeros(image.shape, bool)
    same: np.ndarray = image == np.asarray(value).astype(image.dtype)
    return same

"""JSON files read field by field, each as the type that is asked for.

A file may have been edited by hand, cut short, or be another one than thought.
Whatever is read of it is therefore checked where it is read, and a sentence
names the file, the field, what stands there and what has to:

    >>> fields = Fields({"mean": 128, "std": "40"}, "model.json")
    >>> fields.number("mean")
    128
    >>> fields.number("std")
    Traceback (most recent call last):
    pycaffe_tools.base.errors.UserError: model.json: its field std is '40', where a number is needed; restore the file or make it again
"""

from __future__ import annotations

import math
import sys
from typing import Any, Dict, List, Optional, Sequence

from .errors import UserError
from .files import PathLike, read_json

_LONGEST = 40


class Fields:
    """The fields of one JSON object.

    Parameters
    ----------
    content : what was read; anything but an object is refused.
    where : the file, for messages.
    path : name of the object within the file, ending in a dot; empty for the whole file.

    Every method raises :class:`UserError` where the field is missing or of another kind.
    """

    def __init__(self, content: Any, where: PathLike, path: str = ""):
        self.where, self._path = where, path
        if not isinstance(content, dict):
            raise self._wrong(path.rstrip("."), content, "an object with named fields")
        self._content: Dict[str, Any] = content

    @property
    def names(self) -> List[str]:
        """Names of the fields, in their order."""
        return list(self._content)

    def has(self, name: str) -> bool:
        """Whether there is such a field and it is not null."""
        return self._content.get(name) is not None

    def get(self, name: str) -> Any:
        """A field as it is."""
        if name not in self._content:
            raise UserError(f"{self.where}: lacks the field {self._path}{name}; restore the file or make it again")
        return self._content[name]

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self.get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(self._path + name, value, "a text")
        return value

    def number(self, name: str, low: float = -math.inf, high: float = math.inf, above: float = -math.inf) -> float:
        """A finite number, at least ``low``, at most ``high`` and more than ``above``."""
        return self._number(self._path + name, self.get(name), low, high, above)

    def whole(self, name: str, low: int = 0) -> int:
        """A whole number from ``low`` on."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self._wrong(self._path + name, value, f"a whole number from {low} on")
        return value

    def fields(self, name: str) -> Fields:
        """An object."""
        return Fields(self.get(name), self.where, f"{self._path}{name}.")

    def list(self, name: str, length: Optional[int] = None) -> List[Any]:
        """A list, of a certain length if that is given."""
        value = self.get(name)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise self._wrong(self._path + name, value, "a list" if length is None else f"a list of {length}")
        return value

    def wholes(self, name: str) -> List[int]:
        """A list of whole numbers from 0 on."""
        values = self.list(name)
        if not all(type(value) is int and value >= 0 for value in values):
            raise self._wrong(self._path + name, values, "a list of whole numbers from 0 on")
        return values

    def objects(self, name: str) -> List[Fields]:
        """A list of objects."""
        return [Fields(value, self.where, f"{self._path}{name}[{number}].")
                for number, value in enumerate(self.list(name))]

    def one_of(self, name: str, known: Sequence[str]) -> str:
        """One of several texts."""
        value = self.text(name)
        if value not in known:
            raise self._wrong(self._path + name, value, " or ".join(known))
        return value

    def sizes(self, name: str, length: int) -> List[Optional[float]]:
        """A list of so many numbers above 0, null where a size is not known."""
        return [None if value is None else self._number(f"{self._path}{name}[{number}]", value, above=0.0)
                for number, value in enumerate(self.list(name, length))]

    def _number(self, path: str, value: Any, low: float = -math.inf, high: float = math.inf,
                above: float = -math.inf) -> float:
        wanted = "a number" + (f" above {above:g}" if math.isfinite(above) else "") + (
            f" from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else
            f" from {low:g} on" if math.isfinite(low) else "")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(path, value, wanted)
        if not (abs(value) <= sys.float_info.max and low <= value <= high and value > above):
            raise self._wrong(path, value, wanted)
        return value        # as it was written, so that copying a file changes no byte of it

    def _wrong(self, path: str, value: Any, wanted: str) -> UserError:
        subject = f"its field {path}" if path else "its content"
        return UserError(f"{self.where}: {subject} is {shown(value)}, where {wanted} is needed; "
                         f"restore the file or make it again")


def read_fields(path: PathLike) -> Fields:
    """The fields of a JSON file that holds one object.

    Raises
    ------
    UserError : missing, not JSON, or of another form.
    """
    return Fields(read_json(path), path)


def shown(value: Any) -> str:
    """A value for a message, cut short where it is long."""
    if isinstance(value, dict):
        return "an object"
    text = "a list" if isinstance(value, list) and len(value) > 8 else "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 4]} ..."

"""File names of slices: their order, the number of each, and whether they are one series."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ...base.errors import UserError

_PLAIN = re.compile(r"[0-9]+|[^0-9]+")

# A minus sign stands at the start or behind a separator: img-3 is number 3, img_-3 is minus 3.
_NUMBER = re.compile(r"(?<![A-Za-z0-9.])-[0-9]+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?")
_NUMBER_WITH_ANY_MINUS = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_WHOLE_NUMBER = re.compile(r"(?<![A-Za-z0-9.])-[0-9]+|[0-9]+")


def natural_key(name: str) -> List[Any]:
    """Sort key under which ``slice_10`` comes after ``slice_9``.

    >>> sorted(["s10.tif", "s9.tif"], key=natural_key)
    ['s9.tif', 's10.tif']
    """
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in _PLAIN.findall(name)]


class Series(NamedTuple):
    """Files of one series in the order of their numbers."""

    files: List[Path]
    numbers: Optional[Tuple[float, ...]]    # that tell the files apart; None where their names have no such number


def one_series(path: str, files: Sequence[Path], chosen: bool = False) -> Series:
    """The files as one series of slices.

    Parameters
    ----------
    path : what to call the folder in messages.
    files : at least one.
    chosen : whether the user chose them by a pattern: then files that differ in several numbers are taken in order.

    Raises
    ------
    UserError : their names are those of several series, images and masks for example, or two files have one number.

    >>> one_series("a", [Path("z_1.png"), Path("z_-1.png"), Path("z_0.png")]).numbers
    (-1.0, 0.0, 1.0)
    """
    split = _split({file: file.stem for file in files})
    by_text: Dict[Tuple[str, ...], List[Path]] = {}
    for file in files:
        by_text.setdefault(tuple(text.lower() for text in split[file][0]), []).append(file)
    if len(by_text) > 1:
        if max(map(len, by_text.values())) > 1:
            _refuse_several(path, list(by_text.items()))
        return Series(sorted(files, key=lambda file: natural_key(file.name)), None)     # names of no common pattern
    numbers = {file: [float(number) for number in split[file][1]] for file in files}
    ordered = sorted(files, key=lambda file: (numbers[file], natural_key(file.name)))
    columns = list(zip(*(numbers[file] for file in ordered)))
    varying = [column for column in columns if len(set(column)) > 1]
    if len(ordered) == 1:
        return Series(ordered, tuple(columns[-1]) if columns else None)
    telling = next((column for column in varying if len(set(column)) == len(ordered)), None)
    for one, two in zip(ordered, ordered[1:]):
        if numbers[one] == numbers[two]:
            raise UserError(f"{path}: {one.name} and {two.name} have the same number; keep one of them there")
    if telling is None and not chosen:
        fewest = min(varying, key=lambda column: len(set(column)))
        place = columns.index(fewest)
        groups: Dict[Tuple[str, ...], List[Path]] = {}
        for file in ordered:
            text, written = split[file]
            joined = text[place] + written[place] + text[place + 1]
            groups.setdefault((*text[:place], joined, *text[place + 2:]), []).append(file)
        _refuse_several(path, list(groups.items()))
    if telling is not None and list(telling) != sorted(telling):
        ordered = [file for _, file in sorted(zip(telling, ordered))]
        telling = tuple(sorted(telling))
    return Series(ordered, tuple(telling) if telling is not None else None)


def _split(names: Dict[Path, str]) -> Dict[Path, Tuple[List[str], List[str]]]:
    """The text around the numbers of each name, and the numbers as they are written."""
    number = _NUMBER
    fractions = [found.group().split(".")[1] for name in names.values() for found in _NUMBER.finditer(name)
                 if "." in found.group()]
    # 1.9 and 1.10 are sections 9 and 10: decimals of different length have no zeros at their end.
    if len(set(map(len, fractions))) > 1 and any(fraction.endswith("0") for fraction in fractions):
        number = _WHOLE_NUMBER
    texts = {tuple(number.split(name)) for name in names.values()}
    # z-1, z0, z1: the minus is a sign, since the same names are there without it.
    twins = {tuple(re.sub("-$", "", text) for text in each) for each in texts if any(text.endswith("-") for text in each[:-1])}
    if number is _NUMBER and twins & texts:
        number = _NUMBER_WITH_ANY_MINUS
    return {file: (number.split(name), number.findall(name)) for file, name in names.items()}


def _refuse_several(path: str, groups: Sequence[Tuple[Tuple[str, ...], List[Path]]]) -> None:
    described = [f"{'#'.join(text)}{files[0].suffix} ({len(files)} file{'s' if len(files) > 1 else ''}, such as "
                 f"{files[0].name})" for text, files in groups]
    example = "#".join(groups[-1][0]) + groups[-1][1][0].suffix
    folder = groups[-1][1][0].parent
    raise UserError(f"{path}: holds {len(groups)} series of slices: {'; '.join(described[:4])}"
                    f"{' ...' if described[4:] else ''}; keep one there, or choose one by a pattern in which # is any "
                    f"number and * anything, as in '{folder}/{example}'")

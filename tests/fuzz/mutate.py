"""Seeded damage to valid files: what disks, transfers, other programs and people do to them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Callable, List, Tuple

STRANGE = [None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e308, 10**30, "", "x", "0", "../x", "ä" * 20, "y" * 10_000, [], {}, [1],
           [1, 2, 3], {"a": 1}, [[]], ["x"], float("nan"), float("inf")]
"""Values that a JSON field should not have."""

NUMBERS = ["0", "-1", "1", "3", "7", "1000000", "4294967296", "2.5", "nan", "1e30", '"x"', ""]
"""What a number in a prototxt becomes."""

TIFF_TAGS = (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 282, 284, 296, 317, 339)


def damage(path: Path, seed: int) -> str:
    """Damage a file in place, in a way that fits its kind; says how.

    Parameters
    ----------
    path : the file.
    seed : equal seeds damage equal files alike.
    """
    chance = random.Random(f"{seed} {path.name}")
    ways: List[Callable[[Path, random.Random], str]] = [_bytes, _bytes, _cut, _grow, _swap]
    if path.suffix == ".json":
        ways = [_field, _field, _field, _field, _bytes, _cut]
    elif path.suffix in (".prototxt", ".txt"):
        ways = [_number, _number, _line, _line, _bytes, _cut]
    elif path.suffix == ".log":
        ways = [_line, _line, _number, _bytes, _cut]
    elif path.suffix in (".tif", ".tiff"):
        ways = [_tag, _tag, _bytes, _bytes, _cut, _grow]
    elif path.suffix == ".h5":
        ways = [_hdf5, _hdf5, _bytes, _bytes, _cut]
    return chance.choice(ways)(path, chance)


def _bytes(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    if not content:
        return "empty as it was"
    # Headers decide more than pixels do.
    end = len(content) if chance.random() < 0.4 else min(len(content), 600)
    places = [chance.randrange(end) for _ in range(chance.choice((1, 1, 2, 8, 64)))]
    for place in places:
        content[place] = chance.choice((0, 1, 255, content[place] ^ (1 << chance.randrange(8)), chance.randrange(256)))
    path.write_bytes(bytes(content))
    return f"{len(places)} bytes changed from {min(places)} on"


def _cut(path: Path, chance: random.Random) -> str:
    content = path.read_bytes()
    length = chance.choice((0, 1, len(content) // 2, max(len(content) - 1, 0), chance.randrange(len(content) + 1)))
    path.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def _grow(path: Path, chance: random.Random) -> str:
    content = path.read_bytes()
    place, count = chance.randrange(len(content) + 1), chance.choice((1, 4, 1000))
    path.write_bytes(content[:place] + bytes(chance.randrange(256) for _ in range(count)) + content[place:])
    return f"{count} bytes inserted at {place}"


def _swap(path: Path, chance: random.Random) -> str:
    content = path.read_bytes()
    middle = chance.randrange(len(content) + 1)
    path.write_bytes(content[middle:] + content[:middle])
    return f"halves swapped at {middle}"


def _field(path: Path, chance: random.Random) -> str:
    content = json.loads(path.read_text())
    places: List[Tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            collect(node[key])

    collect(content)
    if not places or chance.random() < 0.05:
        content = chance.choice(STRANGE)
        path.write_text(json.dumps(content))
        return f"all of it became {str(content)[:20]}"
    node, key = chance.choice(places)
    if chance.random() < 0.25:
        del node[key]
        what = "deleted"
    else:
        node[key] = chance.choice(STRANGE)
        what = f"= {str(node[key])[:20]}"
    path.write_text(json.dumps(content))
    return f"field {str(key)[:30]} {what}"


def _number(path: Path, chance: random.Random) -> str:
    import re
    text = path.read_text(errors="replace")
    found = list(re.finditer(r"-?\d+(?:\.\d+)?", text))
    if not found:
        return _bytes(path, chance)
    one, new = chance.choice(found), chance.choice(NUMBERS)
    path.write_text(text[:one.start()] + new + text[one.end():])
    return f"{one.group()} became {new}"


def _line(path: Path, chance: random.Random) -> str:
    lines = path.read_text(errors="replace").split("\n")
    place = chance.randrange(len(lines))
    way = chance.choice(("deleted", "doubled", "swapped", "moved"))
    if way == "deleted":
        del lines[place]
    elif way == "doubled":
        lines.insert(place, lines[place])
    elif way == "swapped":
        other = chance.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    else:
        lines.insert(chance.randrange(len(lines)), lines.pop(place))
    path.write_text("\n".join(lines))
    return f"line {place} {way}"


def _tag(path: Path, chance: random.Random) -> str:
    """Change the value of a tag of one page, by its place in the file (classic TIFF, either order of bytes)."""
    content = bytearray(path.read_bytes())
    order = "little" if content[:2] == b"II" else "big"
    places, offset = [], int.from_bytes(content[4:8], order)
    while 0 < offset < len(content) - 6 and len(places) < 500:
        count = int.from_bytes(content[offset:offset + 2], order)
        places += [offset + 2 + 12 * number for number in range(count)
                   if int.from_bytes(content[offset + 2 + 12 * number:offset + 4 + 12 * number], order) in TIFF_TAGS]
        after = offset + 2 + 12 * count
        offset = int.from_bytes(content[after:after + 4], order)
    if not places:
        return _bytes(path, chance)
    place = chance.choice(places)
    tag = int.from_bytes(content[place:place + 2], order)
    part, size = chance.choice(((2, 2), (4, 4), (8, 2), (8, 4), (8, 4)))
    value = chance.choice((0, 1, 2, 3, 4, 8, 16, 32, 64, 5, 7, 6, 65535, 34925, 50000))
    content[place + part:place + part + size] = (value % 256**size).to_bytes(size, order)
    path.write_bytes(bytes(content))
    return f"tag {tag}: {value} at {part}"


def _hdf5(path: Path, chance: random.Random) -> str:
    """Change an HDF5 file by its library: shapes, types, names, attributes."""
    import h5py
    import numpy as np
    with h5py.File(path, "r+") as handle:
        names: List[str] = []
        handle.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = chance.choice(names)
        data, way = handle[name][()], chance.choice(("gone", "type", "shape", "values", "name", "group", "attribute"))
        if way == "attribute":
            kind = chance.choice(("axistags", "resolution", "element_size_um", "DIMENSION_LABELS", "units"))
            handle[name].attrs[kind] = chance.choice(("x", "{", -1.0, [1, 2], np.nan, "ZYXC"))
            return f"{name}: attribute {kind}"
        del handle[name]
        if way == "type":
            handle[name] = data.astype(chance.choice((np.float64, np.int16, np.uint32, np.complex64, np.float16, "S4")))
        elif way == "shape":
            handle[name] = chance.choice((data.reshape(-1), data[..., None], data[:1], data[..., :1], data[:0]))
        elif way == "values":
            broken = data.astype(np.float32)
            broken[tuple(chance.randrange(size) for size in broken.shape)] = chance.choice((np.nan, np.inf, -1e30, 2.0, 0.5))
            handle[name] = broken
        elif way == "name":
            handle["other"] = data
        elif way == "group":
            handle.create_group(name)
    return f"{name}: {way}"

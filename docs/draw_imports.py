"""Draw which folder of the package imports which, as docs/imports.svg.

    python docs/draw_imports.py            write the picture
    python docs/draw_imports.py --check    exit with 1 if the committed picture is not of today's imports

The imports are read from the files, not from a list, so the picture cannot be
wrong, only old; a test compares it.  An arrow that follows from others is left
out: `segment` imports `nets`, but it also imports `engines`, which does.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Dict, List, Set, Tuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pycaffe_tools"
PICTURE = Path(__file__).resolve().parent / "imports.svg"

Graph = Dict[str, Set[str]]

BOX = 144, 46
"""Width and height of a folder, in pixels of the picture."""
GAP = 18, 44
"""Between folders of one row, and between rows."""
MARGIN = 20

CONTENT = {
    "base": "errors, files, commands", "cluster": "Slurm and Dask", "volumes": "stacks in and out", "nets": "Caffe nets, models",
    "datasets": "public and synthetic", "dense_plan": "exact dense nets", "engines": "what runs a tile",
    "patches": "patch databases", "evaluate": "scores", "train": "Caffe training", "oracle": "loss without a feature",
    "ordering": "order of features", "surgery": "features removed", "prune": "Table 1 or budget",
    "segment": "whole stacks", "watch": "slices as they come", "export": "ONNX, bioimage.io",
    "plots": "figures", "reproduce": "runs of the paper", "report": "tables and claims",
}
"""A word on each folder for the picture."""


def modules() -> Dict[str, Path]:
    """All modules of the package by dotted name; a package stands for its ``__init__.py``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Dict[str, Path]) -> Set[str]:
    """Modules of this package that a file imports, wherever in it."""
    found = set()
    package = list(path.relative_to(PACKAGE.parent).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[:len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            for name in node.names:
                whole = ".".join([*base, name.name])
                found.add(whole if whole in known else ".".join(base))
    return found


def folders() -> Graph:
    """For each folder of the package the other folders it imports from."""
    known = modules()
    names = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    graph: Graph = {name: set() for name in names}
    for module, path in known.items():
        own = module.split(".")[1] if "." in module else ""
        if own in names:
            others = {other.split(".")[1] for other in imported(path, known) if "." in other}
            graph[own] |= (others & names) - {own}
    return graph


def without_detours(graph: Graph) -> Graph:
    """The graph without arrows that follow from others (its transitive reduction; it has no cycles)."""
    reach: Graph = {}

    def reached(name: str) -> Set[str]:
        if name not in reach:
            reach[name] = graph[name].union(*(reached(other) for other in graph[name])) if graph[name] else set()
        return reach[name]

    return {name: {other for other in others if not any(other in reached(via) for via in others - {other})}
            for name, others in graph.items()}


def rows(graph: Graph) -> List[List[str]]:
    """Folders by row: each stands one row below the lowest of those it imports, `base` in the first."""
    depth: Dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((of(other) for other in graph[name]), default=-1)
        return depth[name]

    for name in sorted(graph):
        of(name)
    found: List[List[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in sorted(depth):
        found[depth[name]].append(name)
    return found


Slot = Tuple[str, str]
"""A folder and "", or a folder and another that it imports from further up: a gap in a row for the arrow to pass."""


def slots(graph: Graph) -> Tuple[List[List[Slot]], Dict[Slot, List[Slot]]]:
    """The rows with gaps for long arrows, and for each slot those in the row above that it is joined to."""
    layout: List[List[Slot]] = [[(name, "") for name in row] for row in rows(graph)]
    depth = {name: number for number, row in enumerate(layout) for name, _ in row}
    above: Dict[Slot, List[Slot]] = {(name, ""): [] for name in graph}
    for name in sorted(graph):
        for other in sorted(graph[name]):
            gaps = [(name, other)] * (depth[name] - depth[other] - 1)
            for step, gap in enumerate(gaps):
                layout[depth[other] + 1 + step].append((f"{gap[0]}:{step}", gap[1]))
            chain = [(other, ""), *((f"{name}:{step}", other) for step in range(len(gaps))), (name, "")]
            for upper, lower in zip(chain, chain[1:]):
                above.setdefault(lower, []).append(upper)
    return layout, above


def places(graph: Graph) -> Dict[Slot, Tuple[float, float]]:
    """Centre of each slot, which stands as near as it can below the middle of what it is joined to."""
    layout, above = slots(graph)
    placed: Dict[Slot, Tuple[float, float]] = {}
    for number, row in enumerate(layout):
        wish = {slot: sum(placed[upper][0] for upper in above[slot]) / max(len(above[slot]), 1) for slot in row}
        order = sorted(row, key=lambda slot: (wish[slot], slot))
        widths = [(GAP[0] if slot[1] else BOX[0]) + GAP[0] for slot in order]
        x = sum(wish.values()) / len(wish) - sum(widths) / 2
        for slot, width in zip(order, widths):
            placed[slot] = x + width / 2, number * (BOX[1] + GAP[1])
            x += width
    left = min(x for (x, _), slot in zip(placed.values(), placed) if not slot[1]) - BOX[0] / 2 - MARGIN
    top = -BOX[1] / 2 - MARGIN
    return {slot: (round(x - left, 1), round(y - top, 1)) for slot, (x, y) in placed.items()}


def arrow(name: str, other: str, where: Dict[Slot, Tuple[float, float]]) -> str:
    """Path of an arrow from the top of a folder, through its gaps, to the bottom of one that it imports."""
    x, y = where[name, ""]
    path = [f"M{x:g} {y - BOX[1] / 2:g}"]
    through = [where[slot] for slot in where if slot[1] == other and slot[0].split(":")[0] == name]
    for gap_x, gap_y in sorted(through, key=lambda place: -place[1]):
        path += [_curve(x, y - BOX[1] / 2, gap_x, gap_y + BOX[1] / 2), f"V{gap_y - BOX[1] / 2:g}"]
        x, y = gap_x, gap_y
    to_x, to_y = where[other, ""]
    return " ".join([*path, _curve(x, y - BOX[1] / 2, to_x, to_y + BOX[1] / 2 + 2)])


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = (y - to_y) * 0.6
    return f"C{x:g} {y - bend:g} {to_x:g} {to_y + bend:g} {to_x:g} {to_y:g}"


def svg() -> str:
    """The picture."""
    graph = without_detours(folders())
    where = places(graph)
    width = max(x for (x, _), slot in zip(where.values(), where) if not slot[1]) + BOX[0] / 2 + MARGIN
    height = max(y for _, y in where.values()) + BOX[1] / 2 + MARGIN
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
             f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">',
             '<title>Imports between the folders of pycaffe_tools</title>',
             '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
             'orient="auto"><path d="M0 0 8 4 0 8z" fill="#4a6785"/></marker></defs>',
             f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>']
    for name in sorted(graph):
        for other in sorted(graph[name]):
            lines.append(f'<path d="{arrow(name, other, where)}" fill="none" stroke="#4a6785" stroke-width="1.4" '
                         f'marker-end="url(#head)"/>')
    for name in sorted(graph):
        x, y = where[name, ""]
        lines += [f'<rect x="{x - BOX[0] / 2:g}" y="{y - BOX[1] / 2:g}" width="{BOX[0]}" height="{BOX[1]}" rx="7" '
                  f'fill="#eaf1f8" stroke="#4a6785"/>',
                  f'<text x="{x:g}" y="{y - 1:g}" font-size="15" font-weight="bold" text-anchor="middle" '
                  f'fill="#1d2b3a">{name}</text>',
                  f'<text x="{x:g}" y="{y + 15:g}" font-size="11" text-anchor="middle" fill="#51606f">'
                  f'{CONTENT[name]}</text>']
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == svg() else
                 f"{PICTURE}: is not of today's imports; run `make docs`")
    PICTURE.write_text(svg(), encoding="utf-8")
    print(f"wrote {PICTURE}")

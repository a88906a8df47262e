"""The figures of a training run: from Caffe's log to ``train.csv`` and ``train.png``."""

from __future__ import annotations

import csv
from typing import Any, Dict, Iterable, List, Mapping, Optional

from ..base.files import PathLike, atomic_file
from ..nets.running.process import LogEvent, LogReader

COLUMNS = ("iteration", "loss", "lr", "test_loss", "accuracy")

Rows = Dict[int, Dict[str, float]]


def collect(lines: Iterable[str]) -> Rows:
    """Figures of a log by iteration; where a resumed run repeats an iteration the later figure stands."""
    reader = LogReader()
    rows: Rows = {}
    for line in lines:
        event = reader.read(line)
        if event:
            add(rows, event)
    return rows


def add(rows: Rows, event: LogEvent) -> None:
    """Enter one event in its iteration's row."""
    if event.kind in COLUMNS:
        rows.setdefault(event.iteration, {})[event.kind] = event.value


def write_csv(path: PathLike, rows: Mapping[int, Mapping[str, float]]) -> None:
    """Write one line an iteration, with empty cells where Caffe said nothing."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        for iteration in sorted(rows):
            table.writerow({"iteration": iteration, **{key: f"{value:.6g}" for key, value in rows[iteration].items()}})


def read_csv(path: PathLike) -> List[Dict[str, float]]:
    """Read what :func:`write_csv` wrote; cells that are empty are left out of their row."""
    with open(path, newline="", encoding="utf-8") as stream:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(stream)]


def draw(path: PathLike, rows: Mapping[int, Mapping[str, float]], title: str) -> bool:
    """Draw loss and validation accuracy against the iteration as PNG; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), constrained_layout=True)
    loss_axes = figure.add_subplot()
    accuracy_axes = loss_axes.twinx()
    _line(loss_axes, rows, "loss", "training loss", "tab:blue")
    _line(loss_axes, rows, "test_loss", "validation loss", "tab:cyan", "o-")
    _line(accuracy_axes, rows, "accuracy", "validation accuracy", "tab:red", "s-", 100)
    loss_axes.set(xlabel="iteration", ylabel="mean softmax loss", title=title)
    loss_axes.set_ylim(bottom=0)
    accuracy_axes.set(ylabel="validation accuracy (%)")
    handles = [line for axes in (loss_axes, accuracy_axes) for line in axes.get_lines()]
    loss_axes.legend(handles=handles, loc="center right", frameon=False)
    with atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(str(temporary), dpi=120, format="png")
    return True


def _line(axes: Any, rows: Mapping[int, Mapping[str, float]], key: str, label: str, colour: str,
          style: str = "-", factor: float = 1) -> None:
    at = [iteration for iteration in sorted(rows) if key in rows[iteration]]
    if at:
        axes.plot(at, [factor * rows[iteration][key] for iteration in at], style, color=colour, label=label,
                  markersize=4)


def last(rows: Mapping[int, Mapping[str, float]], key: str) -> Optional[float]:
    """The figure of the highest iteration that has one; None if none has."""
    for iteration in sorted(rows, reverse=True):
        if key in rows[iteration]:
            return rows[iteration][key]
    return None

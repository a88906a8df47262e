"""Reliability diagrams: how often a pixel of a given probability is membrane."""

from __future__ import annotations

from typing import Mapping, Sequence

from ..base.errors import UserError
from ..base.fields import read_fields
from ..base.files import PathLike
from ..evaluate.reliability import Bin, expected_calibration_error
from .panels import COLOURS, new_figure, save_figure


def read_reliability(path: PathLike) -> Sequence[Bin]:
    """The bins in a file of :mod:`pycaffe_tools.evaluate`.

    Raises
    ------
    UserError : it has none.
    """
    fields = read_fields(path)
    if not fields.has("reliability"):
        raise UserError(f"{path}: holds no reliability; make it with python -m pycaffe_tools.evaluate --reliability --json FILE")
    return [Bin(part.number("predicted", 0.0, 1.0), part.number("observed", 0.0, 1.0), part.whole("pixels", 1))
            for part in fields.fields("reliability").objects("bins")]


def draw_reliability(maps: Mapping[str, Sequence[Bin]], out: PathLike) -> None:
    """Draw the bins of some maps, by name, and the diagonal on which probabilities mean what they say."""
    figure = new_figure(4.6, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    for (name, bins), colour in zip(maps.items(), COLOURS):
        axes.plot([part.predicted for part in bins], [part.observed for part in bins], marker="o", markersize=4, color=colour,
                  label=f"{name}: error {expected_calibration_error(bins):.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of membrane in the map", ylabel="share that is membrane",
             aspect="equal")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    save_figure(figure, out)

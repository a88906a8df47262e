"""Pictures side by side: Figure 4, and the panels that other figures are made of."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, atomic_file
from ..volumes.overlay import overlay

DPI = 130
COLOURS = ("black", "tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")


def new_figure(width: float, height: float) -> Any:
    """An empty figure, width and height in inches.

    Raises
    ------
    UserError : matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib: is not installed here; run `make env`, or install matplotlib") from None
    return Figure(figsize=(width, height), constrained_layout=True)


def save_figure(figure: Any, path: PathLike) -> None:
    """Write a figure as PNG; equal figures are equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    with atomic_file(path) as temporary:
        # Matplotlib would add its version.
        FigureCanvasAgg(figure).print_figure(str(temporary), dpi=DPI, format="png", metadata={"Software": None})


def draw_panels(panels: Sequence[Tuple[str, np.ndarray]], out: PathLike, columns: int = 3) -> None:
    """Draw 2-D images with titles side by side.

    ``panels`` holds pairs of title and image: bool as black and white, float
    as a probability from 0 to 1, H x W x 3 in colour, integers stretched to
    their own range.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height, width = panels[0][1].shape[:2]
    figure = new_figure(3.4 * columns, rows * (3.4 * height / width + 0.3))
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.set_axis_off()
    for axes, (title, image) in zip(figure.axes, panels):
        limits = (0, 1) if image.dtype.kind in "fb" else (None, None)
        axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axes.set_title(title, fontsize=9)
    save_figure(figure, out)


def on_grey(grey: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A slice with the outline of a mask on it: uint8, Y x X x 3."""
    low, high = np.percentile(grey, (0.5, 99.5))
    return overlay(grey, mask, (float(low), float(high)))


def draw_figure_4(raw: np.ndarray, maps: Mapping[str, Tuple[np.ndarray, float]], out: PathLike) -> None:
    """Draw probability maps and their segmentations under the input, as in Figure 4.

    Parameters
    ----------
    raw : the slice, Y x X.
    maps : for each net its probabilities (float, Y x X) and its threshold.
    out : PNG to write.
    """
    panels: List[Tuple[str, np.ndarray]] = []
    for name, (probability, threshold) in maps.items():
        panels += [("input", raw), (f"{name}: probability", probability),
                   (f"{name}: membrane above {threshold:.2f}", probability >= threshold)]
    draw_panels(panels, out)

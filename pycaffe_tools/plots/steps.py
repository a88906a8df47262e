"""Pictures: the paper's figures 3 and 4 from one's own models, and one of each step.

Everything is drawn from files that the steps wrote, without running a net.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike
from .figure_3 import draw_figure_3, read_curves
from .panels import draw_figure_4, draw_panels, on_grey

STEPS = ("1-volume.png", "2-patches.png", "3-training.png", "4-pruning.png", "5-retraining.png", "6-segmentation.png",
         "overview.png")
"""The pictures that :func:`draw_steps` draws."""


def draw_steps(runs: PathLike, data: PathLike, raw: PathLike, labels: PathLike, slice_number: int, out: PathLike,
               pruned: str = "N7") -> None:
    """Draw one picture of each step of the pipeline into ``out``, and ``overview.png`` of them all.

    Parameters
    ----------
    runs : folder with the models N, ``<pruned>-pruned`` and ``<pruned>``, each with ``probabilities.tif`` of the
        one slice ``slice_number``.
    data : their patch database.
    raw, labels : the stack and its labels.

    Raises
    ------
    UserError : something of a step is missing, or does not belong to the rest; nothing is drawn then.
    """
    from ..nets.model import open_model
    from ..patches.database import open_database
    from ..patches.shards import read_rows
    runs, out = Path(runs), Path(out)
    grey, membrane = read_slice(raw, slice_number), read_slice(labels, slice_number) > 0
    if membrane.shape != grey.shape:
        raise UserError(f"{labels}: its slices have shape {membrane.shape}, those of {raw} {grey.shape}; give the labels of "
                        f"this stack")
    for folder in ("N", f"{pruned}-pruned", pruned):
        for name in ("probabilities.tif", *(("train.png",) if folder != f"{pruned}-pruned" else ("pruning.json",))):
            if not (runs / folder / name).is_file():
                raise UserError(f"{runs / folder / name}: there is no such file; train, prune, retrain and segment first, as "
                                f"`make demo` does")
    draw_panels([("input", grey), ("labelled membrane", on_grey(grey, membrane))], out / "1-volume.png", 2)

    database = open_database(data)
    patches, classes = read_rows(database.train, range(400), database.patch_size)
    sheets = [(f"{title}: the centre pixel is classified", _contact_sheet(patches[classes == value][:48, 0]))
              for value, title in ((1, "membrane patches"), (0, "other patches"))]
    draw_panels(sheets, out / "2-patches.png", 2)

    (out / "3-training.png").write_bytes((runs / "N" / "train.png").read_bytes())
    draw_figure_3(read_curves(pruned, runs / f"{pruned}-pruned"), out / "4-pruning.png")
    (out / "5-retraining.png").write_bytes((runs / pruned / "train.png").read_bytes())

    titles = {"N": "N", f"{pruned}-pruned": f"{pruned}, not retrained", pruned: pruned}
    maps: Dict[str, Tuple[np.ndarray, float]] = {}
    for folder, title in titles.items():
        opened = open_model(runs / folder)
        accuracy = 100 * opened.info["validation"]["accuracy"]
        maps[f"{title} ({accuracy:.1f} %)"] = (read_slice(runs / folder / "probabilities.tif", 0).astype(np.float32),
                                               opened.threshold)
    draw_figure_4(grey, maps, out / "6-segmentation.png")
    _draw_overview(grey, membrane, maps, out / "overview.png")


def _draw_overview(grey: np.ndarray, membrane: np.ndarray, maps: Mapping[str, Tuple[np.ndarray, float]],
                   out: Path) -> None:
    panels: List[Tuple[str, np.ndarray]] = []
    left = [("input", grey), ("labelled membrane", on_grey(grey, membrane))]
    for beside, name in zip(left, (list(maps)[0], list(maps)[-1])):
        probability, threshold = maps[name]
        panels += [beside, (f"{name}: probability", probability),
                   (f"{name}: segmentation", on_grey(grey, probability >= threshold))]
    draw_panels(panels, out)


def _contact_sheet(patches: np.ndarray, columns: int = 8) -> np.ndarray:
    """Patches (n x size x size, normalised) as one grey image, with a gap between them."""
    size = patches.shape[-1]
    rows = -(-len(patches) // columns)
    sheet = np.ones((rows * (size + 2), columns * (size + 2)), np.float32)
    for number, patch in enumerate(patches):
        row, column = divmod(number, columns)
        sheet[row * (size + 2):row * (size + 2) + size, column * (size + 2):column * (size + 2) + size] = np.clip(
            0.5 + patch / 5, 0, 1)
    return sheet


def read_slice(path: PathLike, number: int) -> np.ndarray:
    """One slice of a volume, counted from 0.

    Raises
    ------
    UserError : the volume has no such slice.
    """
    from ..volumes.opening import open_volume
    with open_volume(path) as volume:
        if not 0 <= number < volume.shape[0]:
            raise UserError(f"{path}: has {volume.shape[0]} slices, so there is no slice {number}; count from 0 (a map of "
                            f"some slices is counted by itself, with --prob-slice)")
        return volume.read(number)

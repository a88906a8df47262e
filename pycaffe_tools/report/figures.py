"""The figures of a report, from the logs: Figure 3's curves, Figure 4's crops."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from ..base.files import write_text
from ..nets import paper as networks
from ..plots.figure_3 import Curve, draw_figure_3
from ..plots.panels import draw_panels
from .curve import draw_curve
from .front import draw_front
from .judging.figures import Figure
from .results import Results
from .tables import run_title

# -- figures ---------------------------------------------------------------------------------------------------

def draw_figures(results: Results) -> Dict[str, bool]:
    """Draw Figures 3 and 4 as far as their logs are there; tells which."""
    folder = results.folder / "figures"
    curves = figure_3_curves(results)
    if curves:
        draw_figure_3(curves, folder / "figure3.png", folder / "figure3.csv")
    panels = figure_4_panels(results)
    if panels:
        # A network a row with its input; without one, two networks a row.
        columns = 3 if has_input(results) else 4
        draw_panels(panels, folder / "figure4.png", columns)
    licence = results.logs / "crops" / "LICENCE.txt"
    if panels and has_input(results) and licence.is_file():
        # Beside the picture too, which may be passed on by itself.
        write_text(folder / "LICENCE.txt", "figure4.png, and the report that shows it, hold a micrograph:\n"
                   + licence.read_text(encoding="utf-8"))
    return {"figure3": bool(curves), "figure4": bool(panels), "front": draw_front(results),
            "curve": draw_curve(results)}


def figure_3_curves(results: Results) -> List[Curve]:
    """Loss along the orders of each network, layer by layer: of the first seed, or the mean over all that hold out their own."""
    seeds = results.seeds if results.has_folds else results.seeds[:1]
    found = {}
    for net in results.nets:
        names = [f"figure3-s{seed}" if net == "N" else f"{net}-loss-s{seed}-pruned" for seed in seeds]
        found[net] = [orderings for orderings in map(results.orderings, names) if orderings]
    return [_mean_curve(net, layer, [[seed["layers"][layer]["loss_before"], *seed["layers"][layer]["loss"]] for seed in by_seed])
            for layer in networks.PRUNED_LAYERS for net, by_seed in found.items() if by_seed]


def _mean_curve(net: str, layer: str, curves: List[List[float]]) -> Curve:
    """The mean over seeds with the 95 % interval of each of its points."""
    length = min(map(len, curves))
    points = [Figure("", tuple(curve[number] for curve in curves)) for number in range(length)]
    if len(curves) == 1:
        return Curve(net, layer, curves[0])
    low, high = zip(*(point.interval() for point in points))
    return Curve(net, layer, [point.value for point in points], (list(low), list(high)))


def has_input(results: Results) -> bool:
    """Whether the crop of the micrograph may be shown, and is there."""
    return bool(results.plan["data_set"]["licence"]) and (results.logs / "crops" / "input.png").is_file()


def figure_4_panels(results: Results) -> List[Tuple[str, np.ndarray]]:
    """Input (where it may be shown), probability and mask for N, N7 by loss and N7 by sparsity."""
    seed = results.plan["scale"]["seeds"][0]
    runs = [f"N-s{seed}"] + [f"{networks.SMALLEST}-{criterion}-s{seed}" for criterion in ("loss", "apoz", "l1")]
    panels: List[Tuple[str, np.ndarray]] = []
    for run in runs:
        scores, crop = results.scores(run), results.logs / "crops" / f"{run}.png"
        if scores is None or not crop.is_file():
            continue
        threshold = (scores.get("at_best_f1") or {"threshold": 0.5})["threshold"]
        if "across_slices" in scores:       # what is shown did not choose its own threshold
            threshold = scores["across_slices"]["thresholds"][str(scores["slices"][0])]
        probability = _read_png(crop).astype(np.float32) / 255
        if has_input(results):
            panels.append(("input", _read_png(results.logs / "crops" / "input.png")))
        panels += [(f"{run_title(run)}: probability", probability),
                   (f"{run_title(run)}: membrane from {threshold:.2f}", probability >= threshold)]
    return panels


def _read_png(path: Path) -> np.ndarray:
    from PIL import Image
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))

"""Figure 3: training loss against the number of discarded features, layer by layer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..base.errors import UserError
from ..base.fields import read_fields
from ..base.files import PathLike, atomic_file
from ..ordering.ordering import read_ordering, read_steps
from .panels import COLOURS, new_figure, save_figure


class Curve(NamedTuple):
    """Loss of one net against the number of features discarded from one layer (Figure 3)."""

    net: str
    layer: str
    losses: List[float]
    """Mean loss with 0, 1, 2 ... features discarded."""
    band: Optional[Tuple[List[float], List[float]]] = None
    """Lower and upper ends of an interval of each, where there are several seeds."""


def read_curves(net: str, source: PathLike) -> List[Curve]:
    """Curves of one net from a folder of ordering files (``c1.json`` ...) or a pruned model directory.

    Raises
    ------
    UserError : there is neither.
    """
    source = Path(source)
    if (source / "pruning.json").is_file():
        pruning = read_fields(source / "pruning.json")
        if not pruning.has("layers") or pruning.has("global"):
            raise UserError(f"{source}: was pruned in the global order or in rounds, so it has no curve for each layer; make "
                            f"orderings of it with python -m pycaffe_tools.ordering --all-layers")
        layers = pruning.objects("layers")
        return [Curve(net, layer.text("layer"), [layer.number("loss_before")] + [
            step.loss for step in read_steps(layer.objects("steps"), layer.whole("features", 1))]) for layer in layers]
    files = [source] if source.is_file() else sorted(source.glob("*.json"))
    orderings = [read_ordering(file) for file in files]
    if not orderings:
        raise UserError(f"{source}: holds neither ordering files nor a pruning.json; "
                        f"make them with python -m pycaffe_tools.ordering or .prune")
    return [Curve(net, ordering.layer, [ordering.loss_before] + [step.loss for step in ordering.steps])
            for ordering in orderings]


def draw_figure_3(curves: Sequence[Curve], out: PathLike, table: Optional[PathLike] = None) -> None:
    """Draw loss against the number of discarded features: one panel a layer, one line a net.

    Parameters
    ----------
    curves : what to draw.
    out : PNG to write.
    table : CSV of the same numbers to write, if given.
    """
    layers = list(dict.fromkeys(curve.layer for curve in curves))
    nets = list(dict.fromkeys(curve.net for curve in curves))
    columns = min(len(layers), 2)
    rows = -(-len(layers) // columns)
    figure = new_figure(4.6 * columns, 3.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for number, panel in enumerate(panels.ravel()):
        if number >= len(layers):
            panel.set_axis_off()
            continue
        for curve in curves:
            if curve.layer == layers[number]:
                panel.plot(range(len(curve.losses)), curve.losses, label=curve.net, linewidth=1.3,
                           color=COLOURS[nets.index(curve.net) % len(COLOURS)])
                if curve.band is not None:
                    panel.fill_between(range(len(curve.losses)), *curve.band, alpha=0.12, linewidth=0,
                                       color=COLOURS[nets.index(curve.net) % len(COLOURS)])
        panel.set(title=f"({'abcdefghij'[number]}) {layers[number]} layer", xlabel="discarded features",
                  ylabel="training loss")
        panel.grid(alpha=0.25)
    panels[0, 0].legend(frameon=False, fontsize=8)
    save_figure(figure, out)
    if table is not None:
        with atomic_file(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            banded = any(curve.band is not None for curve in curves)
            writer.writerow(["net", "layer", "discarded", "loss"] + (["low", "high"] if banded else []))
            for curve in curves:
                ends = list(zip(*curve.band)) if curve.band is not None else [("", "")] * len(curve.losses)
                # Six digits of an interval: more would depend on the version of scipy.
                writer.writerows([curve.net, curve.layer, discarded, f"{loss:.9g}"]
                                 + ([f"{end:.6g}" if end != "" else "" for end in ends[discarded]] if banded else [])
                                 for discarded, loss in enumerate(curve.losses))

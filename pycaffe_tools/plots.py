"""Pictures: the paper's figures 3 and 4 from one's own models, and one of each step.

Everything is drawn from files that the steps wrote, without running a net.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np

from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.files import PathLike, atomic_file, read_json, refuse_existing, require_ending
from .base.ranges import parse_region
from .ordering.ordering import read_ordering
from .volumes.overlay import overlay

DPI = 130
COLOURS = ("black", "tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")


class Curve(NamedTuple):
    """Loss of one net against the number of features discarded from one layer (Figure 3)."""

    net: str
    layer: str
    losses: List[float]
    """Mean loss with 0, 1, 2 ... features discarded."""


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib: is not installed here; run `make env`, or install matplotlib") from None
    return Figure(figsize=(width, height), constrained_layout=True)


def _save(figure: Any, path: PathLike) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    with atomic_file(path) as temporary:
        # Without the date and version that matplotlib adds, equal figures are equal bytes.
        FigureCanvasAgg(figure).print_figure(str(temporary), dpi=DPI, format="png", metadata={"Software": None})


# -- Figure 3 --------------------------------------------------------------------------------------------------

def read_curves(net: str, source: PathLike) -> List[Curve]:
    """Curves of one net from a folder of ordering files (``c1.json`` ...) or a pruned model directory.

    Raises
    ------
    UserError : there is neither.
    """
    source = Path(source)
    if (source / "pruning.json").is_file():
        orderings = read_json(source / "pruning.json")["layers"]
        return [Curve(net, entry["layer"], [entry["loss_before"]] + [step["loss"] for step in entry["steps"]])
                for entry in orderings]
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
    figure = _figure(4.6 * columns, 3.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for number, panel in enumerate(panels.ravel()):
        if number >= len(layers):
            panel.set_axis_off()
            continue
        for curve in curves:
            if curve.layer == layers[number]:
                panel.plot(range(len(curve.losses)), curve.losses, label=curve.net, linewidth=1.3,
                           color=COLOURS[nets.index(curve.net) % len(COLOURS)])
        panel.set(title=f"({'abcdefghij'[number]}) {layers[number]} layer", xlabel="discarded features",
                  ylabel="training loss")
        panel.grid(alpha=0.25)
    panels[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, out)
    if table is not None:
        with atomic_file(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["net", "layer", "discarded", "loss"])
            writer.writerows([curve.net, curve.layer, discarded, f"{loss:.9g}"]
                             for curve in curves for discarded, loss in enumerate(curve.losses))


# -- images ----------------------------------------------------------------------------------------------------

def draw_panels(panels: Sequence[Tuple[str, np.ndarray]], out: PathLike, columns: int = 3) -> None:
    """Draw 2-D images with titles side by side.

    ``panels`` holds pairs of title and image: bool as black and white, float
    as a probability from 0 to 1, H x W x 3 in colour, integers stretched to
    their own range.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height, width = panels[0][1].shape[:2]
    figure = _figure(3.4 * columns, rows * (3.4 * height / width + 0.3))
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.set_axis_off()
    for axes, (title, image) in zip(figure.axes, panels):
        limits = (0, 1) if image.dtype.kind in "fb" else (None, None)
        axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axes.set_title(title, fontsize=9)
    _save(figure, out)


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


# -- one picture of each step ------------------------------------------------------------------------------------

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
    from .nets.model import open_model
    from .patches.database import open_database, read_rows
    runs, out = Path(runs), Path(out)
    grey, membrane = _read_slice(raw, slice_number), _read_slice(labels, slice_number) > 0
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
    patches, classes = read_rows(database.train, range(400))
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
        maps[f"{title} ({accuracy:.1f} %)"] = (_read_slice(runs / folder / "probabilities.tif", 0).astype(np.float32),
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
    """Patches (n x 32 x 32, normalised) as one grey image, with a gap between them."""
    size = patches.shape[-1]
    rows = -(-len(patches) // columns)
    sheet = np.ones((rows * (size + 2), columns * (size + 2)), np.float32)
    for number, patch in enumerate(patches):
        row, column = divmod(number, columns)
        sheet[row * (size + 2):row * (size + 2) + size, column * (size + 2):column * (size + 2) + size] = np.clip(
            0.5 + patch / 5, 0, 1)
    return sheet


# -- command line ------------------------------------------------------------------------------------------------

@click.group(context_settings=OPTIONS)
def cli() -> None:
    """Draw the paper's figures from one's own models.

    \b
    plots fig3 --net N=orderings/N --net N7=runs/N7-pruned -o fig3.png --csv fig3.csv
    plots fig4 --raw stack.tif --slice 6 --net N=runs/N/probabilities.tif@0.5 -o fig4.png
    """


def _named(values: Sequence[str], option: str) -> Dict[str, str]:
    named = dict(value.split("=", 1) for value in values if value.find("=") > 0)
    if len(named) != len(values):
        raise UserError(f"{option}: write NAME=PATH, each name once")
    return named


@cli.command("fig3", context_settings=OPTIONS)
@click.option("--net", "nets", multiple=True, required=True, metavar="NAME=DIR",
              help="Folder of ordering files, or pruned model directory; several may be given.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="PNG to write.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Also write the numbers.")
@click.option("--force", is_flag=True, help="Replace what exists.")
def fig3(nets: Sequence[str], out: Path, table: Optional[Path], force: bool) -> None:
    """Loss against the number of discarded features, one panel a layer, one line a net (Figure 3)."""
    require_ending(out, ".png")
    for path in filter(None, (out, table)):
        refuse_existing(path, force)
    curves = [curve for name, source in _named(nets, "--net").items() for curve in read_curves(name, source)]
    draw_figure_3(curves, out, table)
    click.echo(f"wrote {out}" + (f" and {table}" if table else ""))


@cli.command("fig4", context_settings=OPTIONS)
@click.option("--raw", required=True, type=click.Path(path_type=Path), help="The stack.")
@click.option("--slice", "slice_number", default=0, help="Slice of the stack, counted from 0.")
@click.option("--net", "nets", multiple=True, required=True, metavar="NAME=PROB@T",
              help="Probability stack and threshold, in the order of the rows.")
@click.option("--prob-slice", default=None, type=int, help="Slice of the probability stacks  [default: --slice]")
@click.option("--crop", metavar="Y0:Y1,X0:X1", help="Part to show.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="PNG to write.")
@click.option("--force", is_flag=True, help="Replace what exists.")
def fig4(raw: Path, slice_number: int, nets: Sequence[str], prob_slice: Optional[int], crop: Optional[str],
         out: Path, force: bool) -> None:
    """Input, probability map and segmentation of each net (Figure 4)."""
    require_ending(out, ".png")
    refuse_existing(out, force)
    image = _read_slice(raw, slice_number)
    part = parse_region(crop, image.shape).slices
    maps = {}
    for name, text in _named(nets, "--net").items():
        path, _, threshold = text.rpartition("@")
        if not path or not _is_probability(threshold):
            raise UserError(f"--net {name}={text}: write PROB@T, the stack and the threshold from 0 to 1")
        maps[name] = (_read_slice(path, slice_number if prob_slice is None else prob_slice)[part], float(threshold))
    image = image[part]
    for name, (probability, _) in maps.items():
        if probability.shape != image.shape:
            raise UserError(f"--net {name}: its slice has shape {probability.shape}, the input's {image.shape}; give a "
                            f"map of the whole slice")
    draw_figure_4(image, maps, out)
    click.echo(f"wrote {out}")


def _is_probability(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _read_slice(path: PathLike, number: int) -> np.ndarray:
    from .volumes.opening import open_volume
    with open_volume(path) as volume:
        if not 0 <= number < volume.shape[0]:
            raise UserError(f"{path}: has {volume.shape[0]} slices, so there is no slice {number}; count from 0 (a map of "
                            f"some slices is counted by itself, with --prob-slice)")
        return volume.read(number)


@cli.command("steps", context_settings=OPTIONS)
@click.argument("runs", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Patch database.")
@click.option("--raw", required=True, type=click.Path(path_type=Path), help="The stack.")
@click.option("--labels", required=True, type=click.Path(path_type=Path), help="Its labels.")
@click.option("--slice", "slice_number", default=0, help="The slice that was segmented, counted from 0.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the pictures.")
@click.option("--force", is_flag=True, help="Replace pictures that exist.")
def steps(runs: Path, data: Path, raw: Path, labels: Path, slice_number: int, out: Path, force: bool) -> None:
    """One picture of each step, from volume to segmentation, as `make demo` shows them."""
    for name in STEPS:
        refuse_existing(out / name, force)
    draw_steps(runs, data, raw, labels, slice_number, out)
    click.echo(f"wrote pictures of each step to {out}")


if __name__ == "__main__":
    run(cli, "plots")

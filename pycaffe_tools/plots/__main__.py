"""The command ``python -m pycaffe_tools.plots``."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Sequence

import click

from ..base.command import OPTIONS, run
from ..base.errors import UserError
from ..base.files import refuse_existing, require_ending
from ..base.ranges import parse_region
from .figure_3 import draw_figure_3, read_curves
from .panels import draw_figure_4
from .reliability import draw_reliability, read_reliability
from .steps import STEPS, draw_steps, read_slice


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


@cli.command("reliability", context_settings=OPTIONS)
@click.option("--scores", multiple=True, required=True, metavar="NAME=JSON",
              help="What evaluate --reliability --json wrote; several may be given.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="PNG to write.")
@click.option("--force", is_flag=True, help="Replace what exists.")
def reliability(scores: Sequence[str], out: Path, force: bool) -> None:
    """How often a pixel of a given probability is membrane, one line a map."""
    require_ending(out, ".png")
    refuse_existing(out, force)
    draw_reliability({name: read_reliability(source) for name, source in _named(scores, "--scores").items()}, out)
    click.echo(f"wrote {out}")


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
    image = read_slice(raw, slice_number)
    part = parse_region(crop, image.shape).slices
    maps = {}
    for name, text in _named(nets, "--net").items():
        path, _, threshold = text.rpartition("@")
        if not path or not _is_probability(threshold):
            raise UserError(f"--net {name}={text}: write PROB@T, the stack and the threshold from 0 to 1")
        maps[name] = (read_slice(path, slice_number if prob_slice is None else prob_slice)[part], float(threshold))
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

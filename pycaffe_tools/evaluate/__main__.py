"""The command ``python -m pycaffe_tools.evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Optional

import click

from ..base.command import OPTIONS, FiniteRange, run
from ..base.files import refuse_existing, refuse_inputs, require_ending, write_json
from ..patches.labels import KINDS, RIM, LabelCoding
from ..volumes.paths import split_dataset
from .evaluation import Evaluation, evaluate
from .reliability import expected_calibration_error


def report(result: Evaluation) -> str:
    """The numbers as lines for people."""
    lines = [f"{len(result.slices)} slices, {sum(result.counts):,} pixels"
             + (f" ({result.excluded:,} more left out)" if result.excluded else "")
             + f", {100 * result.positive_fraction:.2f} % membrane"]
    columns = [(f"at {result.threshold:.4g}", result.counts)]
    if result.best is not None and result.best_counts is not None:
        columns.append((f"at {result.best.threshold:.4f} (best F1)", result.best_counts))
    if result.across is not None:
        columns.append(("across slices", result.across.counts))
    lines.append(" " * 18 + "".join(f"{head:>22}" for head, _ in columns))
    for name in columns[0][1].scores():
        title = "F1" if name == "f1" else name.replace("_", " ")
        lines.append(f"{title:18}" + "".join(f"{_number(counts.scores()[name]):>22}" for _, counts in columns))
    error = f" (within {result.auc_error:.1g})" if result.auc_error >= 5e-5 else ""
    lines.append(f"{'AUC':18}{_number(result.auc):>22}{error}")
    if result.reliability is not None:
        lines.append(f"{'calibration error':18}{_number(expected_calibration_error(result.reliability)):>22} (mean distance of "
                     f"probability and share of membrane)")
    for name, title in (("v_rand", "V-Rand"), ("v_info", "V-Info")):
        if result.segments is not None:
            best = result.segments[name]
            lines.append(f"{title:18}{_number(best.score):>22} (split {_number(best.split)}, merge "
                         f"{_number(best.merge)}, at {best.threshold:.1f}, the best of 0, 0.1 ... 1)")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.4f}"


@click.command(context_settings=OPTIONS)
@click.argument("prob", type=str)
@click.argument("labels", type=str)
@click.option("--labels-are", type=click.Choice(KINDS), default="membrane",
              help="What LABELS mark: membrane; filled mitochondria, whose outline is used; or, every object with a "
                   "number of its own, cells between membranes of 0 (instances) or mitochondria.")
@click.option("--membrane-value", type=int,
              help="Value that marks it in LABELS. [default: the one value that is not 0; 0 for instances]")
@click.option("--ignore-value", "ignore_values", type=int, multiple=True, metavar="VALUE",
              help="Value in LABELS of pixels that are not evaluated; may be repeated.")
@click.option("--rim", type=FiniteRange(min=1), default=RIM, help="Pixels of a mitochondrion's outline.")
@click.option("--add-labels", metavar="FILE", help="A second label file, whose membrane counts as well.")
@click.option("--exclude", metavar="MASK", help="What is not 0 here is not evaluated.")
@click.option("--slices", metavar="A:B", help="Slices of LABELS, half-open: 6:8 or 0:4,9. PROB may hold only these. "
              "[default: all that PROB holds]")
@click.option("--crop", metavar="Y0:Y1,X0:X1", help="Part of each slice that PROB holds, as segment's --crop. "
              "[default: what the provenance record beside PROB says]")
@click.option("--full-scale", type=FiniteRange(0, min_open=True), metavar="VALUE",
              help="Value of PROB that is probability 1, such as 100 for percent. [default: 1, for uint8 255]")
@click.option("--ignore-slice-names", is_flag=True,
              help="Take slices of folders in order, although the numbers in their names differ.")
@click.option("--axes", help="Axes of the files where they are not YX or ZYX, e.g. CZYX.")
@click.option("--threshold", type=FiniteRange(0, 1), default=0.5, help="Membrane is called where the probability is at least this.")
@click.option("--rand", "segments", is_flag=True, help="V-Rand and V-Info of the cells between the membranes as well.")
@click.option("--across-slices", is_flag=True,
              help="Score each slice at the threshold of the best F1 on the others, too.")
@click.option("--reliability", "reliable", is_flag=True,
              help="How often a pixel of a given probability is membrane; plots reliability draws it from --json.")
@click.option("--thin-truth", is_flag=True, help="For --rand: thin the membranes of LABELS too, if drawn too wide.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the numbers to this file as well.")
@click.option("--force", is_flag=True, help="Replace the --json file; accept labels of which more than half is membrane.")
def cli(prob: str, labels: str, json_file: Optional[Path], force: bool, **options: Any) -> None:
    """Compare the probability map (or mask) PROB with LABELS.

    PROB is float32 from 0 to 1, or uint8 where 255 is probability 1. Accuracy,
    precision, recall and F1 are given at --threshold and at the threshold with
    the best F1 on these pixels; AUC needs none. Balanced accuracy weighs both
    classes alike, as the paper's A does.

    \b
    Examples:
      python -m pycaffe_tools.evaluate p.tif membranes.tif --slices 6:8 --rand
      python -m pycaffe_tools.evaluate p.tif mitochondria.tif --labels-are mitochondria
    """
    exclude, add_labels = options["exclude"], options["add_labels"]
    if json_file is not None:
        require_ending(json_file, ".json")
        refuse_inputs(json_file, *(split_dataset(path)[0] for path in (prob, labels, exclude, add_labels) if path))
        refuse_existing(json_file, force)
    result = evaluate(prob, labels, force=force, **options)
    if json_file is not None:
        coding = LabelCoding(options["labels_are"], options["membrane_value"])
        more = {name: options[name] for name in ("ignore_values", "full_scale") if options[name]}
        write_json(json_file, {"probability": prob, "labels": labels, "labels_are": coding.labels_are,
                               "membrane_value": coding.recorded_value, "rim": options["rim"], "exclude": exclude,
                               "add_labels": add_labels, **more, "crop": result.crop, **result.as_dict()})
    for sentence in result.warnings:
        click.echo(f"warning: {sentence}", err=True)
    click.echo(report(result))


if __name__ == "__main__":
    run(cli, "evaluate")

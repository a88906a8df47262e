"""Fit the calibration of a trained model, for models that were made before training did it itself, or for other patches."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from .base.command import OPTIONS, FiniteRange, run
from .base.files import write_json
from .nets.model import INFO, open_model
from .patches.database import open_database
from .train.calibration import fit_calibration
from .train.validation import probabilities_of


@click.command(context_settings=OPTIONS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Patch database, for its validation patches.")
@click.option("--membrane-share", type=FiniteRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Of the volumes to come. [default: that of the database's validation slices]")
def cli(model: Path, data: Path, membrane_share: Optional[float]) -> None:
    """Fit how MODEL's probabilities become those of a volume, and keep that in its model.json.

    \b
    python -m pycaffe_tools.calibrate runs/N7 --data data/patches
    python -m pycaffe_tools.segment raw.tif -o p.tif --model runs/N7 --calibrated

    A network is trained on as many membrane as other pixels, so it calls too
    much membrane where only a few percent are.  train does this by itself.
    """
    opened, database = open_model(model), open_database(data)
    database.check_patch_size(opened.patch_size, model)
    probabilities, labels = probabilities_of(opened.net(), opened.load_weights(), database.val, database.val_count)
    fitted = fit_calibration(probabilities, labels, membrane_share or database.info["class_balance"])
    write_json(opened.directory / INFO, {**opened.info, "calibration": fitted.as_json()})
    click.echo(f"{opened.directory / INFO}: temperature {fitted.temperature:.3f}, offset {fitted.offset:+.3f}, share of "
               f"membrane {100 * fitted.membrane_share:.2f} %")


if __name__ == "__main__":
    run(cli, "calibrate")

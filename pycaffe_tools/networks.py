"""The command ``python -m pycaffe_tools.networks``: writes the paper's networks and solvers as files.

What they hold stands in :mod:`pycaffe_tools.nets.paper` and nowhere else:
Table 1, the architecture of Section 2.2 and the solver of Eq. 1.  A test
compares the committed ``prototxt/`` and ``solvers/`` with it.

Source: J. Roels et al., ISBI 2017, arXiv:1810.09735.
"""

from __future__ import annotations

from pathlib import Path

import click

from .base.command import OPTIONS, run
from .base.files import write_text
from .nets.paper import RETRAINING, TABLE_1, TRAINING, deploy_prototxt, solver_prototxt, train_val_prototxt


def write_all(directory: Path) -> None:
    """Write ``prototxt/<NET>/*.prototxt`` and ``solvers/*.prototxt`` of all networks below ``directory``."""
    for name, counts in TABLE_1.items():
        write_text(directory / "prototxt" / name / "deploy.prototxt", deploy_prototxt(counts, name))
        write_text(directory / "prototxt" / name / "train_val.prototxt", train_val_prototxt(counts, name))
        write_text(directory / "solvers" / f"{name}_train.prototxt", solver_prototxt(name, TRAINING, "train"))
        write_text(directory / "solvers" / f"{name}_retrain.prototxt", solver_prototxt(name, RETRAINING, "retrain"))


@click.command(context_settings=OPTIONS)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path("."))
def cli(directory: Path) -> None:
    """Write prototxt/ and solvers/ of N and N1 to N7 below DIRECTORY (default: here)."""
    write_all(directory)
    click.echo(f"wrote {len(TABLE_1)} networks and {2 * len(TABLE_1)} solvers below {directory}")


if __name__ == "__main__":
    run(cli, "networks")

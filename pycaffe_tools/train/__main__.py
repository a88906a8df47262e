"""The command ``python -m pycaffe_tools.train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from ..base.command import OPTIONS, SEED, FiniteRange, run
from ..nets.counts import parse_counts
from .training import train


@click.command(context_settings=OPTIONS)
@click.argument("network", metavar="[NET]", required=False)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Patch database (pycaffe_tools.patches).")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model directory to make.")
@click.option("--counts", metavar="LIST", help="Own counts, such as c1=20,c2=20,c3=12,fc4=16, instead of NET.")
@click.option("--name", help="What the network of --counts is called. [default: custom-20-20-12-16]")
@click.option("--max-iter", type=click.IntRange(1, 2 ** 31 - 1), help="Iterations, instead of the committed solver's.")
@click.option("--base-lr", type=FiniteRange(0, min_open=True), help="Initial learning rate, likewise.")
@click.option("--weights", type=click.Path(path_type=Path),
              help="Caffemodel or model directory to start from; selects the retraining solver.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training; start it if there is none.")
@click.option("--gpu", type=int, help="Number of the GPU to use, for a Caffe built for GPUs.")
@click.option("--seed", type=SEED, default=1, help="Of the weight fillers.")
@click.option("--tests", type=click.IntRange(1), default=5, help="Validations on the way, after the one at the start.")
@click.option("--force", is_flag=True, help="Replace what is in the model directory.")
def cli(network: Optional[str], data: Path, out: Path, counts: Optional[str], **options: Any) -> None:
    """Train NET with Caffe: N, N1 ... N7 of Table 1, or the folder of a pruned network.

    \b
    Train the paper's network:    train N --data data/patches --out runs/N
    Retrain a pruned one:         train N7 --data data/patches --weights runs/N7-pruned --out runs/N7
    Train one of own counts:      train --counts c1=20,c2=20,c3=12,fc4=16 --data data/patches --out runs/small

    The network takes patches of the size that the database has (--patch-size of pycaffe_tools.patches).
    Killed or interrupted, the same command with --resume goes on from the last snapshot.
    """
    if (network is None) == (counts is None):
        raise click.UsageError("give what to train by exactly one of NET and --counts")
    made = train(parse_counts(counts) if counts is not None else network or "", data, out, **options)
    validation = made.info["validation"]
    click.echo(f"{out}: {made.name} with {100 * validation['accuracy']:.2f} % accuracy on "
               f"{validation['patches']} validation patches, threshold {made.threshold:.3f}")


if __name__ == "__main__":
    run(cli, "train")

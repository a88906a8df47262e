"""The command ``python -m pycaffe_tools.prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from ..base.command import OPTIONS, SEED, FiniteRange, run
from ..base.fields import read_fields
from ..base.ranges import parse_size
from ..nets.counts import parse_counts
from ..nets.model import Model, open_model
from ..ordering.ordering import CRITERIA
from .door import prune
from .pruned_model import PRUNING
from .pruner import DIRECTIONS


@click.command(context_settings=OPTIONS)
@click.argument("network", metavar="[NET]", required=False)
@click.option("--from", "source", required=True, type=click.Path(path_type=Path), help="Trained model directory.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Patch database it was trained on.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model directory to make.")
@click.option("--counts", metavar="LIST", help="Own counts, such as c1=30,c2=20,c3=10,fc4=10, instead of NET.")
@click.option("--target-parameters", metavar="SHARE", type=FiniteRange(0, 1, min_open=True),
              help="Keep at most this share of the parameters, instead of NET; the orderings decide where.")
@click.option("--max-accuracy-drop", metavar="POINTS", type=FiniteRange(0),
              help="Prune as far as the validation accuracy before retraining drops by at most so many percentage "
                   "points, instead of NET.")
@click.option("--criterion", type=click.Choice(CRITERIA), default="loss", help="What orders the features.")
@click.option("--batches", type=click.IntRange(1), default=20, help="Mini-batches of training patches for the loss.")
@click.option("--batch-size", type=click.IntRange(1), default=128, help="Patches in each.")
@click.option("--seed", type=SEED, default=0, help="Of the draw of the mini-batches.")
@click.option("--plain", is_flag=True, help="Run the net for each candidate instead of what changes: slow, for proof.")
@click.option("--full-order", is_flag=True, help="Order each layer to its end (Figure 3), not only as far as needed.")
@click.option("--direction", type=click.Choice(DIRECTIONS), default=DIRECTIONS[0],
              help="Layers are ordered from the bottom (the paper), from the top, or each on the whole network.")
@click.option("--max-memory", default="2G", help="Bound for all processes together.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Processes of one thread.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of orderings  [default: orderings in --from]")
@click.option("--force", is_flag=True, help="Replace the model directory.")
def cli(network: Optional[str], source: Path, data: Path, out: Path, counts: Optional[str],
        target_parameters: Optional[float], max_accuracy_drop: Optional[float], criterion: str, batches: int,
        batch_size: int, seed: int, plain: bool, full_order: bool, direction: str, max_memory: str, workers: int,
        cache: Optional[Path], force: bool) -> None:
    """Prune a trained network to NET of Table 1 (N1 ... N7), to own counts, or to a budget.

    \b
    prune N7 --from runs/N --data data/patches --out runs/N7-pruned
    prune --from runs/N --data data/patches --out runs/half --target-parameters 0.5

    Every step is on disk before the next: killed, the same command goes on.
    """
    if sum(target is not None for target in (network, counts, target_parameters, max_accuracy_drop)) != 1:
        raise click.UsageError("give what to prune to by exactly one of NET, --counts, --target-parameters and "
                               "--max-accuracy-drop")
    made = prune(network or (parse_counts(counts) if counts is not None else None), source, data, out,
                 target_parameters=target_parameters, max_accuracy_drop=max_accuracy_drop, criterion=criterion,
                 batches=batches, batch_size=batch_size, seed=seed, plain=plain, full_order=full_order, direction=direction,
                 workers=workers, max_memory=parse_size(max_memory), cache=cache, force=force)
    _report(open_model(source), made)


def _report(before: Model, after: Model) -> None:
    reason = read_fields(after.directory / PRUNING).get("reason")
    parameters = [model.net().parameter_count() for model in (before, after)]
    click.echo(f"{after.directory}: {reason}; "
               + ", ".join(f"{layer} {before.counts[layer]} -> {count}" for layer, count in after.counts.items()))
    old, new = ("unknown" if accuracy is None else f"{100 * accuracy:.2f}"
                for accuracy in (before.validation_accuracy, after.validation_accuracy))
    click.echo(f"parameters {parameters[0]:,} -> {parameters[1]:,} ({100 * (1 - parameters[1] / parameters[0]):.1f} % "
               f"pruned); validation accuracy {old} -> {new} % before retraining")


if __name__ == "__main__":
    run(cli, "prune")

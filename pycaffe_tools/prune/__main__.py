"""The command ``python -m pycaffe_tools.prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from ..base.command import OPTIONS, run
from ..base.errors import UserError
from ..base.fields import Fields, read_fields
from ..base.ranges import parse_size
from ..dense_plan.plan import make_plan
from ..nets.counts import parse_counts
from ..nets.model import Model, open_model
from ..nets.netgraph import NetGraph
from . import scratch
from .door import prune
from .options import order_options, round_options, target_options, time_options
from .pruned_model import PRUNING
from .rounds import work_folder

_TARGETS = ("network", "counts", "target_time", "target_speedup", "target_parameters", "target_macs")


@click.command(context_settings=OPTIONS)
@click.argument("network", metavar="[NET]", required=False)
@click.option("--from", "source", required=True, type=click.Path(path_type=Path), help="Trained model directory.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Patch database it was trained on.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model directory to make.")
@target_options
@time_options
@order_options
@round_options
@click.option("--force", is_flag=True, help="Replace the model directory, and rounds of another command beside it.")
@click.pass_context
def cli(context: click.Context, /, network: Optional[str], source: Path, data: Path, out: Path, counts: Optional[str],
        max_memory: str, **options: Any) -> None:
    """Prune a trained network to NET of Table 1 (N1 ... N7), to own counts, or to a budget.

    \b
    A network of the paper:   prune N7 --from runs/N --data data/patches --out runs/N7-pruned
    For a time you have:      prune --from runs/N --data data/patches --out runs/fast --global --target-time 4s
    Five times as fast:       ... --global --target-speedup 5
    Half the parameters:      ... --target-parameters 0.5
    As far as 1 point allows: ... --max-accuracy-drop 1
    Pruned and retrained in three rounds, or not at all if it then loses more than 1 point:
                              ... --target-time 4s --rounds 3 --retrain-iterations 3000 --max-accuracy-drop 1

    Without --rounds the result is not retrained: train --weights does that. Every step is on disk before the next:
    killed, the same command goes on; rounds are in OUT.rounds.
    """
    given = {"network": network, "counts": counts, **options}
    targets = sum(given[target] is not None for target in _TARGETS)
    if targets > 1 or not targets and options["max_accuracy_drop"] is None:
        raise click.UsageError("give what to prune to by exactly one of NET, --counts, --target-time, --target-speedup, "
                               "--target-parameters and --target-macs, or by --max-accuracy-drop, alone or besides")
    _refuse_idle(context, options)
    made = prune(network or (parse_counts(counts) if counts is not None else None), source, data, out,
                 max_memory=parse_size(max_memory), **options)
    _report(open_model(source), made, options["rounds"])


def _refuse_idle(context: click.Context, options: Any) -> None:
    """Refuse options that would do nothing, so that nobody believes they did."""
    def was_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    in_time = (options["target_time"] is not None or options["target_speedup"] is not None
               or (options["globally"] and options["cost"] in (None, "time")))
    idle = [(name, "--rounds") for name in ("retrain_iterations", "retrain_seed", "retrain_tests", "gpu") if options["rounds"] is None]
    idle += [("cost", "--global")] if not options["globally"] else []
    idle += [(name, "--target-time, --target-speedup or --global --cost time")
             for name in ("engine", "time_model", "segment_workers", "slice_shape") if not in_time]
    idle += [("direction", "the layers' own orders, not with --global")] if options["globally"] else []
    for name, needed in idle:
        if was_given(name):
            option = {"slice_shape": "--slice-size"}.get(name, "--" + name.replace("_", "-"))
            raise click.UsageError(f"{option} has a meaning only with {needed}")
    if options["globally"] and options["criterion"] != "loss":
        raise click.UsageError("--global orders all layers by the loss: --criterion has no meaning for it")
    if options["globally"] and options["full_order"]:
        raise click.UsageError("--full-order is about the layers' own orders: it has no meaning for --global")


def _report(before: Model, after: Model, rounds: Optional[int]) -> None:
    pruning = read_fields(after.directory / PRUNING)
    parameters = [model.net().parameter_count() for model in (before, after)]
    click.echo(f"{after.directory}: {pruning.get('reason')}; "
               + ", ".join(f"{layer} {before.counts[layer]} -> {count}" for layer, count in after.counts.items()))
    old, new = ("unknown" if accuracy is None else f"{100 * accuracy:.2f}"
                for accuracy in (before.validation_accuracy, after.validation_accuracy))
    click.echo(f"parameters {parameters[0]:,} -> {parameters[1]:,} ({100 * (1 - parameters[1] / parameters[0]):.1f} % "
               f"pruned); {_arithmetic(before.net(), after.net())}validation accuracy {old} -> {new} % "
               + ("before retraining" if rounds is None else f"after retraining, in {work_folder(after.directory)}"))
    if pruning.has("time"):
        click.echo(_time(pruning.fields("time")))
    warning = scratch.warning(parameters[1] / parameters[0], str(after.directory)) if rounds in (None, 1) else None
    if warning:
        click.echo(f"warning: {warning}", err=True)


def _arithmetic(before: NetGraph, after: NetGraph) -> str:
    try:
        old, new = (make_plan(net).multiply_accumulates() for net in (before, after))
    except UserError:       # no dense form
        return ""
    return f"multiply-accumulates for a pixel {old:,} -> {new:,}; "


def _time(time: Fields) -> str:
    rows, columns = time.wholes("slice")
    before, model = time.number("before"), time.number("model")
    after = time.number("measured") if time.has("measured") else model
    by = (f"measured; the model says {model:.3g} s and was up to {100 * time.number('model_error'):.0f} % off what it was fitted to"
          if time.has("measured") else f"by the model, up to {100 * time.number('model_error'):.0f} % off what it was fitted to")
    return (f"a slice of {columns}x{rows}: {before:.3g} -> {after:.3g} s, {before / after:.1f} times faster ({by}), with engine "
            f"{time.text('engine')} and {time.whole('workers')} workers on {time.text('processor')}")


if __name__ == "__main__":
    run(cli, "prune")

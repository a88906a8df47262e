"""The command ``python -m pycaffe_tools.ordering``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Optional, Union

import click

from ..base.command import OPTIONS, SEED, FiniteRange, run
from ..base.errors import UserError, naming
from ..base.files import PathLike, read_json, refuse_existing
from ..base.ranges import parse_size
from ..engines import NAMES as ENGINES
from ..nets.counts import parse_counts
from ..oracle.oracle import without_features
from .cost.names import COSTS, cost_model
from .global_order import GlobalOrdering, Stop, order_globally
from .ordering import CRITERIA, Ordering, OrderingOptions, order_layer, prunable_layers
from .sample import draw_sample


def read_removed(path: Optional[PathLike]) -> Dict[str, List[int]]:
    """Removed features by layer, from a JSON file such as ``{"c1": [3, 17]}`` or from an ordering file's folder.

    Raises
    ------
    UserError : the file is of another form.
    """
    if path is None:
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(
            isinstance(features, list) and all(isinstance(feature, int) for feature in features)
            for features in content.values()):
        raise UserError(f'{path}: must hold the numbers of the removed features by layer, like {{"c1": [3, 17]}}')
    return content


@click.command(context_settings=OPTIONS)
@click.argument("model_dir", type=click.Path())
@click.option("--data", "data_dir", required=True, type=click.Path(), help="Patch database.")
@click.option("--layer", help="Layer whose features are ordered.")
@click.option("--all-layers", is_flag=True, help="Order every layer but the last; -o is a folder then.")
@click.option("--global", "all_at_once", is_flag=True, help="Order the features of all layers together.")
@click.option("--removed", "--below", "removed_file", type=click.Path(),
              help='JSON file of features removed in other layers: {"c1": [3, 17]}.')
@click.option("--batches", type=click.IntRange(1), default=20, help="Number of mini-batches.")
@click.option("--batch-size", type=click.IntRange(1), default=128, help="Patches in a mini-batch.")
@click.option("--seed", type=SEED, default=0, help="Seed of the draw of mini-batches (and of the criterion random).")
@click.option("--criterion", default="loss", type=click.Choice(CRITERIA), help="What orders the features.")
@click.option("--plain", is_flag=True, help="Run the net for every candidate, as proof of the fast way.")
@click.option("--stop-after", type=click.IntRange(1), help="Number of features to discard; all by default.")
@click.option("--cost", type=click.Choice(COSTS), help="With --global: what a removal saves.  [default: time]")
@click.option("--time-model", type=click.Path(), metavar="FILE",
              help="With --cost time: measured times; by default in --cache, and measured if there is no such file.")
@click.option("--engine", type=click.Choice([name for name in ENGINES if name != "patch"]),
              help="Engine whose time is measured; by default the fastest installed.")
@click.option("--down-to", metavar="LIST", help="With --global: features to keep at least, such as c1=30,c2=20; else 1 each.")
@click.option("--target-cost", metavar="SHARE", type=FiniteRange(0, 1, min_open=True),
              help="With --global: end once the net costs at most this share of the whole one.")
@click.option("--max-memory", default="2G", help="Bound on the memory of all processes together.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Processes, one thread each.")
@click.option("--cache", type=click.Path(), help="Folder of the logs; MODEL_DIR/orderings by default.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Ordering file (folder with --all-layers).")
@click.option("--force", is_flag=True, help="Replace an existing ordering file.")
def cli(model_dir: str, data_dir: str, layer: Optional[str], all_layers: bool, removed_file: Optional[str], all_at_once: bool,
        batches: int, batch_size: int, seed: int, criterion: str, plain: bool, stop_after: Optional[int], cost: Optional[str],
        time_model: Optional[str], engine: Optional[str], down_to: Optional[str], target_cost: Optional[float],
        max_memory: str, workers: int, cache: Optional[str], output: str, force: bool) -> None:
    """Order the features of a layer by the training loss without them (equations 2 and 3 of the paper).

    \b
    python -m pycaffe_tools.ordering runs/N --data data/epfl --layer c1 -o c1.json
    python -m pycaffe_tools.ordering runs/N --data data/epfl --all-layers -o runs/N/figure3
    python -m pycaffe_tools.ordering runs/N --data data/epfl --global --cost time -o runs/N/global.json

    With --all-layers each layer is ordered with nothing removed below it, which is the curve of network N in
    Figure 3; with --removed the features given there are removed in the other layers.
    With --global, at each step the feature of any layer goes whose removal costs least loss for what it saves.
    A command that was interrupted goes on where it was when it is given again.
    """
    from ..nets.model import open_model
    from ..patches.database import open_database
    if [bool(layer), all_layers, all_at_once].count(True) != 1:
        raise click.UsageError("give either --layer NAME, --all-layers or --global")
    if all_at_once and (removed_file is not None or criterion != "loss"):
        raise click.UsageError("--global orders all layers by the loss: --removed and --criterion have no meaning for it")
    if not all_at_once and any(value is not None for value in (cost, time_model, engine, down_to, target_cost)):
        raise click.UsageError("--cost, --time-model, --engine, --down-to and --target-cost belong to --global")
    if cost not in (None, "time") and (time_model or engine):
        raise click.UsageError("--time-model and --engine belong to --cost time")
    model, database = open_model(model_dir), open_database(data_dir)
    database.check_patch_size(model.patch_size, model_dir)
    graph, weights, removed = model.net(), model.load_weights(), read_removed(removed_file)
    with naming(removed_file or model_dir):
        without_features(weights, removed)      # refuses what the net does not have
    layers = [layer] if layer is not None else prunable_layers(graph)
    folder = Path(cache or Path(model_dir) / "orderings")
    options = OrderingOptions(criterion, plain, workers, parse_size(max_memory), folder)
    if all_at_once:
        refuse_existing(output, force)
        model_of_cost = cost_model(cost or "time", graph, time_model, folder, engine)
        limit = None if target_cost is None else target_cost * model_of_cost.cost({})
        found = order_globally(graph, weights, draw_sample(database, batches, batch_size, seed), model_of_cost, options,
                               stop=Stop(parse_counts(down_to, "--down-to") if down_to else {}, limit, stop_after))
        _keep_or_write(found, Path(output), force)
        click.echo(_told(found, output))
        return
    files = {name: Path(output) / f"{name}.json" if all_layers else Path(output) for name in layers}
    if not all_layers:
        refuse_existing(output, force)
    sample = draw_sample(database, batches, batch_size, seed)
    for name in layers:
        lower = prunable_layers(graph)[:prunable_layers(graph).index(name)] if all_layers else list(removed)
        ordering = order_layer(
            graph, weights, name, sample, options, stop_after=stop_after,
            removed_elsewhere={key: removed[key] for key in removed if key in lower})
        _keep_or_write(ordering, files[name], force)
        click.echo(f"{files[name]}: {len(ordering.steps)} of {ordering.features} features of {name}, "
                   f"loss {ordering.loss_before:.5f} before")


def _told(ordering: GlobalOrdering, path: str) -> str:
    steps = len(ordering.steps)
    loss, cost = ((ordering.steps[-1].loss, ordering.steps[-1].cost) if steps
                  else (ordering.loss_before, ordering.cost_before))
    left = ", ".join(f"{layer} {ordering.layers[layer]} -> {count}" for layer, count in ordering.counts(steps).items())
    return (f"{path}: {steps} features of all layers, {left}; loss {ordering.loss_before:.5f} -> {loss:.5f}, "
            f"{ordering.cost['unit']} {ordering.cost_before:.4g} -> {cost:.4g}")


def _keep_or_write(ordering: Union[Ordering, GlobalOrdering], path: Path, force: bool) -> None:
    """Write an ordering file; one that an interrupted run of the same command left is the same, another is refused."""
    if path.exists() and not force and read_json(path) != json.loads(json.dumps(ordering.as_json())):
        raise UserError(f"{path}: exists already and is another ordering; choose another name, or pass --force")
    ordering.write(path)


if __name__ == "__main__":
    run(cli, "ordering")

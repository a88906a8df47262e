"""Prune a trained network as the paper does (Section 3), and prove that removing equals zeroing.

Layer by layer from the bottom, features are discarded in the order that costs
least training loss (Eq. 2 and 3), each layer on the already pruned ones below.
The pruned model is written twice: masked, with the original shapes and zeros,
and slim, with the features gone from the blobs and the counts reduced.  Both
are run on random inputs and must agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import click

from .base.command import OPTIONS, SEED, FiniteRange, run
from .base.errors import UserError
from .base.files import PathLike, atomic_directory, refuse_existing, sha256, write_json
from .base.ranges import parse_size
from .budget import Choice, parse_counts, within_accuracy_drop, within_parameters
from .nets import paper
from .nets.caffemodel import read_weights
from .nets.model import INFO, Model, finish_model, open_model
from .nets.netgraph import NetGraph, read_net
from .nets.schema import read_prototxt
from .ordering.ordering import CRITERIA, Ordering, order_layer, prunable_layers
from .ordering.sample import Sample, draw_sample
from .patches.database import Database, open_database
from .surgery.files import PRODUCTS as SURGERY_PRODUCTS, write_files
from .surgery.proof import prove
from .surgery.surgery import remove_features
from .train.validation import validate, versions

PRUNING = "pruning.json"
PRODUCTS = (*SURGERY_PRODUCTS, PRUNING, INFO)
"""What a pruned model directory holds."""


class Pruning(NamedTuple):
    """Which features go, and the orderings that say so, from the bottom layer up."""

    counts: Dict[str, int]
    orderings: List[Ordering]

    @property
    def removed(self) -> Dict[str, List[int]]:
        """Discarded features of each layer, in the order in which they went."""
        return {ordering.layer: ordering.removed(ordering.features - self.counts[ordering.layer])
                for ordering in self.orderings}

    @property
    def keep(self) -> Dict[str, List[int]]:
        """Features of each layer that stay, ascending."""
        return {ordering.layer: sorted(set(range(ordering.features)) - set(self.removed[ordering.layer]))
                for ordering in self.orderings}


class Pruner:
    """Orders the layers of one trained network, on one set of mini-batches, for whatever counts are asked for.

    Parameters
    ----------
    source : the trained model.
    sample : the mini-batches that the loss is averaged over.
    criterion, plain, workers, max_memory : see :func:`pycaffe_tools.ordering.ordering.order_layer`.
    cache : folder of orderings, shared by all networks that are pruned from ``source``.
    """

    def __init__(self, source: Model, sample: Sample, *, criterion: str = "loss", plain: bool = False,
                 workers: int = 2, max_memory: int = 2 << 30, cache: Optional[PathLike] = None):
        self.source, self.sample = source, sample
        self.net: NetGraph = source.net()
        self.weights = source.load_weights()
        self.layers = prunable_layers(self.net)
        self.features = {name: self.net.layer(name).num_output for name in self.layers}
        self._options = dict(criterion=criterion, plain=plain, workers=workers, max_memory=max_memory,
                             cache=cache or source.directory / "orderings")

    def order(self, layer: str, removed_below: Mapping[str, Sequence[int]],
              stop_after: Optional[int] = None) -> Ordering:
        """Order one layer; see :func:`pycaffe_tools.ordering.ordering.order_layer`."""
        return order_layer(self.net, self.weights, layer, self.sample, removed_below=removed_below,
                           stop_after=stop_after, **self._options)

    def prune(self, counts: Mapping[str, int], full_order: bool = False) -> Pruning:
        """Choose the features to discard so that ``counts`` remain, bottom-up (Section 3).

        Parameters
        ----------
        counts : features that stay in each layer; layers not named keep all.
        full_order : order every layer to its end, for Figure 3, not only as far as needed.

        Raises
        ------
        UserError : an unknown layer, or a count that the layer cannot have.
        """
        for name, count in counts.items():
            if not 1 <= count <= self.features.get(name, 0):
                raise UserError(f"{name}={count}: {self.source.directory} has "
                                + (f"{self.features[name]} features there; keep 1 to {self.features[name]}"
                                   if name in self.features else f"no such layer; prune {', '.join(self.layers)}"))
        wanted = {name: counts.get(name, self.features[name]) for name in self.layers}
        removed: Dict[str, List[int]] = {}
        orderings = []
        for name in self.layers:
            discard = self.features[name] - wanted[name]
            ordering = self.order(name, removed, None if full_order else discard)
            removed[name] = ordering.removed(discard)
            orderings.append(ordering)
        return Pruning(wanted, orderings)


def write_pruned(out: PathLike, name: str, pruner: Pruner, pruning: Pruning, database: Database, *,
                 reason: Optional[str] = None, force: bool = False) -> Model:
    """Write the masked and the slim model of a pruning as a model directory.

    Beside the files of every model (:mod:`pycaffe_tools.nets.model`) it holds
    ``train_val.prototxt`` for retraining, ``masked.prototxt`` and
    ``masked.caffemodel``, and ``pruning.json`` with every step.

    Raises
    ------
    UserError : ``out`` exists, or the masked and the slim model differ.
    """
    source = pruner.source
    surgery = remove_features(pruner.net, pruner.weights, pruning.keep)
    difference = prove(surgery)
    with atomic_directory(out, force) as folder:
        train_val = source.directory / "train_val.prototxt"
        write_files(folder, surgery, read_prototxt(train_val) if train_val.is_file() else None)
        _rename_net(folder, name)
        scores = validate(read_net(folder / "deploy.prototxt"), read_weights(folder / "weights.caffemodel"), database)
        write_json(folder / PRUNING, _record(pruning, reason, difference))
        finish_model(folder, name=name, normalisation=source.info["normalisation"], patch_size=source.patch_size,
                     pixel_size_nm=source.pixel_size_nm, counts=pruning.counts, threshold=scores.threshold,
                     validation=scores.as_dict(), provenance=_provenance(pruner, pruning, database))
    return open_model(out)


def _rename_net(folder: Path, name: str) -> None:
    for file in ("deploy.prototxt", "train_val.prototxt"):
        path = folder / file
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            path.write_text("".join(f'name: "{name}"\n' if line.startswith("name:") else line for line in lines),
                            encoding="utf-8")


def _record(pruning: Pruning, reason: Optional[str], difference: float) -> Dict[str, Any]:
    first = pruning.orderings[0]
    layers = []
    for ordering in pruning.orderings:
        entry = ordering.as_json()
        for shared in ("rows", "batches", "batch_size", "seed", "criterion", "weights_sha256", "format"):
            del entry[shared]
        layers.append({**entry, "kept": pruning.counts[ordering.layer]})
    return {"format": 1, "counts": pruning.counts, "reason": reason, "criterion": first.criterion,
            "loss": "mean softmax loss, without the weight penalty of Eq. 1", "seed": first.seed,
            "batches": first.batches, "batch_size": first.batch_size, "weights_sha256": first.weights_sha256,
            "masked_slim_difference": difference, "keep": pruning.keep, "layers": layers, "rows": first.rows}


def _provenance(pruner: Pruner, pruning: Pruning, database: Database) -> Dict[str, Any]:
    first = pruning.orderings[0]
    return {"step": "prune", "from": pruner.source.name, "from_weights": pruner.source.info["files"],
            "data": sha256(database.directory / "patches.json"), "criterion": first.criterion, "seed": first.seed,
            "batches": first.batches, "batch_size": first.batch_size, "versions": versions(),
            "source": "Roels et al., ISBI 2017, arXiv:1810.09735"}


def check_same_normalisation(source: Model, database: Database) -> None:
    """Refuse a patch database that was normalised otherwise than the model's own.

    Raises
    ------
    UserError : names both.
    """
    if tuple(source.normalisation) != tuple(database.normalisation):
        raise UserError(f"{database.directory}: its patches are normalised with mean and standard deviation "
                        f"{database.normalisation.mean:.4g}, {database.normalisation.std:.4g}, but {source.directory} "
                        f"was trained with {source.normalisation.mean:.4g}, {source.normalisation.std:.4g}; "
                        f"use the database that the model was trained on")


def _choose(pruner: Pruner, network: Optional[str], counts: Optional[str], target_parameters: Optional[float],
            max_accuracy_drop: Optional[float], database: Database) -> Choice:
    if network is not None:
        return Choice(paper.counts_of(network), f"{network} of Table 1")
    if counts is not None:
        return Choice(parse_counts(counts), "counts as given")
    if target_parameters is not None:
        return within_parameters(pruner, target_parameters)
    return within_accuracy_drop(pruner, max_accuracy_drop or 0.0, database)


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
@click.option("--max-memory", default="2G", help="Bound for all processes together.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Processes of one thread.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of orderings  [default: orderings in --from]")
@click.option("--force", is_flag=True, help="Replace the model directory.")
def cli(network: Optional[str], source: Path, data: Path, out: Path, counts: Optional[str],
        target_parameters: Optional[float], max_accuracy_drop: Optional[float], criterion: str, batches: int,
        batch_size: int, seed: int, plain: bool, full_order: bool, max_memory: str, workers: int,
        cache: Optional[Path], force: bool) -> None:
    """Prune a trained network to NET of Table 1 (N1 ... N7), to own counts, or to a budget.

    \b
    prune N7 --from runs/N --data data/patches --out runs/N7-pruned
    prune --from runs/N --data data/patches --out runs/half --target-parameters 0.5

    Every step is on disk before the next: killed, the same command goes on.
    """
    if sum(target is not None for target in (network, counts, target_parameters, max_accuracy_drop)) != 1:
        raise click.UsageError("say what to prune to by exactly one of NET, --counts, --target-parameters and "
                               "--max-accuracy-drop")
    if out.resolve() in [path.resolve() for given in (source, data) for path in (given, *given.absolute().parents)]:
        raise UserError(f"{out}: is or holds the model or the patches to prune from; choose another --out")
    # Asked before the work, and again when the new folder takes its place.
    refuse_existing(out, force, PRODUCTS)
    trained, database = open_model(source), open_database(data)
    check_same_normalisation(trained, database)
    pruner = Pruner(trained, draw_sample(database, batches, batch_size, seed), criterion=criterion, plain=plain,
                    workers=workers, max_memory=parse_size(max_memory), cache=cache)
    choice = _choose(pruner, network, counts, target_parameters, max_accuracy_drop, database)
    pruning = pruner.prune(choice.counts, full_order)
    name = network or f"{trained.name}-pruned"
    made = write_pruned(out, name, pruner, pruning, database, reason=choice.reason, force=force)
    _report(trained, made, choice)


def _report(before: Model, after: Model, choice: Choice) -> None:
    parameters = [model.net().parameter_count() for model in (before, after)]
    click.echo(f"{after.directory}: {choice.reason}; "
               + ", ".join(f"{layer} {before.counts[layer]} -> {count}" for layer, count in after.counts.items()))
    click.echo(f"parameters {parameters[0]:,} -> {parameters[1]:,} ({100 * (1 - parameters[1] / parameters[0]):.1f} % "
               f"pruned); validation accuracy {100 * before.info['validation']['accuracy']:.2f} -> "
               f"{100 * after.info['validation']['accuracy']:.2f} % before retraining")


if __name__ == "__main__":
    run(cli, "prune")

"""The tables of the report, from the logs of a reproduction alone: each number beside the paper's own.

:class:`Results` answers what was measured; the functions below it arrange the
answers.  What has not been run (yet) is an empty cell, so a report can be made
at any moment.
"""

from __future__ import annotations

import csv
import io
import math
from statistics import mean
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..nets import paper as networks
from .judging.figures import Figure
from .results import CRITERIA, Results

NONE = ""
"""A cell that has no number."""

WHERE_RUN = ("curve", "stability", "transfer", "front")
"""Tables that are there only where their runs are planned and done."""


class Table(NamedTuple):
    """A table for people: cells are text already."""

    name: str
    title: str
    head: List[str]
    rows: List[List[str]]

    def as_csv(self) -> str:
        """Comma-separated, with a header line."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows(self.rows)
        return stream.getvalue()

    def as_markdown(self) -> str:
        """A table of GitHub's Markdown, the first column to the left and the others to the right."""
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        return "\n".join([line(self.head), "|" + "|".join([":--"] + ["--:"] * (len(self.head) - 1)) + "|",
                          *map(line, self.rows)])


# -- cells -----------------------------------------------------------------------------------------------------

def with_interval(values: Mapping[int, float]) -> str:
    """Mean and half of its 95 % interval over the seeds, ``93.10 ± 0.50``; a single value stands alone."""
    if not values:
        return NONE
    figure = Figure("", tuple(values.values()))
    low, high = figure.interval()
    return f"{figure.value:.2f}" + (f" ± {(high - low) / 2:.2f}" if math.isfinite(high) else "")


def seeds(*values: Mapping[int, float]) -> str:
    """How many seeds the cells of a row come from; ``3, 1`` where they differ."""
    return ", ".join(dict.fromkeys(str(len(numbers)) for numbers in values if numbers))


def _number(value: Optional[float], form: str) -> str:
    return NONE if value is None else format(value, form)


# -- tables ----------------------------------------------------------------------------------------------------

def table_1(results: Results) -> Table:
    """Table 1: features kept in each layer, as found in the models; the paper's in brackets where they differ."""
    def cell(net: str, layer: str) -> str:
        size, paper = results.model_size(net), networks.TABLE_1[net][layer]
        if size is None:
            return NONE
        return str(size["counts"][layer]) + ("" if size["counts"][layer] == paper else f" ({paper})")

    nets = results.nets
    return Table("table1", "Table 1. Features kept in each layer (a number of the paper's that differs would stand in "
                 "brackets)", ["layer"] + nets,
                 [[layer] + [cell(net, layer) for net in nets] for layer in networks.PRUNED_LAYERS])


def table_2_accuracy(results: Results) -> Table:
    """Table 2, A: after retraining and before, beside the paper's."""
    rows = []
    trained = results.accuracies("N", None)
    for net in results.nets:
        paper = networks.TABLE_2[net]
        if net == "N":
            after: List[Dict[int, float]] = [trained, {}, {}]
            before: List[Dict[int, float]] = [{}, {}, {}]
        else:
            after, before = ([results.accuracies(net, criterion, before=early) for criterion in CRITERIA[:3]]
                             for early in (False, True))
        lost = {seed: trained[seed] - value for seed, value in after[0].items() if seed in trained and net != "N"}
        loss, apoz, l1 = map(with_interval, after)
        rows.append([net, loss, f"{paper.accuracy_loss:.2f}", with_interval(lost), apoz, l1, f"{paper.accuracy_sparsity:.2f}",
                     *map(with_interval, before), seeds(*after, *before)])
    return Table("table2-accuracy",
                 "Table 2, accuracy A in percent on the validation patches (mean ± half of the 95 % interval of Student's t over the "
                 "seeds; what is lost is against N of the same seeds)",
                 ["net", "A loss", "paper", "lost", "A APoZ", "A L1", "paper [16]", "before retraining: loss", "APoZ", "L1",
                  "seeds"], rows)


def table_2_cost(results: Results) -> Table:
    """Table 2, time and size, beside the paper's."""
    rows = []
    full = results.model_size("N")
    for net in results.nets:
        paper, size, time = networks.TABLE_2[net], results.model_size(net), results.time(net)
        pruned = 100 * (1 - size["parameters"] / full["parameters"]) if size and full else None
        rows.append([net, _number(time["patch"]["seconds"] if time else None, ",.0f"),
                     _number(time["dense"]["seconds"] if time else None, ".1f"), f"{paper.seconds:.1f}",
                     _number(pruned, ".1f"), f"{paper.pruned_percent:.1f}",
                     _number(size["memory_bytes"] / 1024 if size else None, ".1f"), str(paper.memory_kilobytes),
                     _number(size["multiply_accumulates"] / 1e6 if size else None, ".2f"),
                     _number(size["parameters"] if size else None, ",d")])
    return Table("table2-cost",
                 "Table 2, time for one slice of 3069 x 2301 pixels in seconds on one core of this machine's processor, "
                 "and size",
                 ["net", "T patch by patch", "T dense", "paper (GPU)", "pruned %", "paper", "M kB", "paper",
                  "million MACs a patch", "parameters"], rows)


def table_summary(results: Results) -> Table:
    """Table 2 in one piece, for the README: its columns of accuracy, time and size out of the two tables above."""
    accuracy, cost = table_2_accuracy(results), table_2_cost(results)
    times_and_size = (1, 2, 3, 4, 6)
    return Table("summary", "Table 2 in short: accuracy in percent, seconds for one slice on one core, size",
                 ["net", "A by loss", "paper", "lost", "A by APoZ", "A by L1", "paper [16]", "seeds", "T patch by patch", "T dense",
                  "paper (GPU)", "pruned %", "M kB"],
                 [first[:7] + first[-1:] + [second[column] for column in times_and_size]
                  for first, second in zip(accuracy.rows, cost.rows)])


def table_segmentation(results: Results) -> Table:
    """What the paper lacks: scores of whole slices."""
    rows = []
    for node in results.plan["nodes"]:
        scores = results.result(node["name"]) if node["kind"] == "segmentation" else None
        if scores is None:
            continue
        best = scores.get("across_slices") or scores.get("at_best_f1") or {}
        thresholds = dict.fromkeys(f"{value:.3f}" for value in best.get("thresholds", {}).values())
        cells = [run_title(node["run"]) + (f", seed {node['seed']}" if results.has_folds else "")]
        cells += [_number(best.get(key), ".3f") for key in ("f1", "precision", "recall")]
        cells += [", ".join(thresholds) or _number(best.get("threshold"), ".3f")]
        cells += [_number(scores.get("auc"), ".4f"), _number(scores["v_rand"]["score"], ".3f"),
                  _number(scores["v_info"]["score"], ".3f")]
        rows.append(cells)
    chosen = "at the best threshold of the other slices" if results.has_folds else "at the best threshold"
    return Table("segmentation", f"Segmentation of validation slices: F1 of membrane pixels {chosen}, area "
                 "under the ROC curve, V-Rand and V-Info (ISBI 2012) at their best thresholds",
                 ["run", "F1", "precision", "recall", "threshold", "AUC", "V-Rand", "V-Info"], rows)


def table_controls(results: Results) -> Table:
    """The comparisons that a reviewer asks for; networks of the same counts had the same retraining."""
    rows = []

    def add(net: str, criterion: str, title: str, before: Mapping[int, float]) -> None:
        after = results.accuracies(net, criterion)
        if before or after:
            rows.append([net, title, f"{results.iterations(net, criterion):,}", with_interval(before), with_interval(after),
                         seeds(before, after)])

    for criterion in ("none", *(f"none-like-{net}" for net in results.nets)):
        if results.iterations("N", criterion) is not None:
            add("N", criterion, "not pruned", results.accuracies("N", None))
    titles = {"loss": "by loss", "apoz": "by APoZ", "l1": "by L1", "random": "at random", "scratch": "trained from scratch"}
    for net in results.nets:
        if any(results.accuracies(net, criterion) for criterion in ("random", "scratch")):
            for criterion in CRITERIA:
                add(net, criterion, titles[criterion], results.accuracies(net, criterion, before=True))
    return Table("controls", "Controls: accuracy in percent before and after retraining (mean ± half of the 95 % "
                 "interval over the seeds)", ["net", "features", "iterations", "before retraining", "after", "seeds"], rows)


def table_definitions(results: Results) -> Table:
    """N and the darkness baseline under each definition of positives and negatives."""
    rows = []
    by_seed = results.darkness()
    shared = dict(list(by_seed.items())[:1]) if not results.has_folds else by_seed
    if by_seed or results.accuracies("N", None):
        rows.append([results.plan["data_set"]["main"]["text"], with_interval(results.accuracies("N", None)),
                     with_interval(shared)])
    definition, model, dark = results.plan["data_set"]["second"], results.result("N-second-s1"), results.result("darkness-second")
    if definition and (model or dark):
        rows.append([definition["text"], _number(100 * model["validation"]["accuracy"] if model else None, ".2f"),
                     _number(100 * dark["accuracy"] if dark else None, ".2f")])
    return Table("definitions", "Accuracy of N and of the darkness baseline (best threshold on the smoothed grey value of "
                 "the centre pixel, chosen on training patches) in percent", ["definition", "A of N", "A of darkness"], rows)


def table_transfer(results: Results) -> Table:
    """Networks of other data sets on the validation patches of this one, beside its own."""
    rows = []
    others = dict.fromkeys(node["criterion"] for node in results.plan["nodes"] if node["stage"] == "transfer")
    for network, own in (("N", None), ("N7", "loss")):
        cells = {"this one": results.accuracies(network, own)}
        for criterion in others:
            cells[criterion[len("from-"):]] = {
                node["seed"]: 100 * node["result"]["accuracy"] for node in results.nodes.values()
                if node["stage"] == "transfer" and (node["network"], node["criterion"]) == (network, criterion)}
        rows += [[network, where, with_interval(values), seeds(values)] for where, values in cells.items() if values]
    return Table("transfer", "Networks trained on other data on the validation patches of this one (normalised by its own "
                 "training slices): accuracy in percent", ["net", "trained on", "A", "seeds"],
                 rows if any(row[1] != "this one" for row in rows) else [])


def table_stability(results: Results) -> Table:
    """How much an order is chance: N7's features chosen on several draws of mini-batches."""
    rows = []
    planned = {node["batches"] for node in results.plan["nodes"] if node["kind"] == "orderings" and "batches" in node}
    for batches in sorted(planned):
        drawn = [found for name in results.draws(batches) for found in [results.orderings(name)] if found]
        cells = []
        for layer in networks.PRUNED_LAYERS:
            kept = networks.TABLE_1["N7"][layer]
            chosen = [set(found["layers"][layer]["order"][-kept:]) for found in drawn]
            pairs = [len(one & other) / len(one | other) for number, one in enumerate(chosen) for other in chosen[:number]]
            cells.append(f"{mean(pairs):.2f}" if pairs else NONE)
        rows.append([str(batches), str(len(drawn)), *cells])
    return Table("stability", "Stability of the order: features that N7 keeps, chosen on different draws of so many mini-batches, "
                 "that are common to two draws, as a share of those in either (Jaccard index, mean over pairs)",
                 ["mini-batches", "draws", *networks.PRUNED_LAYERS], rows)


def run_title(run: str) -> str:
    """A run's name for people: ``N7-loss-s1`` is ``N7 (loss)``."""
    parts = run.split("-")
    return parts[0] if len(parts) < 3 else f"{parts[0]} ({parts[1].replace('apoz', 'APoZ').replace('l1', 'L1')})"


def all_tables(results: Results) -> List[Table]:
    """The tables of the report, in its order."""
    return [table_1(results), table_2_accuracy(results), table_2_cost(results), table_segmentation(results),
            table_controls(results), table_definitions(results), table_stability(results),
            table_transfer(results)]

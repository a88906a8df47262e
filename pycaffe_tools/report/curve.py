"""The learning curve: how much longer training still gains, from N of one seed after different lengths."""

from __future__ import annotations

from typing import List, Tuple

from ..plots.panels import COLOURS, new_figure, save_figure
from .results import Results
from .tables import Table


def lengths(results: Results) -> List[Tuple[int, float]]:
    """Iterations and accuracy in percent of the trainings of N with the first seed, as far as they are done."""
    found = []
    for node in results.plan["nodes"]:
        done = results.nodes.get(node["name"])
        if done and node["kind"] == "model" and node["network"] == "N" and node["criterion"] in (None, "curve") \
                and node["step"] == "trained" and node["seed"] == results.seeds[0] and node["data"] != "second":
            found.append((int(node["iterations"]), 100 * float(done["result"]["validation"]["accuracy"])))
    return sorted(found)


def table_curve(results: Results) -> Table:
    """How long is long enough?"""
    rows = [[f"{iterations:,}", f"{accuracy:.2f}"] for iterations, accuracy in lengths(results)]
    return Table("curve", f"Accuracy of N with seed {results.seeds[0]} in percent, by iterations of training",
                 ["iterations", "A"], rows if len(rows) > 1 else [])


def gains(results: Results) -> str:
    """In a sentence, whether the longest training still climbs."""
    (before, lower), (longest, higher) = lengths(results)[-2:]
    climbs = "still climbs" if higher - lower > 0.1 else "no longer climbs by more than 0.1 points"
    return (f"From {before:,} to {longest:,} iterations accuracy changes by {higher - lower:+.2f} points, so it {climbs}; each "
            f"length has a learning rate that decreases to 0 of its own.")


def draw_curve(results: Results) -> bool:
    """Draw accuracy against iterations, with what grey values alone reach; tells whether there is a curve."""
    found = lengths(results)
    if len(found) < 2:
        return False
    figure = new_figure(5.6, 3.6)
    axes = figure.subplots()
    axes.plot([iterations for iterations, _ in found], [accuracy for _, accuracy in found], marker="o", color=COLOURS[1], label="N")
    dark = results.darkness().get(results.seeds[0])
    if dark is not None:
        axes.axhline(dark, color="0.5", linestyle="--", linewidth=1, label="grey values alone")
    axes.set(xscale="log", xlabel="iterations of training", ylabel="accuracy in percent")
    axes.set_xticks([iterations for iterations, _ in found], [f"{iterations:,}" for iterations, _ in found])
    axes.set_xticks([], minor=True)
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, results.folder / "figures" / "curve.png")
    return True

"""The front: which way of making a small network gives the best accuracy at which time."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

from ..nets.paper import TABLE_2
from ..plots.panels import COLOURS, new_figure, save_figure
from ..reproduce.front import WAYS
from .judging.claim import NOT_REPRODUCED, NOT_RUN, REPRODUCED, judge
from .judging.figures import Figure, paired
from .results import Results
from .tables import Table, with_interval

TITLES = {"layers": "at once, layer by layer (the paper)", "global": "at once, one order of all layers",
          "gradual": "in rounds, one order of all layers", "apoz": "at once, by APoZ", "l1": "at once, by L1",
          "uniform": "narrower by one factor, from random weights"}


class Point(NamedTuple):
    """One way at one budget.

    Attributes
    ----------
    way, budget : of :data:`WAYS`; share of the multiply-accumulates of N's dense net.
    accuracy : percent, by seed.
    seconds : for one slice of 3069 x 2301 on one core, dense, by seed.
    """

    way: str
    budget: float
    accuracy: Dict[int, float]
    seconds: Dict[int, float]


def points(results: Results) -> List[Point]:
    """What was run of the front, ways in their order, from the largest budget down."""
    found: Dict[Tuple[str, float], Point] = {}
    for node in results.nodes.values():
        if node["kind"] == "model" and node.get("network") == "front" and node["step"] == "retrained":
            point = found.setdefault((node["criterion"], node["budget"]), Point(node["criterion"], node["budget"], {}, {}))
            point.accuracy[node["seed"]] = 100 * node["result"]["validation"]["accuracy"]
            time = _seconds(results, node["name"], node["seed"])
            if time is not None:
                point.seconds[node["seed"]] = time
    return sorted(found.values(), key=lambda point: (WAYS.index(point.way), -point.budget))


def _seconds(results: Results, name: str, seed: int) -> Optional[float]:
    timing = results.result(f"front-timing-s{seed}")
    return timing["models"][name]["dense"]["seconds"] if timing and name in timing["models"] else None


def table_front(results: Results) -> Table:
    """Accuracy and time of each way at each budget, and which way wins there."""
    rows = []
    for point in points(results):
        rows.append([TITLES[point.way], f"{100 * point.budget:g}", with_interval(point.accuracy), with_interval(point.seconds),
                     str(len(point.accuracy))])
    return Table("front", "Ways to a small network, all with the same total of training: accuracy in percent (mean ± half of the "
                 "95 % interval over the seeds) at budgets of the multiply-accumulates of N's dense net, and seconds for one "
                 "slice on one core", ["way", "budget %", "A", "seconds", "seeds"], rows)


def verdicts(results: Results) -> List[str]:
    """At each budget, the way with the best mean, and which others it beats: paired by seed, all differences together at 95 %."""
    by_budget: Dict[float, List[Point]] = {}
    for point in points(results):
        by_budget.setdefault(point.budget, []).append(point)
    lines = []
    for budget in sorted(by_budget, reverse=True):
        ranked = sorted(by_budget[budget], key=lambda point: -sum(point.accuracy.values()) / len(point.accuracy))
        best, others = ranked[0], ranked[1:]
        figures = {other.way: paired(other.way, best.accuracy, other.accuracy) for other in others}
        beaten = [TITLES[way] for way, figure in figures.items() if judge(figure, above=0.0) == REPRODUCED]
        equal = [TITLES[way] for way, figure in figures.items() if judge(figure, above=0.0) not in (REPRODUCED, NOT_RUN)]
        word = "best" if others and not equal else "the best mean"
        lines.append(f"{100 * budget:g} % of the arithmetic: {word}: {TITLES[best.way]}"
                     + (f"; better than {', '.join(beaten)}" if beaten else "")
                     + (f"; not told apart from {', '.join(equal)}" if equal else "") + ".")
    return lines


def pruning_or_scratch(results: Results) -> Optional[str]:
    """In a sentence, from which budget down training from scratch does at least as well as the best pruning.

    None if that has not been run, or with one seed only, which cannot tell.
    """
    by = {(point.way, point.budget): point.accuracy for point in points(results)}
    budgets = sorted({budget for _, budget in by}, reverse=True)
    worse = []
    for budget in budgets:
        scratch, pruned = by.get(("uniform", budget)), [by[way, budget] for way in ("layers", "global", "gradual")
                                                        if (way, budget) in by]
        if not scratch or not pruned or len(scratch) < 2:
            return None
        best = max(pruned, key=lambda values: sum(values.values()) / len(values))
        worse += [budget] if judge(paired("", best, scratch), above=0.0) == NOT_REPRODUCED else []
    if not budgets:
        return None
    if not worse:
        return "At no budget was training from scratch shown to be better than the best way of pruning."
    return (f"At {', '.join(f'{100 * budget:g}' for budget in worse)} % of the arithmetic, training from scratch is better than "
            f"the best way of pruning.")


def draw_front(results: Results) -> bool:
    """Draw accuracy against seconds, a line a way with its interval, beside the paper's networks; tells whether there is one."""
    found = [point for point in points(results) if point.seconds]
    if not found:
        return False
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    for way, colour in zip(WAYS, COLOURS[1:]):
        mine = sorted((point for point in found if point.way == way), key=lambda point: min(point.seconds.values()))
        if not mine:
            continue
        accuracy = [Figure("", tuple(point.accuracy.values())) for point in mine]
        times = [sum(point.seconds.values()) / len(point.seconds) for point in mine]
        axes.plot(times, [one.value for one in accuracy], marker="o", markersize=4, color=colour, label=TITLES[way])
        ends = [one.interval() if one.samples > 1 else (one.value, one.value) for one in accuracy]
        axes.fill_between(times, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.12, linewidth=0)
    times = [value for point in found for value in point.seconds.values()]
    own = {net: time["dense"]["seconds"] for net in TABLE_2 for time in [results.time(net)] if time}
    paper = [(own[net], TABLE_2[net].accuracy_loss, net) for net in own]
    if paper:
        axes.plot([time for time, _, _ in paper], [value for _, value, _ in paper], linestyle="none", marker="x", color="0.4",
                  label="the paper's networks: its accuracy at our time")
    axes.set(xscale="log", xlabel="seconds for one slice of 3069 x 2301 on one core, dense", ylabel="accuracy in percent")
    shown = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
             if min(times) / 2 <= tick <= 2 * max(times)]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)
    low = min(value for point in found for value in point.accuracy.values())
    axes.set_ylim(bottom=max(low - 1, 50))
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    axes.grid(True, alpha=0.25)
    save_figure(figure, results.folder / "figures" / "front.png")
    return True

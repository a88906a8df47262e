"""Claims about size, memory and time (Tables 1 and 2)."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ...nets.paper import NAMES, OTHERS, PRUNED_LAYERS, SMALLEST, TABLE_1, TABLE_2
from ..results import Results
from .claim import NOT_REPRODUCED, NOT_RUN, REPRODUCED, Claim, judge, judged_on
from .figures import Figure, exactly

PER_SLICE = 75.0
"""Seconds: 60 to acquire a slice and 15 for sectioning (Section 4)."""
SPEED_UP = 3.5
"""What rounds to 4."""


def tables(results: Results) -> Claim:
    """Tables 1 and 2: features, share of parameters pruned, memory."""
    sizes = {net: size for net in NAMES for size in [results.model_size(net)] if size}
    full = sizes.get("N")
    wrong: List[str] = []
    if full:
        for net, size in sizes.items():
            wrong += [f"{net} {layer}" for layer in PRUNED_LAYERS if size["counts"][layer] != TABLE_1[net][layer]]
            pruned = 100 * (1 - size["parameters"] / full["parameters"])
            wrong += [f"{net} pruned {pruned:.2f} %"] if abs(pruned - TABLE_2[net].pruned_percent) > 0.051 else []
            memory = size["memory_bytes"] / 1024
            wrong += [f"{net} M {memory:.2f} kB"] if abs(memory - TABLE_2[net].memory_kilobytes) >= 1 else []
    figures = [exactly(f"numbers that differ (of {6 * len(sizes)})", len(wrong))] if full else []
    verdict = NOT_RUN if not figures else REPRODUCED if not wrong else NOT_REPRODUCED
    return Claim("tables", "features, pruned parameters and memory of N and N1 to N7 are those of Tables 1 and 2"
                 f"{judged_on(list(sizes), NAMES)}",
                 "features equal, the share of pruned parameters equal to the printed tenth, memory within the printed "
                 "kilobyte (N1 has 593.47 kB, printed 594)", verdict, figures, why="; ".join(wrong) or None)


def _savings(results: Results, unit: str) -> List[Figure]:
    found = []
    for net in OTHERS:
        if unit == "memory":
            both = [size["memory_bytes"] for size in (results.model_size("N"), results.model_size(net)) if size]
            found += [exactly(net, round(100 * (1 - both[1] / both[0]), 1))] if len(both) == 2 else []
        else:
            ratio = _ratio(net, results.time("N"), results.time(net), "patch")
            if ratio is not None:
                low, high = ratio.interval()
                found.append(Figure(net, (100 * (1 - 1 / ratio.value),), (100 * (1 - 1 / low), 100 * (1 - 1 / high))))
    return found


def less_memory(results: Results) -> Claim:
    """N1 to N6: "10 to 34% less network memory"."""
    figures = _savings(results, "memory")
    return Claim("memory", f"N1 to N6 need 10 to 34 % less memory{judged_on([figure.name for figure in figures], OTHERS)}",
                 "each saves 10 to 34 % of N's memory, rounded to a percent", judge(figures, 9.5, 34.5), figures,
                 {net: 100 * (1 - TABLE_2[net].memory_kilobytes / TABLE_2["N"].memory_kilobytes) for net in OTHERS},
                 why="The text does not fit the paper's own Table 2, whose N1 saves 9.2 %.")


def less_time(results: Results) -> Claim:
    """N1 to N6: "9 to 39% less segmentation time"."""
    figures = _savings(results, "time")
    return Claim("time", "N1 to N6 need 9 to 39 % less time, patch by patch"
                 f"{judged_on([figure.name for figure in figures], OTHERS)}",
                 "each saves 9 to 39 % of N's time patch by patch on one core, rounded to a percent",
                 judge(figures, 8.5, 39.5), figures,
                 {net: 100 * (1 - TABLE_2[net].seconds / TABLE_2["N"].seconds) for net in OTHERS},
                 why="The paper's times are of a GPU, where small layers leave units idle; on one core time follows the "
                     "multiplications.")


def _ratio(name: str, slow: Optional[Mapping[str, Any]], fast: Optional[Mapping[str, Any]], how: str) -> Optional[Figure]:
    if not slow or not fast:
        return None
    first, second = slow[how], fast[how]
    value = first["seconds"] / second["seconds"]
    ends = (first["seconds"] / second["longest"], first["longest"] / second["seconds"])
    return Figure(name, (value,), (min(value, *ends), max(value, *ends)))


def faster(results: Results, how: str) -> Claim:
    """N7: "almost 4 times faster"."""
    ratio = _ratio("time of N / time of N7", results.time("N"), results.time(SMALLEST), how)
    figures = [ratio] if ratio else []
    words = {"patch": "patch by patch", "dense": "dense"}[how]
    return Claim("faster" if how == "patch" else "control-faster-dense", f"{SMALLEST} is close to 4 times faster, {words}",
                 f"time of N over time of {SMALLEST}, {words}, on one core is at least {SPEED_UP}, which rounds to 4; the "
                 f"shortest times count, the interval is how far quotients of shortest and longest times are from that",
                 judge(figures, low=SPEED_UP), figures,
                 {"time of N / time of N7": TABLE_2["N"].seconds / TABLE_2["N7"].seconds} if how == "patch" else {},
                 control=how == "dense",
                 why="Dense evaluation shares work between neighbouring patches, most of it in the lower layers.")


def real_time(results: Results, how: str) -> Claim:
    """"we are able to perform real-time membrane segmentation at an accuracy of at most 92.87%" (N6)."""
    seconds: Dict[str, float] = {net: time[how]["seconds"] for net in NAMES for time in [results.time(net)] if time}
    figures = [exactly(net, round(value, 2)) for net, value in seconds.items()]
    wanted = [figure for figure in figures if figure.name in ("N6", "N7")] if how == "patch" else figures
    words = {"patch": "patch by patch, as in the paper", "dense": "dense"}[how]
    which = [net for net, value in seconds.items() if value <= PER_SLICE]
    return Claim("real-time" if how == "patch" else "control-real-time",
                 f"{'N6 and N7 segment' if how == 'patch' else 'all networks segment'} a 3069 x 2301 slice in the "
                 f"{PER_SLICE:g} s that the microscope takes for one, {words}",
                 f"seconds for one slice, {words}, on one core of this machine are at most {PER_SLICE:g}; "
                 f"{', '.join(which) or 'none'} of {', '.join(seconds) or 'the networks'} "
                 f"{'are' if len(which) != 1 else 'is'}", judge(wanted, high=PER_SLICE), figures,
                 {net: TABLE_2[net].seconds for net in NAMES} if how == "patch" else {}, control=how == "dense",
                 why="The paper's times are of a GeForce GTX 1080; one core of a processor has a few hundredths of its speed, "
                     "so here only dense evaluation reaches real time.")

"""The time of a slice with nets that are pruned from one net: by the time model, and measured.

The model (:mod:`pycaffe_tools.ordering.cost.dense_time`) is a ramp through the stairs that real engines make of the
counts.  So where a time is promised, the net of the counts that the model leads to is measured as well, in turns with
the whole net, and the counts are corrected until the measured time is right.  What was measured is kept in a file, so
that the same command chooses the same counts.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import click

from ...base.errors import UserError
from ...base.files import PathLike, read_json, write_json
from ...base.host.machine import processor
from ...base.ranges import Pair
from ...ordering.cost.dense_time import DenseTime
from ...ordering.cost.measuring import seconds_per_pixel
from ...ordering.cost.model import with_counts
from .walks import Condition, Walk

FORMAT = 1
ROUNDS = 3
TRIES = 6
NEAR = 0.03
"""A measured time that is less by this part of the time asked for is near enough; so much the measurements vary."""


class SliceTime:
    """Seconds for a slice.

    Parameters
    ----------
    model : the time of the dense net, whole and at other counts.
    shape : rows and columns of the slice.
    record : file for what is measured; None keeps it in memory.
    measure : what measures a net, see :func:`~pycaffe_tools.ordering.cost.measuring.seconds_per_pixel`.
    """

    def __init__(self, model: DenseTime, shape: Pair, record: Optional[PathLike] = None,
                 measure: Callable[..., float] = seconds_per_pixel):
        self.model, self.shape = model, shape
        self._measure = measure
        self._record = None if record is None else Path(record)
        self._conditions = {"format": FORMAT, "engine": model.engine, "tile": list(model.tile), "workers": model.workers,
                            "processor": model.processor, "whole": model.measured[0].counts}
        self._known: List[Dict[str, Any]] = self._read()

    @property
    def whole(self) -> float:
        """Of the unpruned net."""
        return self._of_pixel(self.model.measured[0].seconds)

    def modelled(self, counts: Mapping[str, int]) -> float:
        """By the model."""
        return self._of_pixel(self.model.cost(counts))

    def measured(self, counts: Mapping[str, int]) -> Optional[float]:
        """Measured, by the quotient to the whole net's; None where the model is of another machine."""
        for entry in self._known:
            if entry["counts"] == dict(counts):
                return float(entry["quotient"]) * self.whole
        if self.model.processor != processor():
            return None
        click.echo("measuring the time of the dense net with " + ", ".join(f"{k} {v}" for k, v in counts.items()), err=True)
        nets = [self.model.graph, with_counts(self.model.graph, counts)]
        shortest = [math.inf, math.inf]
        for _ in range(ROUNDS):     # in turns, so that a slower while of the machine does not hit one alone
            for at, net in enumerate(nets):
                spent = self._measure(net, self.model.engine, self.model.tile, self.model.workers)
                shortest[at] = min(shortest[at], spent)
        quotient = shortest[1] / shortest[0]
        self._known.append({"counts": dict(counts), "quotient": quotient})
        if self._record is not None:
            write_json(self._record, {**self._conditions, "measured": self._known})
        return quotient * self.whole

    def as_json(self, counts: Mapping[str, int]) -> Dict[str, Any]:
        """What ``pruning.json`` says of the time: seconds for a slice, and under which conditions."""
        known = [entry["quotient"] for entry in self._known if entry["counts"] == dict(counts)]
        return {"slice": list(self.shape), "engine": self.model.engine, "workers": self.model.workers,
                "processor": self.model.processor, "before": self.whole, "model": self.modelled(counts),
                "model_error": self.model.error, "measured": known[0] * self.whole if known else None}

    def _of_pixel(self, seconds: float) -> float:
        return seconds * self.shape[0] * self.shape[1] / self.model.workers

    def _read(self) -> List[Dict[str, Any]]:
        if self._record is None or not self._record.exists():
            return []
        content = read_json(self._record)
        try:
            found = content.pop("measured")
            # What was measured under other conditions is measured again.
            if content != self._conditions:
                return []
            return [{"counts": dict(entry["counts"]), "quotient": float(entry["quotient"])} for entry in found]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{self._record}: is not a file of measured times; delete it to have them measured again") from None


class Timed(NamedTuple):
    """Steps of a walk, and the seconds for a slice after them."""

    steps: int
    seconds: float


def steps_within_time(walk: Walk, time: SliceTime, limit: float, asked: str) -> Timed:
    """The fewest steps found after which a slice takes at most ``limit`` seconds, measured where this is the machine.

    Parameters
    ----------
    walk : the way to prune.
    time : of a slice.
    limit : in seconds.
    asked : the option, for messages.

    Raises
    ------
    UserError : the walk ends before; says what the fastest net takes.
    """
    _refuse_unreachable(walk, time, limit, asked)
    if time.whole <= limit:
        return Timed(0, time.whole)
    # The model leads near the place; then each measurement corrects the model, between the nearest steps that were
    # measured to be too slow and fast enough.
    tried: Dict[int, float] = {}
    correction = 1.0
    while len(tried) < TRIES:
        steps = walk.first(_within(time, limit / correction))
        slow = max((step for step, seconds in tried.items() if seconds > limit), default=-1)
        fast = min((step for step, seconds in tried.items() if step > slow and seconds <= limit), default=None)
        if fast is not None and not slow < steps < fast:
            steps = (slow + fast) // 2
        elif fast is None and steps <= slow:
            steps = walk.first(_fewer(walk.counts(slow)))
        if steps in tried:
            break
        seconds = time.measured(walk.counts(steps))
        if seconds is None:
            return Timed(steps, time.modelled(walk.counts(steps)))
        tried[steps] = seconds
        if limit * (1 - NEAR) <= seconds <= limit:
            break
        correction = seconds / time.modelled(walk.counts(steps))
    # Fewer features than needed are a lesser fault than a promise that is not kept.
    enough = {seconds: steps for steps, seconds in tried.items() if seconds <= limit}
    if not enough:
        raise UserError(f"{asked}: no network of at most {limit:.3g} s for a slice was found, the fastest of {len(tried)} that were "
                        f"measured takes {min(tried.values()):.3g} s; ask for a little more, or again when the machine is less busy")
    return Timed(enough[max(enough)], max(enough))


def _fewer(than: Mapping[str, int]) -> Condition:
    return lambda counts: sum(counts.values()) < sum(than.values())


def _within(time: SliceTime, limit: float) -> Condition:
    return lambda counts: time.modelled(counts) <= limit


def _refuse_unreachable(walk: Walk, time: SliceTime, limit: float, asked: str) -> None:
    least = walk.least
    if time.modelled(least) <= limit:
        return
    fastest = time.measured(least)
    fastest = time.modelled(least) if fastest is None else fastest
    if fastest > limit:
        raise UserError(f"{asked}: cannot be reached, the fastest possible is {fastest:.3g} s for a slice of "
                        f"{time.shape[1]}x{time.shape[0]} ({time.whole / fastest:.1f} times faster than unpruned), with "
                        f"{', '.join(f'{name} {count}' for name, count in least.items())}; ask for at least that")

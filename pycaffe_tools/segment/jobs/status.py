"""How far a plan is, from its files alone: no queue is asked, so any computer that sees the folder can tell."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Set

from ...base.progress import duration
from ...cluster.records import DONE, FAILED, LOST, RUNNING, STOPPED, Seen, read_record
from ...volumes.provenance import read_provenance
from ..in_place.records import numbers
from ..in_place.sharing import finished_slices
from ..outputs import parts_path
from .plan import JobPlan

WAITING = "waiting"
"""Not begun."""


class PartStatus(NamedTuple):
    """How far a part is."""

    number: int
    slices: str
    total: int
    """Slices of the part."""
    finished: int
    state: str
    """Of :mod:`pycaffe_tools.cluster.records`, or :data:`WAITING`."""
    sentence: str
    failed: Dict[str, str]
    """Slices that failed, and why."""
    speed: Optional[float]
    """Slices a second of the job that runs or ran last; None where that is not known yet."""


class Status(NamedTuple):
    """How far a plan is."""

    parts: List[PartStatus]
    merge: str
    """State of the merge."""
    merge_sentence: str

    @property
    def failed(self) -> bool:
        """Whether something will not be done unless it is submitted again."""
        return self.merge != DONE and any(state in (FAILED, LOST) for state in (*(part.state for part in self.parts), self.merge))

    @property
    def incomplete(self) -> List[int]:
        """Parts that are not done."""
        return [part.number for part in self.parts if part.state != DONE]


def status_of(plan: JobPlan) -> Status:
    """Look at the files of a plan.

    Raises
    ------
    UserError : a file of it is damaged.
    """
    there = finished_slices(plan.request.out) if plan.in_place else None
    parts = [_part(plan, number, there) for number in range(1, len(plan.parts) + 1)]
    seen = read_record(plan.merge_record)
    state = seen.state if seen else WAITING
    if state == DONE and not all(_is_whole(path) for path in (plan.request.out, plan.request.mask_out) if path):
        state = WAITING         # somebody took the output away
    return Status(parts, state, _sentence(seen))


def _is_whole(path: Any) -> bool:
    record = read_provenance(path)
    return record is not None and not record["failed"]


def _part(plan: JobPlan, number: int, there: Optional[Set[int]]) -> PartStatus:
    """State of a part; ``there`` are the finished slices of a volume into which all parts write."""
    slices = plan.parts[number - 1]
    count = sum(1 for _ in numbers(slices))
    seen = read_record(plan.record(number))
    if there is not None:
        finished = sum(z in there for z in numbers(slices))
        done = finished == count
    else:
        done = _is_whole(plan.output(number)) and (plan.request.mask_out is None or _is_whole(plan.output(number, mask=True)))
        finished = len(list(parts_path(plan.output(number)).glob("[0-9]*.npz")))
    if done:
        return PartStatus(number, slices, count, count, DONE, "", {}, _speed(seen, count))
    state = seen.state if seen else WAITING
    if state == DONE:           # its record says so, and its volume is gone
        state = WAITING
    failed = seen.content.get("failed") if seen else None
    return PartStatus(number, slices, count, finished, state, _sentence(seen), failed if isinstance(failed, dict) else {},
                      _speed(seen, finished))


def _sentence(seen: Optional[Seen]) -> str:
    if seen is None:
        return ""
    content = seen.content
    where = f"on {content.get('host')}" + (f", job {content['job']}" if content.get("job") else "")
    if seen.state == RUNNING:
        return where
    if seen.state == LOST:
        return f"{where}: no sign of life for {duration(seen.age)}; it was killed, or lost its computer"
    return f"{where}: {content['sentence']}" if content.get("sentence") else where


def _speed(seen: Optional[Seen], finished: int) -> Optional[float]:
    if seen is None:
        return None
    skipped = seen.content.get("skipped")
    done = finished - (skipped if type(skipped) is int else 0)
    return done / seen.seconds if done > 0 and seen.seconds > 0 else None


def describe(status: Status) -> List[str]:
    """The state in lines for a person; parts that are done are only counted."""
    parts = status.parts
    states = Counter(part.state for part in parts)
    order = (DONE, RUNNING, STOPPED, WAITING, FAILED, LOST)
    lines = [f"parts    {len(parts)}: " + ", ".join(f"{states[state]} {state}" for state in order if states[state]),
             f"slices   {sum(part.finished for part in parts)} of {sum(part.total for part in parts)} finished, "
             f"{sum(len(part.failed) for part in parts)} failed",
             f"merge    {status.merge}" + (f" {status.merge_sentence}" if status.merge != DONE and status.merge_sentence else "")]
    if status.merge != DONE:
        lines.append(f"left     {_time_left(parts)}")
    for part in parts:
        if part.state != DONE:
            lines.append(f"part {part.number}: {part.state}, {part.finished} of {part.total} slices ({part.slices})"
                         + (f", {part.sentence}" if part.sentence else ""))
            lines += [f"part {part.number}: slice {z} failed: {sentence}" for z, sentence in part.failed.items()]
    return lines


def _time_left(parts: List[PartStatus]) -> str:
    """From the speed so far of all parts, and how many run now."""
    left = sum(part.total - part.finished for part in parts if part.state not in (FAILED, LOST))
    speeds = [part.speed for part in parts if part.speed]
    running = sum(part.state == RUNNING for part in parts)
    if not left:
        return "no slices"
    if not speeds:
        return f"{left} slices; how fast they go is not known yet"
    each, at_once = sum(speeds) / len(speeds), max(running, 1)
    return f"{left} slices, about {duration(left / each / at_once)} with {at_once} part{'s' if at_once > 1 else ''} at a time"


def exit_code(status: Status) -> int:
    """0 where the outputs are there, 3 where something failed, 75 where it goes on."""
    return 0 if status.merge == DONE else 3 if status.failed else 75

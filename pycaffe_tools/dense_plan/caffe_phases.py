"""Pooling at every offset where Caffe has no dilation: the first pooling's phases, map by map."""

from __future__ import annotations

from typing import Dict, List

from .steps import Combine, Convolve, Map, Pair, Plan, Pool, Rectify


class _FirstPooling:
    """What the first pooling with a stride asks of the maps before it.

    Attributes
    ----------
    stride : its strides; (1, 1) if there is none, and then nothing here is needed.
    source : the map it reads.
    steps : its Pool steps.
    phases : offsets of the source that some window element of some fragment needs.
    beyond : rows and columns beyond the tile's end that a whole last window would need.
    phased : names of maps that are made as phases: the last convolution before it, and ReLUs in between.
    """

    def __init__(self, plan: Plan):
        self.stride = plan.first_stride
        self.steps: List[Pool] = []
        self.phases: List[Pair] = []
        self.phased: List[str] = []
        self.beyond: Pair = (0, 0)
        if self.stride == (1, 1):
            return
        number = next(number for number, step in enumerate(plan.steps) if isinstance(step, Pool))
        self.source = plan.steps[number].source  # type: ignore[union-attr]
        self.steps = [step for step in plan.steps if isinstance(step, Pool) and step.source == self.source]
        window = [max(step.window[axis] for step in self.steps) for axis in (0, 1)]
        self.phases = [(row, column) for row in range(self.stride[0] + window[0] - 1)
                       for column in range(self.stride[1] + window[1] - 1)]
        self.beyond = tuple(window[axis] - 1 - self.source.reach[axis] + self.steps[0].out.reach[axis]  # type: ignore
                            for axis in (0, 1))
        for step in reversed(plan.steps[:number]):
            self.phased.append(step.out.name)
            if not isinstance(step, Rectify):
                break
        if not isinstance(plan.steps[max(0, number - len(self.phased))], Convolve):
            self.phased = []


def _trimmed(plan: Plan, first: _FirstPooling) -> Dict[str, Map]:
    """For each map the positions that are needed of it, if a pooling or a combination makes it, else all."""
    needed: Dict[str, Map] = {plan.output.name: plan.output}
    frames: Dict[str, Map] = {plan.input.name: plan.input}
    for step in reversed(plan.steps):
        free = (isinstance(step, Pool) and step not in first.steps) or isinstance(step, Combine)
        out = frames[step.out.name] = needed[step.out.name] if free else step.out
        if isinstance(step, Convolve):
            extents = [(step.rows[0], step.rows[1] - 1), (step.columns[0], step.columns[1] - 1)]
            reads = [(step.source, extents, step.spacing)]
        elif isinstance(step, Pool):
            reads = [(step.source, [(0, window - 1) for window in step.window], step.spacing)]
        elif isinstance(step, Combine):
            reads = [(operand.source, [(shift, shift) for shift in operand.offset], (1, 1))
                     for operand in step.operands]
        else:
            reads = [(step.source, [(0, 0), (0, 0)], (1, 1))]
        for source, extents, spacing in reads:
            start = tuple(out.start[axis] + spacing[axis] * extents[axis][0] for axis in (0, 1))
            reach = tuple(min(source.reach[axis], out.reach[axis] + spacing[axis] * extents[axis][1])
                          for axis in (0, 1))
            if source.name in needed:
                before = needed[source.name]
                start = tuple(map(min, start, before.start))
                reach = tuple(map(max, reach, before.reach))
            needed[source.name] = source._replace(start=start, reach=reach)  # type: ignore[arg-type]
    return frames


def _moved(pair: Pair, axis: int, distance: int) -> Pair:
    return (pair[0] + distance, pair[1]) if axis == 0 else (pair[0], pair[1] + distance)


def _phase_name(each: Map, phase: Pair) -> str:
    return f"{each.name}_phase_{phase[0]}_{phase[1]}"

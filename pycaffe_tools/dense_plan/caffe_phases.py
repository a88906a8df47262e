"""Pooling at every offset where Caffe has no dilation: the phases of the first pooling, and how far maps are needed.

A *phase* of a map is every second element of it (with stride 2), from some
offset on; a *fragment* of the pooled map is that map for every second patch.
One fragment is the maximum of as many phases as the window is long.  Along one
axis, with a window of 3 and a stride of 2::

    position      0  1  2  3  4  5  6  7  8
    source        a  b  c  d  e  f  g  h  i

    phase 0       a     c     e     g            a convolution with stride 2
    phase 1          b     d     f     h         the same, of its input shifted by 1
    phase 2             c     e     g     i      ... by 2
    phase 3                d     f     h         ... by 3

    pooled(0), pooled(2), ...  = fragment 0 = max(phase 0, phase 1, phase 2) = max(a b c), max(c d e), ...
    pooled(1), pooled(3), ...  = fragment 1 = max(phase 1, phase 2, phase 3) = max(b c d), max(d e f), ...

So stride + window - 1 phases serve all fragments, each of them is made once by
the convolution itself, and no element is computed twice but at the ends.
"""

from __future__ import annotations

from typing import Dict, List

from ..base.ranges import Pair, pair
from .steps import Combine, Convolve, DensePlan, Map, Pool, Rectify


class FirstPooling:
    """What the first pooling with a stride asks of the maps before it.

    Attributes
    ----------
    stride : its strides; (1, 1) if there is none, and then nothing here is needed.
    source : the map it reads.
    pools : its Pool steps, one a variant.
    phases : offsets (rows, columns) of all phases that its fragments are made of.
    overhang : rows and columns beyond the tile's end that a whole last window needs.
    made_as_phases : names of maps that are made phase by phase: the last convolution before the pooling, and ReLUs
        in between; empty if something else makes the pooling's source.
    """

    def __init__(self, plan: DensePlan):
        self.stride = plan.first_stride
        self.pools: List[Pool] = []
        self.phases: List[Pair] = []
        self.made_as_phases: List[str] = []
        self.overhang: Pair = (0, 0)
        if self.stride == (1, 1):
            return
        number, first = next((number, step) for number, step in enumerate(plan.steps) if isinstance(step, Pool))
        self.source = first.source
        self.pools = [step for step in plan.steps if isinstance(step, Pool) and step.source == self.source]
        window = [max(step.window[axis] for step in self.pools) for axis in (0, 1)]
        self.phases = [(row, column) for row in range(self.stride[0] + window[0] - 1)
                       for column in range(self.stride[1] + window[1] - 1)]
        self.overhang = pair(max(0, window[axis] - 1 - self.source.reach[axis] + first.out.reach[axis])
                             for axis in (0, 1))
        for step in reversed(plan.steps[:number]):
            self.made_as_phases.append(step.out.name)
            if not isinstance(step, Rectify):
                break
        if not isinstance(plan.steps[max(0, number - len(self.made_as_phases))], Convolve):
            self.made_as_phases = []


def needed_positions(plan: DensePlan, first: FirstPooling) -> Dict[str, Map]:
    """Each map of a plan by name, with only those positions that later steps read.

    Only what a pooling or a combination makes is cut down, which is free there; a map of any other step keeps its
    positions, and so do the first pooling's own.
    """
    needed: Dict[str, Map] = {plan.output.name: plan.output}
    frames: Dict[str, Map] = {plan.input.name: plan.input}
    for step in reversed(plan.steps):
        can_be_cut = (isinstance(step, Pool) and step not in first.pools) or isinstance(step, Combine)
        out = frames[step.out.name] = needed[step.out.name] if can_be_cut else step.out
        # Of each source: the first and the last tap along both axes, and the distance of taps.
        if isinstance(step, Convolve):
            taps = [(step.rows[0], step.rows[1] - 1), (step.columns[0], step.columns[1] - 1)]
            reads = [(step.source, taps, step.spacing)]
        elif isinstance(step, Pool):
            reads = [(step.source, [(0, window - 1) for window in step.window], step.spacing)]
        elif isinstance(step, Combine):
            reads = [(operand.source, [(shift, shift) for shift in operand.offset], (1, 1))
                     for operand in step.operands]
        else:
            reads = [(step.source, [(0, 0), (0, 0)], (1, 1))]
        for source, taps, spacing in reads:
            start = pair(out.start[axis] + spacing[axis] * taps[axis][0] for axis in (0, 1))
            reach = pair(min(source.reach[axis], out.reach[axis] + spacing[axis] * taps[axis][1]) for axis in (0, 1))
            if source.name in needed:
                before = needed[source.name]
                start = pair(map(min, start, before.start))
                reach = pair(map(max, reach, before.reach))
            needed[source.name] = source._replace(start=start, reach=reach)
    return frames


def moved(position: Pair, axis: int, distance: int) -> Pair:
    """A position ``distance`` further along one axis."""
    return (position[0] + distance, position[1]) if axis == 0 else (position[0], position[1] + distance)


def phase_name(source: Map, phase: Pair) -> str:
    """Name of the blob that holds one phase of a map."""
    return f"{source.name}_phase_{phase[0]}_{phase[1]}"

"""A dense plan as items for the native engine.

What stays a map of its own is what convolutions, softmax and the output read; everything between is done line by
line on the way (:mod:`.line_builder`), and sums are made inside convolutions (:mod:`.chains`).
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from ...dense_plan.steps import Combine, Convolve, DensePlan, Pool, Rectify, Softmax, Step, sources
from ...nets.paper import MEMBRANE
from .chains import ChainLink, find_chains
from .items import Convolution, Item, Line, Lines, Link, Lowered, Output, SoftmaxItem
from .line_builder import LineBuilder, Taps

Kernels = Mapping[str, Tuple[np.ndarray, np.ndarray]]

_MOST_TAPS = 64
"""Poolings of poolings are not taken together beyond this number of pixels."""


def lower(plan: DensePlan, kernels: Kernels, logits: bool = False) -> Lowered:
    """Turn a plan into items.

    Parameters
    ----------
    plan, kernels : from :mod:`pycaffe_tools.dense_plan`.
    logits : leave out the logistic function at the end of a net of two classes, to look at the precision of what
        goes into it.
    """
    return _Lowering(plan, kernels).lowered(logits)


class _Lowering:
    def __init__(self, plan: DensePlan, kernels: Kernels):
        self._plan, self._kernels = plan, kernels
        self._step_of = {step.out.name: step for step in plan.steps}
        self._chains = find_chains(plan)
        self._made_by_chains = {link.out for links in self._chains.at.values() for link in links if link.out}
        self._taps: Dict[str, Optional[Taps]] = {}
        self._kept = self._maps_to_keep()
        self._items: List[Item] = []
        self._builder: Optional[LineBuilder] = None

    def lowered(self, logits: bool) -> Lowered:
        steps = list(self._plan.steps)
        last = steps[-1]
        head = self._logistic_head(last)
        for number, step in enumerate(steps):
            if number in self._chains.at:
                self._close()
                self._items.append(self._convolution(self._chains.at[number], head))
            elif number in self._chains.absorbed:
                continue
            elif isinstance(step, Softmax):
                self._close()
                if head is None or step is not last:
                    self._items.append(SoftmaxItem(step.source.name, step.out.name))
            elif step.out.name in self._kept:
                self._keep(step)
        self._close()
        if head is None:
            self._items.append(Output(self._plan.output.name, MEMBRANE, False))
        else:
            self._items.append(Output(head, 0, not logits))
        channels = {self._plan.input.name: self._plan.input.channels}
        for name in self._made_by_chains | self._kept:
            channels[name] = 1 if name == head else self._step_of[name].out.channels
        return Lowered(self._plan.input.name, self._plan.input.channels, channels, self._items)

    def _logistic_head(self, last: Step) -> Optional[str]:
        """The map of scores, if the net ends in a softmax of two classes that a convolution of its own scores.

        The probability is then the logistic function of the difference of the scores, which one output gives.
        """
        if not isinstance(last, Softmax) or last.source.channels != 2:
            return None
        chains = [links for links in self._chains.at.values() if links[-1].out == last.source.name]
        if not chains or len(chains[0]) != 1 or chains[0][0].addends or chains[0][0].rectified:
            return None
        readers = [step for step in self._plan.steps if last.source in sources(step)]
        return last.source.name if readers == [last] else None

    # -- convolutions ----------------------------------------------------------------------------------------

    def _convolution(self, links: Sequence[ChainLink], head: Optional[str]) -> Convolution:
        kernel, bias = self._kernels[links[0].step.layer]
        biases = bias.astype(float) if links[0].step.bias else np.zeros(len(bias))
        made = []
        for link in links:
            step = link.step
            piece = self._kernels[step.layer][0][:, :, slice(*step.rows), slice(*step.columns)].astype(float)
            if link.out == head and head is not None:
                piece, biases = (each[MEMBRANE:MEMBRANE + 1] - each[1 - MEMBRANE:2 - MEMBRANE] for each in (piece, biases))
            offset = (step.rows[0] * step.spacing[0], step.columns[0] * step.spacing[1])
            made.append(Link(step.source.name, piece, offset, step.spacing, link.out, link.addends, link.rectified))
        return Convolution(biases, tuple(made))

    # -- what is done line by line ---------------------------------------------------------------------------

    def _maps_to_keep(self) -> Set[str]:
        """Names of the maps that are made line by line and stored."""
        kept: Set[str] = {self._plan.output.name}
        for links in self._chains.at.values():
            for link in links:
                kept.update((link.step.source.name,) + link.addends)
        for step in self._plan.steps:
            if isinstance(step, Softmax):
                kept.update((step.source.name, step.out.name))
        kept -= self._made_by_chains
        kept.discard(self._plan.input.name)
        while True:
            more = self._unreachable(kept) - kept
            if not more:
                return kept
            kept |= more

    def _unreachable(self, kept: Set[str]) -> Set[str]:
        """Maps that must be kept since other lines than the one being made are read of them."""
        self._taps.clear()
        found: Set[str] = set()
        for number, step in enumerate(self._plan.steps):
            if number in self._chains.absorbed or isinstance(step, (Convolve, Softmax)):
                continue
            taps = self._taps_of(step, kept)
            if taps is not None and len(taps.taps) > _MOST_TAPS:
                found.update(source.name for source in sources(step) if not self._is_stored(source.name, kept))
            elif taps is not None:
                found.update(name for name, _, _ in taps.taps if not self._is_stored(name, kept))
            elif isinstance(step, Combine):
                found.update(operand.source.name for operand in step.operands
                             if operand.offset[0] and not self._is_stored(operand.source.name, kept))
        return found

    def _is_stored(self, name: str, kept: Set[str]) -> bool:
        return name in kept or name in self._made_by_chains or name == self._plan.input.name

    def _taps_of(self, step: Step, kept: Set[str]) -> Optional[Taps]:
        """The pixels that a step takes the maximum or sum of, poolings before it taken apart; None if it is a weighted sum."""
        name = step.out.name
        if name not in self._taps:
            self._taps[name] = self._find_taps(step, kept)
        return self._taps[name]

    def _find_taps(self, step: Step, kept: Set[str]) -> Optional[Taps]:
        if isinstance(step, Rectify):
            parts = [(step.source.name, (0, 0))]
            kind, scale, rectified = "MAX", 1.0, True
        elif isinstance(step, Pool):
            parts = [(step.source.name, (i * step.spacing[0], j * step.spacing[1]))
                     for i in range(step.window[0]) for j in range(step.window[1])]
            kind, scale, rectified = step.kind, step.scale, False
        else:
            assert isinstance(step, Combine)
            factors = {operand.coefficient for operand in step.operands}
            if step.kind == "SUM" and (len(factors) > 1 or all(operand.offset == (0, 0) for operand in step.operands)):
                return None
            parts = [(operand.source.name, operand.offset) for operand in step.operands]
            kind, scale, rectified = step.kind, factors.pop(), False
        taps: List[Tuple[str, int, int]] = []
        for name, (row, column) in parts:
            inner = None if self._is_stored(name, kept) else self._taps_of(self._step_of[name], kept)
            if inner is None or inner.kind != kind or inner.scale != 1:
                taps.append((name, row, column))
            else:
                rectified = rectified or inner.rectified
                taps += [(each, row + down, column + across) for each, down, across in inner.taps]
        order = {step.out.name: number for number, step in enumerate(self._plan.steps)}
        if kind == "MAX":
            taps = list(set(taps))
        return Taps(kind, tuple(sorted(taps, key=lambda tap: (order.get(tap[0], -1), tap[1], tap[2]))), scale, rectified)

    def _keep(self, step: Step) -> None:
        if self._builder is None or self._builder.channels != step.out.channels or not self._joins(step):
            self._close()
            self._builder = LineBuilder(step.out.channels)
        self._open_builder.keep(step.out.name, self._line(step.out.name))

    @property
    def _open_builder(self) -> LineBuilder:
        """The maps that are being made."""
        assert self._builder is not None
        return self._builder

    def _joins(self, step: Step) -> bool:
        """Whether a map can be made along with those being made: of these it may read the line being made alone."""
        taps = self._taps_of(step, self._kept)
        if taps is not None:
            return all(row == 0 for name, row, _ in taps.taps if name in self._open_builder.outs)
        assert isinstance(step, Combine)
        return all(operand.offset[0] == 0 and (operand.source.name in self._open_builder.outs
                                               or self._is_stored(operand.source.name, self._kept)
                                               or self._joins(self._step_of[operand.source.name]))
                   for operand in step.operands)

    def _line(self, name: str) -> Line:
        """The line of a map that is being made."""
        builder = self._open_builder
        if name in builder.outs:
            return builder.outs[name]
        step = self._step_of.get(name)
        if step is None or (self._is_stored(name, self._kept) and name not in self._kept):
            return Line(name, -1, 0, 0)
        if name in self._kept and self._is_finished(name):
            return Line(name, -1, 0, 0)
        taps = self._taps_of(step, self._kept)
        if taps is not None:
            return builder.pooled(taps)
        assert isinstance(step, Combine)
        return builder.weighted([(self._operand(operand.source.name, operand.offset), operand.coefficient)
                                 for operand in step.operands])

    def _operand(self, name: str, offset: Tuple[int, int]) -> Line:
        line = self._line(name)
        if line.map is not None:
            return line._replace(row=line.row + offset[0], column=line.column + offset[1])
        assert offset[0] == 0
        return line.shifted(offset[1])

    def _is_finished(self, name: str) -> bool:
        return any(isinstance(item, Lines) and name in item.outs for item in self._items)

    def _close(self) -> None:
        if self._builder is not None:
            self._items.append(self._builder.finish())
            self._builder = None

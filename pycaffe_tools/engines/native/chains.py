"""Which convolutions of a plan are made together, each adding to the sums of the one before it.

A plan writes an edge variant as a sum: the interior's convolution plus the convolution of a difference.  The sum
costs nothing where the second convolution goes on with the first one's sums while these are in registers.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ...dense_plan.steps import Combine, Convolve, DensePlan, Rectify, sources


class ChainLink(NamedTuple):
    """A convolution of a chain: ``out`` = its sums so far plus ``addends``."""

    step: Convolve
    out: Optional[str]
    addends: Tuple[str, ...]
    rectified: bool


class Chains(NamedTuple):
    """The chains of a plan."""

    at: Dict[int, List[ChainLink]]
    """Chains by the number of the last of the steps that each stands for."""
    absorbed: Set[int]
    """Numbers of all steps that chains stand for."""


def find_chains(plan: DensePlan) -> Chains:
    """Put every convolution of a plan into a chain."""
    separate: Set[str] = set()
    while True:
        found = _Finder(plan, separate)
        if not found.conflicts:
            return found.chains()
        separate |= found.conflicts


class _Finder:
    """One attempt; ``conflicts`` are partial convolutions that must be stored by themselves after all."""

    def __init__(self, plan: DensePlan, separate: Set[str]):
        self._steps = plan.steps
        self._uses: Dict[str, List[int]] = {}
        for number, step in enumerate(plan.steps):
            for source in sources(step):
                self._uses.setdefault(source.name, []).append(number)
        self._made = {step.out.name: number for number, step in enumerate(plan.steps)}
        self._output = plan.output.name
        self._home: Dict[str, int] = {}                 # partial convolution -> the sum that it is part of
        self._before: Dict[str, str] = {}               # convolution -> the one whose sums it goes on with
        self._after: Dict[str, str] = {}
        for number, step in enumerate(plan.steps):
            if isinstance(step, Combine) and step.kind == "SUM":
                self._place(number, step, separate)
        self.conflicts = {name for name in self._home
                          if any(number != self._home[name] and number != self._home.get(self._after.get(name, ""))
                                 for number in self._uses[name])}

    def _convolution(self, name: str) -> Optional[Convolve]:
        step = self._steps[self._made[name]] if name in self._made else None
        return step if isinstance(step, Convolve) else None

    def _place(self, number: int, step: Combine, separate: Set[str]) -> None:
        """Find the convolution whose chain gives a sum."""
        if any(operand.offset != (0, 0) or operand.coefficient != 1 for operand in step.operands):
            return
        names = [operand.source.name for operand in step.operands]
        found = next(((name, convolution) for name in names if name not in separate and name not in self._home
                      for convolution in [self._convolution(name)] if convolution is not None and not convolution.bias),
                     None)
        if found is None:
            return
        part, rows = found[0], found[1].rows
        self._home[part] = number
        for name in names:
            other = self._convolution(name)
            if name != part and other is not None and other.rows == rows and name not in self._after and (
                    name not in self._before):
                self._before[part], self._after[name] = name, part
                return

    def chains(self) -> Chains:
        result = Chains({}, set())
        for step in self._steps:
            if isinstance(step, Convolve) and step.out.name not in self._before:
                second = self._convolution(self._after.get(step.out.name, ""))
                parts = [step] if second is None else [step, second]
                links, numbers = [], set()
                for part in parts:
                    link, covered = self._link(part)
                    links.append(link)
                    numbers |= covered
                result.at[max(numbers)] = links
                result.absorbed.update(numbers)
                for link in links:      # a ReLU taken in stands after the rest, and has nothing left to do
                    result.absorbed.update(number for number, each in enumerate(self._steps)
                                           if isinstance(each, Rectify) and link.rectified and each.out.name == link.out)
        return result

    def _link(self, part: Convolve) -> Tuple[ChainLink, Set[int]]:
        name = part.out.name
        addends: Tuple[str, ...] = ()
        covered = {self._made[name]}
        continued = self._home.get(self._after.get(name, ""))
        if name in self._home:
            covered.add(self._home[name])
            total = self._steps[self._home[name]]
            assert isinstance(total, Combine)
            addends = tuple(operand.source.name for operand in total.operands
                            if operand.source.name not in (name, self._before.get(name)))
            out, uses = total.out.name, self._uses.get(total.out.name, [])
        else:
            out, uses = name, [number for number in self._uses.get(name, []) if number != continued]
        if not uses and out != self._output:
            return ChainLink(part, None, addends, False), covered
        if len(uses) == 1 and isinstance(self._steps[uses[0]], Rectify) and out != self._output:
            return ChainLink(part, self._steps[uses[0]].out.name, addends, True), covered
        return ChainLink(part, out, addends, False), covered

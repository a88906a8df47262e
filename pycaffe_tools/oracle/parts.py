"""Processes that hold a share of the patches each and evaluate candidates on it, with one thread each.

For two cores, two processes with one thread are faster than one process with
two: Caffe's im2col and pooling, and numpy, run on one core.  A process of its
own also keeps an abort of Caffe away from the caller.
"""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import numpy as np

from ..base.child import Child, ChildDied, serve
from ..base.errors import UserError
from ..base.machine import blas_environment, usage
from ..nets.netgraph import NetGraph
from .incremental import Incremental
from .oracle import PruningProblem
from .plain import PlainOracle


class RemotePart:
    """A process that answers for its patches.

    Parameters
    ----------
    problem : net, weights, layer and the patches of this part.
    options : further arguments of :func:`pycaffe_tools.oracle.parts.make_engine`.
    """

    def __init__(self, problem: PruningProblem, *options: Any):
        fields = {**problem._asdict(), "graph": problem.graph.with_batch(1).SerializeToString()}
        try:
            self._child = Child(__name__, (fields, options), blas_environment())
        except ChildDied as death:
            raise _ended(death) from None

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._child.process_id

    def ask(self, method: str, *arguments: Any) -> None:
        """Start a method of the engine."""
        try:
            self._child.send((method, arguments))
        except ChildDied as death:
            raise _ended(death) from None

    def answer(self) -> Any:
        """Wait for the result of what was asked, in the order of asking.

        Raises
        ------
        UserError : the engine's own, or the process ended.
        """
        try:
            return self._child.receive()
        except ChildDied as death:
            raise _ended(death) from None

    def close(self) -> None:
        """End the process."""
        self._child.close()


def _ended(death: ChildDied) -> UserError:
    return UserError(f"a process that evaluates candidates {death} (signal 9 is often sent for want of memory); "
                     f"the same command goes on where it was")


def start_parts(problem: PruningProblem, plain: bool, workers: int, max_memory: int, batch_size: int) -> List[RemotePart]:
    """Start processes and deal the patches out among them.

    Parameters
    ----------
    problem : with all patches.
    plain, batch_size : see :func:`pycaffe_tools.oracle.parts.make_engine`.
    workers : number of processes.
    max_memory : bytes that they and this process may take together.
    """
    own = len(problem.data) * problem.data[0].nbytes + (120 << 20)
    parts: List[RemotePart] = []
    try:
        for worker in range(workers):
            share = slice(worker, None, workers)
            mine = problem._replace(data=np.ascontiguousarray(problem.data[share]), labels=problem.labels[share])
            parts.append(RemotePart(mine, plain, batch_size, (max_memory - own) // workers))
        for part in parts:
            part.ask("ready")
        for part in parts:
            part.answer()
    except BaseException:
        for part in parts:
            part.close()
        raise
    return parts


def _prepare(settings: Tuple[Any, Any]) -> Callable[[Tuple[str, Any]], Any]:
    """What answers the requests of a :class:`RemotePart`; the engine is made when it is first needed."""
    from ..nets.schema import schema

    fields, options = settings
    engines: List[Any] = []

    def handle(request: Tuple[str, Any]) -> Any:
        method, arguments = request
        if method == "usage":
            return tuple(usage())
        if not engines:
            graph = NetGraph(schema().NetParameter.FromString(fields.pop("graph")))
            engines.append(make_engine(PruningProblem(graph=graph, **fields), *options))
            fields.clear()
        return None if method == "ready" else getattr(engines[0], method)(*arguments)

    return handle


class LocalPart:
    """An engine in this process, asked like one in another."""

    def __init__(self, engine: Any):
        self.engine = engine
        self._answer: Any = None

    def ask(self, method: str, *arguments: Any) -> None:
        """Call a method of the engine."""
        self._answer = getattr(self.engine, method)(*arguments)

    def answer(self) -> Any:
        """What the method returned."""
        return self._answer

    def close(self) -> None:
        """Nothing to end."""


def make_engine(problem: PruningProblem, plain: bool, batch_size: int, max_memory: int, from_start: bool = False) -> Any:
    """The engine of one part; ``from_start`` makes the plain one run the whole net for every candidate."""
    return PlainOracle(problem, batch_size, from_start) if plain else Incremental(problem, batch_size, max_memory)


if __name__ == "__main__":
    serve(_prepare)

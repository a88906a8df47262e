"""Processes that hold a share of the patches each and evaluate candidates on it, with one thread each.

For two cores, two processes with one thread are faster than one process with
two: Caffe's im2col and pooling, and numpy, run on one core.  A process of its
own also keeps an abort of Caffe away from the caller.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Protocol, Tuple

import numpy as np

from ..base.child import Child, ChildDied, serve
from ..base.errors import UserError
from ..base.host.blas import blas_environment
from ..base.host.machine import usage
from ..nets.netgraph import NetGraph
from .incremental import Incremental
from .net_incremental import NetIncremental
from .oracle import PruningProblem
from .plain import NetPlain, PlainOracle


class Part(Protocol):
    """An engine that holds a share of the patches; several of them work at the same time."""

    def submit(self, method: str, *arguments: Any) -> None:
        """Start a method of the engine."""

    def result(self) -> Any:
        """Wait for what the method returns, in the order in which methods were submitted."""

    def close(self) -> None:
        """End it."""


class RemotePart:
    """An engine in a process of its own; see :class:`Part`.

    Parameters
    ----------
    problem : net, weights, layer and the patches of this part.
    kind, batch_size, max_memory : see :func:`make_engine`.
    """

    def __init__(self, problem: PruningProblem, kind: str, batch_size: int, max_memory: int):
        fields = {**problem._asdict(), "graph": problem.graph.with_batch(1).SerializeToString()}
        try:
            self._child = Child(__name__, (fields, (kind, batch_size, max_memory)), blas_environment())
        except ChildDied as death:
            raise _ended(death) from None

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._child.process_id

    def submit(self, method: str, *arguments: Any) -> None:
        """Start a method of the engine."""
        try:
            self._child.send((method, arguments))
        except ChildDied as death:
            raise _ended(death) from None

    def result(self) -> Any:
        """Wait for what the method returns.

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


def open_parts(problem: PruningProblem, kind: str, workers: int, max_memory: int, batch_size: int) -> List[Part]:
    """Engines with the patches divided among them.

    Parameters
    ----------
    problem : with all patches.
    kind, batch_size : see :func:`make_engine`.
    workers : number of processes; 0: one engine in this process.
    max_memory : bytes that they and this process may take together.
    """
    if not workers:
        return [LocalPart(make_engine(problem, kind, batch_size, max_memory))]
    workers = min(workers, len(problem.labels))
    own = len(problem.data) * problem.data[0].nbytes + (120 << 20)
    parts: List[Part] = []
    try:
        for worker in range(workers):
            share = slice(worker, None, workers)
            mine = problem._replace(data=np.ascontiguousarray(problem.data[share]), labels=problem.labels[share])
            parts.append(RemotePart(mine, kind, batch_size, (max_memory - own) // workers))
        for part in parts:
            part.submit("ready")
        for part in parts:
            part.result()
    except BaseException:
        for part in parts:
            part.close()
        raise
    return parts


def _prepare(settings: Tuple[Any, Any]) -> Callable[[Tuple[str, Any]], Any]:
    """What answers the requests of a :class:`RemotePart`; the engine is made when it is first needed."""
    from ..nets.files.schema import schema

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
    """An engine in this process, used like one in another; see :class:`Part`."""

    def __init__(self, engine: Any):
        self.engine = engine
        self._result: Any = None

    def submit(self, method: str, *arguments: Any) -> None:
        """Call a method of the engine."""
        self._result = getattr(self.engine, method)(*arguments)

    def result(self) -> Any:
        """What the method returned."""
        return self._result

    def close(self) -> None:
        """Nothing to end."""


Maker = Callable[[PruningProblem, int, int], Any]

_ENGINES: Dict[str, Maker] = {
    "incremental": Incremental,
    "plain": lambda problem, batch_size, max_memory: PlainOracle(problem, batch_size),
    "plain from start": lambda problem, batch_size, max_memory: PlainOracle(problem, batch_size, from_start=True),
    "net incremental": NetIncremental,
    "net plain": lambda problem, batch_size, max_memory: NetPlain(problem, batch_size),
}


def make_engine(problem: PruningProblem, kind: str, batch_size: int, max_memory: int) -> Any:
    """The engine of one part.

    Parameters
    ----------
    problem : net, weights, layer and the patches of this part.
    kind : ``incremental``; ``plain``, which runs the net from the layer on; ``plain from start``, which runs all of it;
        or, for the candidates of every layer, ``net incremental`` and ``net plain``.
    batch_size : patches in one pass through Caffe.
    max_memory : bytes that an incremental engine may take.
    """
    return _ENGINES[kind](problem, batch_size, max_memory)


if __name__ == "__main__":
    serve(_prepare)

"""Processes that hold a share of the patches each and evaluate candidates on it, with one thread each.

For two cores, two processes with one thread are faster than one process with
two: Caffe's im2col and pooling, and numpy, run on one core.  A process of its
own also keeps an abort of Caffe away from the caller.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any, BinaryIO, List

import numpy as np

from ..base.errors import UserError
from ..base.files import PACKAGE_ROOT
from ..base.machine import blas_environment, usage
from ..nets.netgraph import NetGraph
from .incremental import Incremental
from .oracle import Task
from .plain import PlainOracle


class RemotePart:
    """A process that answers for its patches.

    Parameters
    ----------
    task : net, weights, layer and the patches of this part.
    options : further arguments of :func:`pycaffe_tools.oracle.parts.make_engine`.
    """

    def __init__(self, task: Task, *options: Any):
        environment = {**os.environ, **blas_environment()}
        package_parent = str(PACKAGE_ROOT.parent)
        environment["PYTHONPATH"] = os.pathsep.join(
            [package_parent] + [path for path in [environment.get("PYTHONPATH")] if path])
        self._process = subprocess.Popen([sys.executable, "-m", "pycaffe_tools.oracle.parts"], env=environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(({**task._asdict(), "graph": task.graph.with_batch(1).SerializeToString()}, options))

    def _send(self, message: Any) -> None:
        try:
            pickle.dump(message, self._process.stdin, protocol=4)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def ask(self, method: str, *arguments: Any) -> None:
        """Start a method of the engine."""
        self._send((method, arguments))

    def answer(self) -> Any:
        """Wait for the result of what was asked, in the order of asking.

        Raises
        ------
        UserError : the engine's own, or the process ended.
        """
        try:
            outcome, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if outcome == "user error":
            raise UserError(value)
        return value

    def _ended(self) -> UserError:
        code = self._process.wait()
        return UserError(f"a process that evaluates candidates ended with code {code} (its message is above; -9 means "
                         f"killed, often for want of memory); the same command goes on where it was")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def start_parts(task: Task, plain: bool, workers: int, max_memory: int, batch_size: int) -> List[RemotePart]:
    """Start processes and deal the patches out among them.

    Parameters
    ----------
    task : with all patches.
    plain, batch_size : see :func:`pycaffe_tools.oracle.parts.make_engine`.
    workers : number of processes.
    max_memory : bytes that they and this process may take together.
    """
    own = len(task.data) * task.data[0].nbytes + (120 << 20)
    parts: List[RemotePart] = []
    try:
        for worker in range(workers):
            share = slice(worker, None, workers)
            mine = task._replace(data=np.ascontiguousarray(task.data[share]), labels=task.labels[share])
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


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more (the caller ended)."""
    from ..nets.schema import schema

    def reply(*message: Any) -> None:
        pickle.dump(message, replies, protocol=4)
        replies.flush()

    fields, options = pickle.load(requests)
    engine = None
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        if method == "usage":
            reply("done", tuple(usage()))
            continue
        try:
            if engine is None:
                graph = NetGraph(schema().NetParameter.FromString(fields.pop("graph")))
                engine = make_engine(Task(graph=graph, **fields), *options)
                fields.clear()
            reply("done", None if method == "ready" else getattr(engine, method)(*arguments))
        except UserError as error:
            reply("user error", str(error))


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


def make_engine(task: Task, plain: bool, batch_size: int, max_memory: int, from_start: bool = False) -> Any:
    """The engine of one part; ``from_start`` makes the plain one run the whole net for every candidate."""
    return PlainOracle(task, batch_size, from_start) if plain else Incremental(task, batch_size, max_memory)


if __name__ == "__main__":
    # Caffe and libraries print to standard output; keep it for replies alone.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, channel)
    except (BrokenPipeError, EOFError, KeyboardInterrupt):
        # The caller is gone, and with it the need for an answer; nothing is left to flush into the closed pipe.
        os._exit(0)

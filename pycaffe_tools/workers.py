"""Processes that run a network on tiles, one thread each.

Several processes and not threads: Caffe's im2col and pooling run on one core,
and what goes wrong in Caffe (a failed check, too little memory) ends the whole
process without a word to Python.  The parent notices, says so, and goes on.

A worker is started as ``python -m pycaffe_tools.workers DESCRIPTOR`` with the
number of threads of its libraries set in its environment, where OpenBLAS and
OpenMP look once, while they are loaded.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Tuple

import numpy as np

from .base.errors import UserError
from .base.files import PACKAGE_ROOT

if TYPE_CHECKING:
    from .slice_queue import SliceQueue

DEATHS_IN_A_ROW = 3
"""After so many processes that ended without a result, something is wrong with more than one tile."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
                    "NUMEXPR_NUM_THREADS")


class Settings(NamedTuple):
    """What a worker has to know to start."""

    engine: str
    """Name of the engine, see :func:`pycaffe_tools.engines.create`."""
    deploy: str
    weights: str
    """Paths of the two files of the network."""
    mean: float
    std: float
    """Normalisation of grey values."""
    tile: Tuple[int, int]
    """Rows and columns of output."""


class WorkerDied(Exception):
    """A worker process ended by itself; the text says how."""


class Worker:
    """A worker process, seen from its parent.

    Raises
    ------
    UserError : the engine cannot run this network.
    WorkerDied : the process ended before it was ready.
    """

    def __init__(self, settings: Settings):
        parent, child = socket.socketpair()
        self._log = tempfile.TemporaryFile()
        environment = dict(os.environ, PYTHONUNBUFFERED="1", **{name: "1" for name in THREAD_VARIABLES})
        # The package may be imported from a checkout, which the child does not look into by itself.
        package_root = str(PACKAGE_ROOT.parent)
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (package_root, os.environ.get("PYTHONPATH")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pycaffe_tools.workers", str(child.fileno())], pass_fds=[child.fileno()],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment)
        child.close()
        self._connection = Connection(parent.detach())
        try:
            self._answer(settings)
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._process.pid

    def predict(self, grey: np.ndarray) -> np.ndarray:
        """Probabilities (float32, the tile's shape) of a tile's grey values with their rim, as the volume holds them.

        Raises
        ------
        WorkerDied : the process ended; make a new one.
        """
        return self._answer(grey)

    def _answer(self, message: Any) -> Any:
        try:
            self._connection.send(message)
            kind, content = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerDied(self._last_words()) from None
        if kind == "refused":
            raise UserError(content)
        return content

    def _last_words(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        # Caffe's reason stands before the stack trace that glog prints behind "***".
        fatal = [line for line in lines if "Check failed" in line or "Error" in line]
        said = f", its last words were: {(fatal or lines)[-1][:300]}" if lines else ""
        if code == -signal.SIGKILL:
            return (f"a worker process was killed (signal 9{said}), probably because memory ran out; "
                    f"give less with --max-memory")
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"a worker process ended {how}{said}"

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._connection.close()


def serve(connection: Connection) -> None:
    """What a worker process does: an engine from the first message, then a tile in, a tile out until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C reaches the parent too, which ends its workers
    from . import engines
    from .nets.model import Normalisation
    from .nets.caffemodel import read_weights
    from .nets.netgraph import read_net

    try:
        settings = connection.recv()
        engine = engines.create(settings.engine, read_net(settings.deploy), read_weights(settings.weights),
                                tile=settings.tile, threads=1)
    except UserError as error:
        connection.send(("refused", str(error)))
        return
    normalisation = Normalisation(settings.mean, settings.std)
    connection.send(("ready", None))
    while True:
        try:
            grey = connection.recv()
        except (EOFError, ConnectionError):
            return
        result = engine.predict(normalisation.apply(grey))
        try:
            connection.send(("done", result))
        except ConnectionError:
            return              # the parent was killed


def run_workers(queue: SliceQueue, settings: Settings, count: int, report: Callable[[int], None]) -> None:
    """Work through a queue with ``count`` processes, each led by a thread of this one.

    ``report`` is called with the number of tiles that are done.

    Raises
    ------
    UserError : workers cannot run this network, or die one after the other; or the disk is full.
    """
    done = [0]
    living: List[Worker] = []
    lock = threading.Lock()

    def start() -> Worker:
        worker = Worker(settings)
        with lock:
            living.append(worker)
        return worker

    def lead() -> None:
        try:
            worker, deaths = start(), 0
            while True:
                task = queue.take()
                if task is None:
                    return
                for attempt in (1, 2):      # a worker may die of something that passes, such as too little memory
                    try:
                        queue.done(task, worker.predict(task.grey))
                        deaths = 0
                        break
                    except WorkerDied as death:
                        if queue.error is not None:
                            return
                        deaths += 1
                        if deaths >= DEATHS_IN_A_ROW:
                            raise UserError(f"segmenting: {death}, and so did the {deaths - 1} before it; what is "
                                            f"finished is kept, run the same command again when that is put right")
                        worker.close()
                        worker = start()
                        if attempt == 2:
                            queue.failed(task, str(death))
                with lock:
                    done[0] += 1
                    report(done[0])
        except WorkerDied as death:
            queue.stop(UserError(f"segmenting: {death}"))
        except BaseException as error:      # told to the main thread, which raises it
            queue.stop(error)

    threads = [threading.Thread(target=lead, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)            # in pieces, so that Ctrl-C gets through
    except BaseException as error:
        queue.stop(error)
        raise
    finally:
        with lock:
            for worker in living:
                worker.close()
    if queue.error is not None:
        raise queue.error


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))

"""An engine in a child process: start it, send it tiles, read probabilities back, report how it died.

A worker is started as ``python -m pycaffe_tools.engines.process DESCRIPTOR`` with the
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
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import PACKAGE_ROOT

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
        environment = dict(os.environ, PYTHONUNBUFFERED="1", **dict.fromkeys(THREAD_VARIABLES, "1"))
        # The package may be imported from a checkout, which the child does not look into by itself.
        package_root = str(PACKAGE_ROOT.parent)
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (package_root, os.environ.get("PYTHONPATH")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pycaffe_tools.engines.process", str(child.fileno())], pass_fds=[child.fileno()],
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
    from .. import engines
    from ..nets.caffemodel import read_weights
    from ..nets.model import Normalisation
    from ..nets.netgraph import read_net

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


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))

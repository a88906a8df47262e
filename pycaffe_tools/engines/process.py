"""A worker of segmentation: an engine with its normalisation, in a process of its own or in this one."""

from __future__ import annotations

import signal
from typing import Any, Callable, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..base.child import Child, ChildDied, serve
from ..base.host.machine import ONE_THREAD


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
    """A worker process with one thread, seen from its parent.

    Raises
    ------
    UserError : the engine cannot run this network.
    WorkerDied : the process ended before it was ready.
    """

    def __init__(self, settings: Settings):
        self._child = Child(__name__, settings, ONE_THREAD)
        try:
            self._ask(None)
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._child.process_id

    def predict(self, grey: np.ndarray) -> np.ndarray:
        """Probabilities (float32, the tile's shape) of a tile's grey values with their halo, as the volume holds them.

        Raises
        ------
        WorkerDied : the process ended; make a new one.
        """
        probabilities: np.ndarray = self._ask(grey)
        return probabilities

    def _ask(self, grey: Optional[np.ndarray]) -> Any:
        try:
            return self._child.ask(grey)
        except ChildDied as death:
            advice = (", probably because memory ran out; give less with --max-memory"
                      if death.code == -signal.SIGKILL else "")
            raise WorkerDied(f"a worker process {death}{advice}") from None

    def close(self) -> None:
        """End the process."""
        self._child.close()


class SharedWorker:
    """An engine in this process that several threads call at once; it computes without Python's lock.

    No process has to be started and no tile copied to it, which for a small net would take longer than the work.

    Raises
    ------
    UserError : the engine cannot run this network.
    """

    def __init__(self, settings: Settings):
        self._predict = _prepare(settings)

    def predict(self, grey: np.ndarray) -> np.ndarray:
        """Probabilities (float32, the tile's shape) of a tile's grey values with their halo, as the volume holds them."""
        probabilities = self._predict(grey)
        assert probabilities is not None
        return probabilities

    def close(self) -> None:
        """Nothing has to be ended."""


AnyWorker = Union[Worker, SharedWorker]


def _prepare(settings: Settings) -> Callable[[Optional[np.ndarray]], Optional[np.ndarray]]:
    """Make the engine; what it is called with is a tile of raw grey values, or None to ask whether it is ready."""
    from .. import engines
    from ..nets.files.caffemodel import read_weights
    from ..nets.model import Normalisation
    from ..nets.netgraph import read_net

    engine = engines.create(settings.engine, read_net(settings.deploy), read_weights(settings.weights),
                            tile=settings.tile, threads=1)
    normalisation = Normalisation(settings.mean, settings.std)
    return lambda grey: None if grey is None else engine.predict(normalisation.apply(grey))


if __name__ == "__main__":
    serve(_prepare)

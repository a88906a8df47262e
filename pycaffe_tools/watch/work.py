"""Slices as they come, computed by one of two models, each with workers that stay; results go into the folder of results."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np

from .. import __version__
from ..base.errors import UserError
from ..base.ranges import Pair, Region
from ..segment.plausibility import drift_of, grey_values_of, warnings_of
from ..segment.slices.computing import Computing, Slices
from ..segment.slices.slice_store import pixel_hash, refuse_difference
from ..volumes.opening import open_volume
from ..volumes.pixel_size import UNKNOWN_PIXEL_SIZE, PixelSize
from ..volumes.volume import Volume
from .folder import Seen, WatchedFolder
from .request import Asked, identity
from .results import FORMAT, MANIFEST, Done, Results, earlier_shape, timestamp, told_if_full

MANY = 1 << 20
"""Slices for which tiles are planned where nobody knows how many will come."""

IN_HAND = 2
"""Slices given out at a time: while one is finished and written, the workers go on with the next."""

STARTED, FINISHED, FAILED = "started", "finished", "failed"

FIRST, LATE = "model", "model_when_late"
"""Roles of the two models, as they are called in the records."""


class _Stopped(Exception):
    """Nobody waits for the rest."""


class Running:
    """A model's workers, led by a thread beside the caller's; slices are put into their queue one by one.

    Parameters
    ----------
    computing : the model, made ready.
    read, finish, fail : see :class:`~pycaffe_tools.segment.slices.slice_queue.SliceQueue`; called by other threads.
    ended : called when the workers have ended, whatever the reason.
    """

    def __init__(self, computing: Computing, read: Callable[[int], np.ndarray],
                 finish: Callable[[int, np.ndarray, np.ndarray], None], fail: Callable[[int, str], None],
                 ended: Callable[[], None]):
        self._queue = computing.queue([], read, finish, fail, more=True)
        self._error: Optional[BaseException] = None

        def lead() -> None:
            try:
                computing.run(self._queue)
            except _Stopped:
                pass
            except BaseException as error:      # told to the main thread, which raises it
                self._error = error
            ended()

        self._thread = threading.Thread(target=lead, daemon=True)
        self._thread.start()

    def add(self, number: int) -> None:
        """One more slice."""
        self._queue.add(number)

    def check(self) -> None:
        """Raise what has ended the workers, if something has."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let the workers do what is in the queue, and end them."""
        self._queue.close()
        self._thread.join()
        self.check()

    def stop(self) -> None:
        """End the workers after the tiles that they have; slices that are not finished are given up."""
        self._queue.stop(_Stopped())
        self._thread.join()


@dataclass
class Job:
    """A slice that is given out.

    ``again`` says that it was finished before, with other pixels.
    """

    name: str
    seen: Seen
    again: bool
    waiting: int
    """Slices that were waiting when it was given out, itself not counted."""
    role: str = FIRST
    started: Optional[float] = None
    pixel_size: PixelSize = UNKNOWN_PIXEL_SIZE
    done: Optional[Done] = None
    sentence: Optional[str] = None
    """Why it failed."""


class Work:
    """Takes whole slices, and reports what became of them in ``reports``.

    Parameters
    ----------
    asked : models and options.
    folder : where the slices are.
    results : where results go.
    earlier : the manifest of the run that is continued.
    ring : called whenever there is something in ``reports``, or the workers have ended.

    Attributes
    ----------
    reports : what has become of jobs, as pairs of ``STARTED``, ``FINISHED`` or ``FAILED`` and the job.
    jobs : those in hand, by their numbers.
    warnings : sentences on the first slice's pixel size.
    """

    def __init__(self, asked: Asked, folder: WatchedFolder, results: Results, earlier: Optional[Mapping[str, Any]],
                 ring: Callable[[], None]):
        self._asked, self._folder, self._results, self._ring = asked, folder, results, ring
        self.reports: queue.SimpleQueue[Tuple[str, Job]] = queue.SimpleQueue()
        self.jobs: Dict[int, Job] = {}
        self.models = {FIRST: asked.model, **({LATE: asked.late} if asked.late else {})}
        self.computings: Dict[str, Computing] = {}
        self._running: Optional[Tuple[str, Running]] = None
        self._next = 0
        self._last_finished = 0.0
        self.warnings: Tuple[str, ...] = ()
        if earlier is not None:
            place = results.folder / MANIFEST
            shape, dtype, tiles = earlier_shape(earlier, place)
            self._prepare(shape, dtype, {role: self._earlier_tile(role, tiles.wholes(role)) for role in self.models})
            refuse_difference(results.folder, {"tiles": earlier["tiles"]}, {"tiles": self._tiles()})

    def _earlier_tile(self, role: str, tile: Any) -> Pair:
        if len(tile) != 2 or not all(tile):
            raise UserError(f"{self._results.folder / MANIFEST}: its field tiles.{role} is not a tile's rows and columns; pass "
                            f"--force to start from scratch")
        return tile[0], tile[1]

    def _prepare(self, shape: Pair, dtype: np.dtype, tiles: Mapping[str, Pair]) -> None:
        request = self._asked.request
        slices = Slices(shape, dtype, Region(0, shape[0], 0, shape[1]), request.slices or MANY)
        self.computings = {
            role: Computing(model, model.normalisation, request.segmentation(str(model.directory)), self._asked.engine, slices,
                            tiles.get(role)) for role, model in self.models.items()}

    def _tiles(self) -> Dict[str, Any]:
        return {role: list(computing.plan.tile) for role, computing in self.computings.items()}

    def _begin_with(self, name: str) -> None:
        """Take size and data type of all slices from the first."""
        with _opened(self._folder, name) as volume:
            volume.read(0)          # a file that is not whole must not decide
            self._prepare(volume.shape[1:], volume.dtype, {})
            self.warnings = tuple(warnings_of(volume, None, self._asked.model))
            self._results.describe({**self._asked.manifest, "tiles": self._tiles(),
                                    "slices": {"shape": list(volume.shape[1:]), "dtype": volume.dtype.name}})

    # -- what the main thread calls -----------------------------------------------------------------------------

    def give(self, name: str, seen: Seen, late: bool, again: bool, waiting: int) -> Optional[Job]:
        """Give a slice to the workers.

        Returns
        -------
        The job; None while enough is in hand, or the other model is still at work.

        Raises
        ------
        UserError : what has ended the workers.
        """
        self.check()
        job = Job(name, seen, again, waiting, LATE if late else FIRST)
        if len(self.jobs) >= IN_HAND or (self._running and self._running[0] != job.role and self.jobs):
            return None
        if not self.computings:
            try:
                self._begin_with(name)
            except UserError as error:
                job.sentence = str(error)
                self._report(FAILED, job)
                return job
        if self._running is None or self._running[0] != job.role:
            # One model's workers at a time, so that the two together need no more memory than one is allowed.
            if self._running is not None:
                self._running[1].close()
            self._running = job.role, Running(self.computings[job.role], self._read, self._finish, self._fail, self._ring)
        self._next += 1
        self.jobs[self._next] = job
        self._running[1].add(self._next)
        return job

    def check(self) -> None:
        """Raise what has ended the workers, if something has."""
        if self._running is not None:
            self._running[1].check()

    def stop(self) -> None:
        """End the workers; slices in hand are given up."""
        if self._running is not None:
            self._running[1].stop()

    def grey_hash(self, name: str) -> Optional[str]:
        """Hash of a slice's grey values as they are now; None if it cannot be read."""
        try:
            with _opened(self._folder, name) as volume:
                return pixel_hash(volume.read(0))
        except UserError:
            return None

    # -- what the workers' threads call -------------------------------------------------------------------------

    def _report(self, event: str, job: Job) -> None:
        self.reports.put((event, job))
        self._ring()

    def _read(self, number: int) -> np.ndarray:
        job = self.jobs[number]
        job.started = time.time()
        self._report(STARTED, job)
        slices = self.computings[job.role].slices
        with _opened(self._folder, job.name) as volume:
            if volume.shape[1:] != slices.shape or volume.dtype != slices.dtype:
                raise UserError(f"{volume.path}: has {volume.shape[1]} x {volume.shape[2]} pixels of {volume.dtype}, and the first "
                                f"slice had {slices.shape[0]} x {slices.shape[1]} of {slices.dtype}; bring all slices to one size "
                                f"and data type")
            grey = volume.read(0)
            job.pixel_size = PixelSize(None, volume.pixel_size.y, volume.pixel_size.x)
        if self._folder.signature(job.name) != job.seen.signature:
            raise UserError(f"{volume.path}: changed while it was read")
        return grey

    def _fail(self, number: int, sentence: str) -> None:
        job = self.jobs.pop(number)
        job.sentence = sentence
        self._report(FAILED, job)

    def _finish(self, number: int, grey: np.ndarray, probability: np.ndarray) -> None:
        job = self.jobs[number]
        with told_if_full(self._results.folder):
            self._write(job, grey, probability)
        del self.jobs[number]
        self._report(FINISHED, job)

    def _write(self, job: Job, grey: np.ndarray, probability: np.ndarray) -> None:
        computing, model = self.computings[job.role], self.models[job.role]
        result = computing.result(f"slice {job.name}", grey, probability)
        assert result.mask is not None and job.started is not None
        files = self._results.save(job.name, grey, result, job.pixel_size)
        values = grey_values_of(grey)
        assert values is not None       # the queue refuses what is not finite
        finished = time.time()
        seconds = max(0.0, finished - max(job.started, self._last_finished))
        self._last_finished = finished
        job.done = self._results.record(job.name, {
            "format": FORMAT, "slice": job.name,
            "source": {**job.seen.signature._asdict(), "shape": list(grey.shape), "dtype": grey.dtype.name,
                       "pixel_size_nm": list(job.pixel_size)},
            "grey_sha256": result.grey_sha256,
            "grey": {"mean": values.mean, "std": values.std, "drift": drift_of(values, model.normalisation).words},
            "model": {"role": job.role, **identity(model)},
            "options": {"mode": self._asked.request.mode, "engine": computing.plan.engine, "tile": list(computing.plan.tile),
                        "dtype": self._asked.request.dtype, "threshold": computing.threshold},
            "membrane_fraction": float((result.mask > 0).mean()),
            "times": {"arrived": timestamp(job.seen.arrived), "started": timestamp(job.started), "finished": timestamp(finished),
                      "seconds": round(seconds, 3), "delay": round(max(0.0, finished - job.seen.arrived), 3)},
            "waiting": job.waiting, "files": files,
            "made_with": {"pycaffe_tools": __version__, "numpy": np.__version__}})


def _opened(folder: WatchedFolder, name: str) -> Volume:
    """A slice's file as a volume of one slice.

    Raises
    ------
    UserError : it cannot be read.
    """
    file = folder.folder / name
    try:
        volume = open_volume(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); copy it again") from None
    if volume.shape[0] != 1:
        volume.close()
        raise UserError(f"{file}: holds {volume.shape[0]} slices; a folder of slices has one a file")
    return volume

"""One model made ready for slices of one size: what a finished stack and a growing folder have in common.

Tile, workers and memory are decided first.  Then slices go in as grey values
and come out as probability and mask; where they are read and kept is the
caller's business.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.host.machine import Limit, peak_so_far
from ...base.ranges import Pair, Region
from ...engines.engine import halo
from ...engines.process import Settings
from ...nets.model import Model, Normalisation
from ..planning import Job, SegmentationPlan, limits_here, make_plan
from ..request import Request, calibration_of
from .pool import run_workers
from .slice_queue import SliceQueue, slices_in_memory
from .slice_store import SliceResult, pixel_hash
from .tiles import PaddedSlice, grid


class Slices(NamedTuple):
    """The slices that are to be computed, as far as tiles and memory depend on them."""

    shape: Pair
    """Rows and columns of the grey values."""
    dtype: np.dtype
    region: Region
    """The part that is segmented."""
    total: int
    """How many."""


class Computing:
    """How slices are computed with one model.

    Parameters
    ----------
    model : opened.
    normalisation : of the grey values.
    request : options; its paths are used only to tell which results are made.
    engine : what :func:`~pycaffe_tools.segment.request.engine_of` says.
    slices : see :class:`Slices`.
    tile : rows and columns that an earlier run used; the request's own, or the best, by default.
    limits : cores and memory to plan with; by default what this computer offers.

    Attributes
    ----------
    plan : engine, tile, workers and predicted memory.
    threshold : probability from which a pixel is membrane: of the results if it was asked for, else of the balanced network.
    calibration : of the results; None if they are the network's own.

    Raises
    ------
    UserError : too little memory is allowed, or the engine cannot run the net.
    """

    def __init__(self, model: Model, normalisation: Normalisation, request: Request, engine: str, slices: Slices,
                 tile: Optional[Pair] = None, limits: Optional[Tuple[Limit, Limit]] = None):
        self.model, self.normalisation, self.slices = model, normalisation, slices
        self.threshold = model.threshold if request.threshold is None else request.threshold
        self.calibration = calibration_of(request, model)
        self._threshold_is_calibrated = self.calibration is not None and request.threshold is not None
        self._dtype = request.dtype
        graph = model.net()
        workers, memory = limits or limits_here(request)
        job = Job(slices.shape, slices.region.shape, slices.total, slices.dtype.itemsize,
                  4 + (request.dtype == "uint8") + 2 * bool(request.mask_out or request.overlay_out),
                  request.overlay_out is not None, peak_so_far())
        self.plan: SegmentationPlan = make_plan(engine, graph, job, workers.amount, memory.amount, request.tile or tile)
        self._around = halo(graph)
        self._tiles = grid(slices.region.shape, self.plan.tile)

    def queue(self, slices: Sequence[int], read: Callable[[int], np.ndarray],
              finish: Callable[[int, np.ndarray, np.ndarray], None], fail: Callable[[int, str], None],
              more: bool = False) -> SliceQueue:
        """A queue of slices for :meth:`run`; see :class:`~pycaffe_tools.segment.slices.slice_queue.SliceQueue`."""
        return SliceQueue(slices, read, lambda grey: PaddedSlice(grey, self.slices.region, self._around), self._tiles,
                          self.slices.region.shape, finish, fail, slices_in_memory(self.plan.workers, len(self._tiles)), more)

    def run(self, queue: SliceQueue, slices: Optional[int] = None, report: Callable[[int], None] = lambda done: None) -> None:
        """Work through a queue, which takes as long as it has slices.

        Parameters
        ----------
        queue : made by :meth:`queue`.
        slices : how many will come; more workers than these have tiles are not started. None where nobody knows.
        report : called with the number of tiles that are done.

        Raises
        ------
        UserError : see :func:`~pycaffe_tools.segment.slices.pool.run_workers`.
        """
        mean, std = self.normalisation
        settings = Settings(self.plan.engine, str(self.model.deploy), str(self.model.weights), mean, std, self.plan.tile)
        tiles = len(self._tiles) * (self.slices.total if slices is None else slices)
        run_workers(queue, settings, min(self.plan.workers, tiles), report)

    def result(self, where: str, grey: np.ndarray, probability: np.ndarray) -> SliceResult:
        """The results of a slice, of the data types asked for.

        Parameters
        ----------
        where : the slice in a message.
        grey : rows x columns, as read.
        probability : float32, rows x columns of the region.

        Raises
        ------
        UserError : the network gives values that are not numbers.
        """
        if not np.isfinite(probability).all():
            raise UserError(f"{self.model.directory}: gives probabilities that are not numbers in {where}; its weights or "
                            f"its normalisation are damaged, or the grey values are far from those it was trained on")
        called = probability
        if self.calibration is not None:
            probability = self.calibration.apply(probability)
            # The model's own threshold is one of the balanced probability.
            called = probability if self._threshold_is_calibrated else called
        mask = (called >= np.float32(self.threshold)).astype(np.uint8) * 255
        if self._dtype == "uint8":
            probability = np.rint(probability * np.float32(255)).astype(np.uint8)
        return SliceResult(probability, mask, pixel_hash(grey))

"""How much memory a segmentation takes, known before it starts: the choice of tile size and number of workers.

The peak is the sum over this process (its own peak so far, read from the
operating system, and a counted number of slices) and the workers (what their
engine predicts for a tile).
"""

from __future__ import annotations

import os
from typing import Iterator, List, Mapping, NamedTuple, Optional, Tuple

from .. import engines
from ..base.errors import UserError
from ..base.host.machine import Limit, core_limit, free_memory, job_memory
from ..base.ranges import Pair, size_text
from ..engines.engine import patch_size
from ..engines.tiling import even_tile, grid
from ..nets.netgraph import NetGraph
from .request import Request
from .slices.slice_queue import slices_in_memory

PATCH_TILE = 64
"""Side of a tile for patch by patch, where a larger one saves nothing and progress would come in minutes."""

SMALLEST_SHARED_TILE = 64
"""Below this side, fewer workers are better: a tile of 32 computes four times its own area."""

_OWN_STEP = 32_000_000

BYTES_PER_WORKER = 10**9
"""Memory that a worker may take where the user does not say, see :func:`default_limit`."""


def default_limit(workers: int, environment: Mapping[str, str] = os.environ) -> Limit:
    """Bytes allowed where the user does not say, for ``workers`` of them and this process.

    1 GB for each; at most half of what is free, since other programs run here
    too; and at most four fifths of what a batch system gave to this job alone.
    """
    free, job = free_memory(), job_memory(environment)
    found = [Limit(BYTES_PER_WORKER * (workers + 1), "1 GB for each worker and this process"),
             Limit(free.amount // 2, f"half of {free.source}")]
    if job is not None:
        found.append(Limit(job.amount * 4 // 5, f"four fifths of {job.source}"))
    return min(found, key=lambda limit: limit.amount)


def limits_here(request: Request) -> Tuple[Limit, Limit]:
    """Cores and memory that a segmentation may use on this computer: what the user says, else what there is."""
    count = core_limit() if request.workers is None else Limit(request.workers, "--workers")
    return count, default_limit(count.amount) if request.max_memory is None else Limit(request.max_memory, "--max-memory")


class Job(NamedTuple):
    """What there is to do, as far as memory depends on it."""

    slice_shape: Pair
    """Rows and columns that are read."""
    region: Pair
    """Rows and columns that are segmented."""
    slices: int
    itemsize: int
    """Bytes of a grey value."""
    result_bytes: int
    """Bytes of a pixel's results: its probability (float32), its rounded form, its mask, as far as they are made."""
    overlay: bool
    own_bytes: int
    """Memory of this process before it holds any slice, see :func:`peak_so_far`."""


class SegmentationPlan(NamedTuple):
    """How a job is done within a limit of memory."""

    engine: str
    tile: Pair
    workers: int
    tiles: int
    """Tiles of a slice."""
    own_bytes: int
    worker_bytes: int
    limit: int

    @property
    def peak(self) -> int:
        """Predicted peak of resident memory, this process and its workers, in bytes."""
        return self.own_bytes + self.workers * self.worker_bytes


def make_plan(engine: str, graph: NetGraph, job: Job, workers: int, limit: int, tile: Optional[Pair] = None) -> SegmentationPlan:
    """Choose tile size and workers: smaller tiles, then fewer workers, until the prediction is within the limit.

    Parameters
    ----------
    engine : name of an engine.
    graph : the net for patches.
    job : what there is to do.
    workers : processes wanted.
    limit : bytes, for all processes together.
    tile : fixed by the user, or by an earlier run of the same job.

    Raises
    ------
    UserError : not even one worker with the smallest tile fits; says the least that would do. Or the engine cannot
        run the net.
    """
    engines.predicted_bytes(engine, graph, (1, 1))      # says here why an engine cannot run a net
    least: List[int] = []
    for count in range(workers, 0, -1):
        for size in ([tile] if tile else _sizes(engine, graph, job, count)):
            plan = _predict(engine, graph, job, size, count, limit)
            least.append(plan.peak)
            if plan.peak <= limit:
                return plan
    raise UserError(f"--max-memory {size_text(limit)}: is too little for engine {engine}{_tile_text(tile)} and slices of "
                    f"{job.slice_shape[0]} x {job.slice_shape[1]}; the least that would do is {size_text(min(least))}")


def _tile_text(tile: Optional[Pair]) -> str:
    return f" with tiles of {tile[0]}x{tile[1]}" if tile else ""


def _sizes(engine: str, graph: NetGraph, job: Job, count: int) -> Iterator[Pair]:
    """Tile sizes to try, the best first."""
    allowed = 1 << 62
    last = None
    while True:
        try:
            best = engines.best_tile(engine, graph, allowed)
        except UserError:
            return
        allowed = engines.predicted_bytes(engine, graph, best) - 1
        if engine == "patch" and min(best) > PATCH_TILE:
            continue
        if count > 1 and min(best) < SMALLEST_SHARED_TILE:
            return
        size = _shared(even_tile(best, job.region), job, count)
        if size != last:
            yield size
        last = size


def _shared(size: Pair, job: Job, count: int) -> Pair:
    """A tile small enough that every worker gets at least two of them, where that does not make tiles tiny."""
    while len(grid(job.region, size)) * job.slices < 2 * count and max(size) >= 2 * SMALLEST_SHARED_TILE:
        rows, columns = size
        half = (-(-rows // 2), columns) if rows >= columns else (rows, -(-columns // 2))
        size = even_tile(half, job.region)
    return size


def _predict(engine: str, graph: NetGraph, job: Job, size: Pair, count: int, limit: int) -> SegmentationPlan:
    tiles = len(grid(job.region, size))
    count = max(1, min(count, tiles * job.slices))
    read, kept = _area(job.slice_shape), _area(job.region)
    # Grey values, results, an overlay's float32 and colours; and, for one slice at a time, what reading it takes.
    one = read * job.itemsize + kept * (job.result_bytes + (4 + 4 + 3 + 3 if job.overlay else 0))
    reading = read * (job.itemsize + 1)
    side = patch_size(graph)
    messages = 3 * (size[0] + side) * (size[1] + side) * (job.itemsize + 4)
    # What is still to be loaded (matplotlib for overlays), and a step so coarse that equal jobs get equal plans.
    own = job.own_bytes + (80_000_000 if job.overlay else 16_000_000)
    own = -(-own // _OWN_STEP) * _OWN_STEP + min(slices_in_memory(count, tiles), max(job.slices, 1)) * one + reading + count * messages
    return SegmentationPlan(engine, size, count, tiles, own, _worker_bytes(engine, graph, size), limit)


def _worker_bytes(engine: str, graph: NetGraph, size: Pair) -> int:
    """What a worker takes: a process, or a thread of this one with its tiles before and after."""
    alone = engines.predicted_bytes(engine, graph, size)
    if engine not in engines.RUN_BY_THREADS:
        return alone
    more = engines.predicted_bytes(engine, graph, size, threads=2) - alone
    side = patch_size(graph)
    return more + 4 * 4 * (size[0] + 2 * side) * (size[1] + 2 * side)


def _area(shape: Tuple[int, int]) -> int:
    return shape[0] * shape[1]

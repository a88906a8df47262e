"""A segmentation whose slices are computed by the workers of a Dask scheduler.

This process plans, holds the lock of the output and writes the volume at the
end; each task is a part of the slices, whose results a worker puts where a
local run puts them: beside the output, or straight into an OME-Zarr.  So
manifest, resuming, table and bytes are those of a local run.  Input, model and
output have to be on a file system that all workers see under the same names.

    >>> from distributed import Client                                          # doctest: +SKIP
    >>> segment(Client("tcp://head:8786"), Request("raw.tif", "p.zarr", "runs/N7"), parts=16)   # doctest: +SKIP
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ... import __version__
from ...base.errors import UserError
from ...base.progress import Progress
from ...base.ranges import Part, slice_ranges
from ...cluster.dask import in_turn, threads_of
from ...volumes.paths import split_dataset
from ..in_place.shared_store import SharedStore
from ..in_place.sharing import finish
from ..request import Request
from ..segmentation import Compute, Segmentation, Summary
from ..slices.slice_store import refuse_difference

TASKS_OF_A_THREAD = 4
"""Parts for each thread of the workers, where the user does not say: few to begin, enough to even out."""


class Share(NamedTuple):
    """What a task needs to know."""

    request: Request
    manifest: Dict[str, Any]
    slices: List[int]
    version: str


def segment(client: Any, request: Request, parts: Optional[int] = None) -> Summary:
    """Segment a volume on a cluster, or complete what an earlier, interrupted call has begun.

    Parameters
    ----------
    client : a ``distributed.Client``.
    request : as for a local run; ``workers`` and ``max_memory`` are for each task.
    parts : tasks to divide the slices into; by default four for each thread of the workers.

    Raises
    ------
    UserError : what the user can put right; nothing half-written takes an output's name.
    """
    with closing(prepare(request)) as work:
        return completed(work, work.run(on(client, work, parts)))


def prepare(request: Request) -> Segmentation:
    """A segmentation that can be run :func:`on` a cluster.

    Raises
    ------
    UserError : anything that stands against it.
    """
    if request.part is not None:
        raise UserError("--part: Dask divides the slices itself; leave --part or --dask out")
    shared = split_dataset(request.out)[0].suffix.lower() == ".zarr"
    return Segmentation(request._replace(
        input=os.path.abspath(request.input), out=os.path.abspath(request.out), model=os.path.abspath(request.model),
        mask_out=_absolute(request.mask_out), overlay_out=_absolute(request.overlay_out), workers=request.workers or 1, shared=shared))


def on(client: Any, work: Segmentation, parts: Optional[int] = None) -> Compute:
    """How slices are computed by the workers of a cluster, for :meth:`Segmentation.run`."""
    def compute(todo: List[int]) -> Tuple[List[int], Dict[int, str]]:
        count = min(parts or TASKS_OF_A_THREAD * threads_of(client), len(todo))
        engine = work.request.engine if work.request.mode == "patch" else work.plan.engine
        request = work.request._replace(tile=work.plan.tile, engine=engine, force=True)
        tasks = [Share(request, work.manifest, Part(number, count).of(todo), __version__) for number in range(1, count + 1)]
        done: List[int] = []
        failed: Dict[int, str] = {}
        already = len(work.skipped)
        with Progress(len(work.slices), "segmenting", already) as progress:
            for _, (finished, sentences) in in_turn(client, compute_share, tasks, lambda task: f"slices {slice_ranges(task.slices)}"):
                done += finished
                failed.update(sentences)
                progress.update(already + len(done) + len(failed))
                if work.stopping:
                    break
        return sorted(done), dict(sorted(failed.items()))
    return compute


def compute_share(share: Share) -> Tuple[List[int], Dict[int, str]]:
    """Compute a part of the slices on a worker; those that are finished already are not computed again.

    Raises
    ------
    UserError : this computer has another version, another model or another engine than the one that plans.
    """
    if share.version != __version__:
        raise UserError(f"dask: a worker has pycaffe_tools {__version__}, the one that plans has {share.version}; install one "
                        f"version everywhere")
    with closing(Segmentation(share.request)) as work:
        refuse_difference(work.store.folder, share.manifest, work.manifest, "have all workers see the same files")
        if not isinstance(work.store, SharedStore):
            return _missing(work, share.slices)
        with work.store as store:
            store.begin(share.manifest, claim=False)
            return _missing(work, share.slices)


def _missing(work: Segmentation, slices: List[int]) -> Tuple[List[int], Dict[int, str]]:
    finished = set(work.store.finished(slices))
    todo = [z for z in slices if z not in finished]
    done, failed = work.compute(todo) if todo else ([], {})
    return sorted({*finished, *done}), failed


def completed(work: Segmentation, summary: Summary) -> Summary:
    """Finish a volume that was filled in place, if it is whole."""
    request = work.request
    if not work.shared or work.complete or work.slices != work.whole or (summary.failed and not request.incomplete):
        return summary
    finish(request.out, request.incomplete)
    return summary._replace(written=[path for path in (request.mask_out, request.out) if path])


def _absolute(path: Optional[str]) -> Optional[str]:
    return os.path.abspath(path) if path else None

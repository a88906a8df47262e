"""One segmentation, from a request to finished volumes.

Slices are read when they are needed, cut into tiles, given to worker
processes, and kept one by one beside the output (:mod:`pycaffe_tools.segment.slices.slice_store`);
when all are there, the output is put together.  So memory does not depend on
the number of slices, and whatever interrupts the work, the same command goes on.

    >>> work = Segmentation(Request("raw.tif", "p.tif", "runs/N7"))      # doctest: +SKIP
    >>> print("\\n".join(work.describe()))                               # doctest: +SKIP
    >>> summary = work.run()                                             # doctest: +SKIP
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..base.errors import FULL, TemporaryError
from ..base.files import remove_abandoned
from ..base.host.machine import Limit
from ..base.progress import Progress
from ..base.ranges import parse_region, parse_slices, size_text, slice_ranges
from ..engines import RUN_BY_THREADS
from ..nets.model import open_model
from ..volumes.creating import create_volume
from ..volumes.opening import open_volume
from ..volumes.overlay import contrast_of, write_overlay
from ..volumes.provenance import MASK, PROBABILITY, write_provenance
from ..volumes.storage import Storage
from ..volumes.volume import Volume
from .earlier import Earlier, compare, earlier_run
from .in_place.shared_store import SharedStore
from .in_place.sharing import check_shared, is_shared, records_path, share_of, targets_of
from .normalising import normalisation_of
from .outputs import assemble, parts_path
from .planning import limits_here
from .plausibility import sample_grey_values, warnings_of
from .request import Request, check_outputs, engine_of, manifest_of, storage_for
from .slices.computing import Computing, Slices
from .slices.slice_queue import SliceQueue
from .slices.slice_store import MANIFEST, DamagedSlice, SliceStore


class Summary(NamedTuple):
    """How a segmentation ended: numbers of slices, and a sentence for each that failed."""

    completed: List[int]
    skipped: List[int]
    failed: Dict[int, str]
    written: List[str]


Compute = Callable[[List[int]], Tuple[List[int], Dict[int, str]]]
"""From numbers of slices to those that are done now, and a sentence for each that failed."""


class Segmentation:
    """A request with everything decided: made before any work, so that it can be shown first.

    Parameters
    ----------
    request : what is asked.
    limits : cores and memory to plan with, where the work is for another computer; by default what this one offers.

    Attributes
    ----------
    plan : engine, tile, workers and predicted memory.
    warnings : sentences for the user.
    skipped : slices that an earlier run has finished.
    shared : whether results go straight into the output, an OME-Zarr that several processes fill.
    whole, slices : the output's slices, and those of them that this process does.
    complete : whether the output is there already, from the same request.

    Raises
    ------
    UserError : anything that stands against the work, before it is begun.
    """

    def __init__(self, request: Request, limits: Optional[Tuple[Limit, Limit]] = None):
        self.request = request
        self.model = open_model(request.model)
        self.volume: Volume = open_volume(request.input, axes=request.axes)
        asked = parse_slices(request.slices, self.volume.shape[0])
        self.shared = is_shared(request)
        if self.shared:
            check_shared(request)
            self.whole, self.slices = share_of(request, asked, self.volume.shape[0])
            request = request._replace(part=None)           # what is asked of the whole is the same for all parts
        else:
            self.whole = self.slices = request.part.of(asked) if request.part else asked
        self.region = parse_region(request.crop, self.volume.shape[1:])
        self.store: Union[SliceStore, SharedStore] = SliceStore(parts_path(request.out))
        if self.shared:
            targets = targets_of(request, self._outputs(), len(self.whole), *self.region.shape, self.volume.pixel_size)
            self.store = SharedStore(records_path(request.out), targets, self.whole, self.slices)
        engine = engine_of(request)
        check_outputs(request)
        earlier = earlier_run(request, self.store)
        grey = sample_grey_values(self.volume, self.slices)
        self.warnings = warnings_of(self.volume, grey, self.model)
        self.normalisation = normalisation_of(self.model, self.volume)
        self._cores, self._memory = limits or limits_here(request)
        slices = Slices(self.volume.shape[1:], self.volume.dtype, self.region, len(self.slices))
        self._computing = partial(Computing, self.model, self.normalisation, request, engine, slices,
                                  limits=(self._cores, self._memory))
        self.computing = self._computing(earlier.tile if earlier else None)
        self.plan, self.threshold = self.computing.plan, self.computing.threshold
        self.manifest = manifest_of(request, self.volume, self.model, self.normalisation, self.whole, self.region, engine,
                                    self.plan.tile, self.threshold, self.computing.calibration)
        self._stopping = False
        self._queue: Optional[SliceQueue] = None
        self.complete, self.skipped = compare(earlier, self.manifest, request, self.store, self.slices, self.volume)

    def describe(self) -> List[str]:
        """The plan in lines for a person."""
        plan, volume, model = self.plan, self.volume, self.model
        sizes = ", ".join(f"{axis} {size:g} nm" if size else f"{axis} unknown"
                          for axis, size in zip("zyx", volume.pixel_size))
        todo = len(self.slices) - len(self.skipped)
        disk = 0 if self.complete else self.disk_bytes(todo)
        return [
            f"input    {volume.path}: {volume.shape[0]} slices of {volume.shape[1]} x {volume.shape[2]}, "
            f"{volume.dtype.name}; pixel size {sizes}",
            f"model    {model.directory} ({model.name}), threshold {self.threshold:g}",
            f"region   {self.region.shape[0]} x {self.region.shape[1]} of each slice",
            f"engine   {plan.engine} ({self.request.mode}), tiles of {plan.tile[0]}x{plan.tile[1]} ({plan.tiles} a slice), "
            f"{plan.workers} worker{'s' if plan.workers > 1 else ''} "
            + ("by threads of this process" if plan.engine in RUN_BY_THREADS else "of one thread")
            + f" (of {self._cores.amount}: {self._cores.source})",
            f"memory   predicted peak {size_text(plan.peak)} of {size_text(plan.limit)} allowed ({self._memory.source}): "
            f"{plan.workers} x {size_text(plan.worker_bytes)} for workers, {size_text(plan.own_bytes)} for this process",
            f"disk     {size_text(disk)} for " + ("slices in place, uncompressed and without the pyramid" if self.shared else
                                                  "results slice by slice and outputs together"),
            f"slices   {todo} to do, {len(self.skipped)} finished before"
            + (f"; part {self.request.part}: {slice_ranges(self.slices)}" if self.request.part else "")]

    # -- the work --------------------------------------------------------------------------------------------

    def run(self, compute: Optional[Compute] = None) -> Summary:
        """Do what is missing, and put the outputs together when all slices are there.

        Parameters
        ----------
        compute : computes slices and keeps them in ``store``; by default it is done on this machine.

        Outputs that are filled in place are finished by :func:`pycaffe_tools.segment.in_place.sharing.finish`.

        Raises
        ------
        TemporaryError : the disk is full, another process works on the same output, or :meth:`stop` was called.
        UserError : anything else that a user can put right.
        """
        compute = compute or self.compute
        if self.complete:
            return Summary([], self.slices, {}, [])
        done = set(self.skipped)
        todo = [z for z in self.slices if z not in done]
        self._probe_outputs(len(todo))
        with self.store as store:
            try:
                if isinstance(store, SharedStore):
                    self._take_tile_of(store.agree(self.manifest, self.request.force))
                    store.begin(self.manifest)
                else:
                    store.begin(self.manifest, self.request.force)
                completed, failed = compute(todo) if todo else ([], {})
                if self._stopping and len(completed) + len(failed) < len(todo):
                    raise TemporaryError(f"{store.folder}: stopped at the end of a slice, as it was asked to; "
                                         f"{len(completed) + len(self.skipped)} of {len(self.slices)} slices are finished, run the "
                                         f"same command again")
                written: List[str] = []
                if isinstance(store, SliceStore):
                    completed, failed, written = self._put_together(store, compute, completed, failed)
            except OSError as error:
                if error.errno in FULL:
                    raise TemporaryError(f"{store.folder}: the disk is full; what is finished is kept there, "
                                    f"free some space and run the same command again") from error
                raise
            finally:
                store.remove_if_empty()
        return Summary(completed, self.skipped, failed, written)

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Have :meth:`run` stop at the end of the slices that are begun; a signal handler may call this."""
        self._stopping = True
        if self._queue is not None:
            self._queue.begin_no_more()

    def _put_together(self, store: SliceStore, compute: Compute, completed: List[int],
                      failed: Dict[int, str]) -> Tuple[List[int], Dict[int, str], List[str]]:
        """Write the outputs if all slices are there; what is completed, failed and written then."""
        written: List[str] = []
        while not written and (not failed or (self.request.incomplete and len(failed) < len(self.slices))):
            try:
                written = self._write_outputs(store, failed)
            except DamagedSlice as damaged:
                self.report(f"{damaged}; it is computed again")
                store.forget(damaged.z)
                again, failed_again = compute([damaged.z])
                completed, failed = sorted({*completed, *again}), {**failed, **failed_again}
        if written and not failed:
            store.remove()
        return completed, failed, written

    def _take_tile_of(self, standing: Dict[str, Any]) -> None:
        """Of several processes that begin at the same time, the first decides on the tiles for all."""
        tile = Earlier(self.store.folder / MANIFEST, standing, None).tile
        if tile != self.plan.tile and not self.request.tile:
            self.computing = self._computing(tile)
            self.plan = self.computing.plan
            self.manifest["options"]["tile"] = list(tile)

    @staticmethod
    def report(sentence: str) -> None:
        """Tell the user something while the work goes on."""
        print(f"segment: {sentence}", file=sys.stderr)

    def close(self) -> None:
        """Close the input."""
        self.volume.close()

    def _outputs(self) -> List[Tuple[str, str, str]]:
        """Path, content and data type of each volume to be written, the probabilities last: they tell that all is done."""
        masks = [(self.request.mask_out, MASK, "uint8")] if self.request.mask_out else []
        return masks + [(self.request.out, PROBABILITY, self.request.dtype)]

    def _storage(self, content: str) -> Storage:
        return storage_for(self.request.ome_zarr, self.request.compress, content)

    def _probe_outputs(self, todo: int) -> None:
        """Run into now what would stop the writing of the outputs after hours: name, rights, room on the disk."""
        for path, content, dtype in [] if self.shared else self._outputs():
            create_volume(path, (1,) + self.region.shape, dtype, force=True, storage=self._storage(content)).discard()
        if self.request.overlay_out:
            remove_abandoned(Path(self.request.overlay_out))
        needed, free = self.disk_bytes(todo), shutil.disk_usage(self.store.folder.parent).free
        if needed > free:
            raise TemporaryError(f"{self.store.folder.parent}: the disk has {free / 1e9:.3g} GB left, and results slice by "
                            f"slice and the outputs together need {needed / 1e9:.3g} GB; free some space, choose "
                            f"another place, or pass --dtype uint8")

    def disk_bytes(self, todo: int) -> int:
        """Room needed beside the output: results of the slices to do, and the outputs made from all of them."""
        pixel = sum(np.dtype(dtype).itemsize for _, _, dtype in self._outputs())
        return self.region.shape[0] * self.region.shape[1] * pixel * (todo + (0 if self.shared else len(self.slices)))

    def _write_outputs(self, store: SliceStore, failed: Dict[int, str]) -> List[str]:
        for path, content, dtype in self._outputs():
            # What stands there is an unfinished run's own, or --force was passed.
            hashes = assemble(store, path, content, self.slices, list(failed), self.region.shape, dtype,
                              self.volume.pixel_size, self._storage(content), force=True)
            write_provenance(path, content, self.manifest, hashes.grey, hashes.pixels, self.volume.pixel_size)
        return [path for path, _, _ in self._outputs()]

    def _finish_slice(self, z: int, grey: np.ndarray, probability: np.ndarray) -> None:
        result = self.computing.result(f"slice {z}", grey, probability)
        if self.request.overlay_out and result.mask is not None:
            top, bottom, left, right = self.region
            write_overlay(Path(self.request.overlay_out) / f"slice_{z:06d}.png", grey[top:bottom, left:right],
                          result.mask > 0, contrast_of(grey))
        self.store.save(z, result if self.request.mask_out else result._replace(mask=None))

    def compute(self, todo: List[int]) -> Tuple[List[int], Dict[int, str]]:
        """Compute slices and keep their results in ``store``; numbers of those that are done, and why others are not."""
        completed: List[int] = []
        failed: Dict[int, str] = {}

        def finish(z: int, grey: np.ndarray, probability: np.ndarray) -> None:
            self._finish_slice(z, grey, probability)
            completed.append(z)

        queue = self.computing.queue(todo, self.volume.read, finish, failed.__setitem__)
        self._queue = queue
        if self._stopping:
            queue.begin_no_more()
        already = self.plan.tiles * len(self.skipped)
        with Progress(self.plan.tiles * len(self.slices), "segmenting", already) as progress:
            self.computing.run(queue, len(todo), lambda done: progress.update(
                already + done, f"{len(completed) + len(self.skipped)} of {len(self.slices)} slices"))
        return sorted(completed), dict(sorted(failed.items()))

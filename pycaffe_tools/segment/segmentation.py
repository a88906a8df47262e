"""One segmentation, from a request to finished volumes.

Slices are read when they are needed, cut into tiles, given to worker
processes, and kept one by one beside the output (:mod:`pycaffe_tools.segment.slice_store`);
when all are there, the output is put together.  So memory does not depend on
the number of slices, and whatever interrupts the work, the same command goes on.

    >>> work = Segmentation(Request("raw.tif", "p.tif", "runs/N7"))      # doctest: +SKIP
    >>> print("\\n".join(work.describe()))                               # doctest: +SKIP
    >>> summary = work.run()                                             # doctest: +SKIP
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from .. import __version__
from ..base.errors import UserError
from ..base.files import refuse_existing, refuse_inputs
from ..base.machine import cores, peak_so_far
from ..base.progress import Progress
from ..base.ranges import parse_region, parse_slices, size_text, slice_ranges
from ..engines import engine as engine_module
from ..engines.process import Settings
from ..nets.model import open_model
from ..volumes.opening import create_volume, open_volume
from ..volumes.overlay import write_overlay
from ..volumes.paths import check_kind, split_dataset
from ..volumes.volume import Volume
from .outputs import MASK, PROBABILITY, assemble, exists, parts_path, read_account, write_account
from .planning import Job, Plan, default_limit, make_plan
from .plausibility import sample_grey_values, warnings_of
from .pool import run_workers
from .request import Request, _engine, _fingerprint
from .slice_queue import SliceQueue, slices_in_memory
from .slice_store import SliceResult, SliceStore, grey_hash, refuse_difference
from .tiles import PaddedSlice, grid


class Summary(NamedTuple):
    """How a segmentation ended: numbers of slices, and a sentence for each that failed."""

    completed: List[int]
    skipped: List[int]
    failed: Dict[int, str]
    written: List[str]


class Segmentation:
    """A request with everything decided: made before any work, so that it can be shown first.

    Attributes
    ----------
    plan : engine, tile, workers and predicted memory.
    warnings : sentences for the user.
    skipped : slices that an earlier run has finished.
    complete : whether the output is there already, from the same request.

    Raises
    ------
    UserError : anything that stands against the work, before it is begun.
    """

    def __init__(self, request: Request):
        self.request = request
        self.model = open_model(request.model)
        self.graph = self.model.net()
        self.volume: Volume = open_volume(request.input, axes=request.axes)
        self.slices = parse_slices(request.slices, self.volume.shape[0])
        self.region = parse_region(request.crop, self.volume.shape[1:])
        self.threshold = self.model.threshold if request.threshold is None else request.threshold
        self.engine = _engine(request)
        self.store = SliceStore(parts_path(request.out))
        self._check_outputs()
        before = None if request.force else self._earlier_manifest()
        grey = sample_grey_values(self.volume, self.slices)
        self.warnings = warnings_of(self.volume, grey, self.model)
        workers = request.workers or cores()
        job = Job(self.volume.shape[1:], self.region.shape, len(self.slices), self.volume.dtype.itemsize,
                  4 + (request.dtype == "uint8") + 2 * bool(request.mask_out or request.overlay_out),
                  request.overlay_out is not None, peak_so_far())
        # An unfinished output keeps its tiles, so that it ends with the bytes of an uninterrupted run.
        tile = request.tile or (tuple(before["options"]["tile"]) if before else None)
        self.plan: Plan = make_plan(self.engine, self.graph, job, workers,
                                    request.max_memory or default_limit(workers), tile)
        self.manifest = self._manifest()
        self.complete = False
        self.skipped: List[int] = []
        if before is not None:
            self._compare(before)

    def _check_outputs(self) -> None:
        request = self.request
        files = [split_dataset(path)[0].resolve() for path in (request.out, request.mask_out) if path]
        source = split_dataset(request.input)[0].resolve()
        if source in files:
            raise UserError(f"{request.input}: is the input and cannot be the output as well; choose another name")
        for path in filter(None, (request.out, request.mask_out)):
            check_kind(path)
            # A slice more among the slices of a folder would be read as one of them the next time.
            refuse_inputs(split_dataset(path)[0], source)
        if request.overlay_out:
            refuse_inputs(request.overlay_out, source, request.model)
        if len(set(files)) != len(files):
            raise UserError(f"{request.mask_out}: is the output for the probabilities and for the mask; "
                            f"choose another name for one of them")

    def _earlier_manifest(self) -> Optional[Dict[str, Any]]:
        """What an earlier run on this output was asked for; None if there was none."""
        request = self.request
        unfinished = self.store.manifest
        if unfinished is not None:
            return unfinished
        account = read_account(request.out)
        if account is not None:
            return account["manifest"]
        for path in (request.out, request.mask_out):
            if path and exists(path):
                refuse_existing(split_dataset(path)[0])
        if request.overlay_out:
            refuse_existing(request.overlay_out)
        return None

    def _manifest(self) -> Dict[str, Any]:
        request, volume, model = self.request, self.volume, self.model
        base = Path(request.out).resolve().parent
        return {
            "input": {"path": os.path.abspath(request.input), "shape": list(volume.shape),
                      "dtype": volume.dtype.name, "axes": request.axes, **_fingerprint(request.input)},
            "model": {"name": model.name, "deploy_sha256": model.info["files"]["deploy.prototxt"],
                      "weights_sha256": model.info["files"]["weights.caffemodel"],
                      "normalisation": model.normalisation._asdict()},
            "options": {
                "slices": slice_ranges(self.slices), "crop": list(self.region), "mode": request.mode,
                "engine": self.engine, "tile": list(self.plan.tile), "dtype": request.dtype,
                "threshold": self.threshold if request.mask_out or request.overlay_out else None,
                **{name: os.path.relpath(os.path.abspath(path), base) if path else None
                   for name, path in (("mask_out", request.mask_out), ("overlay_out", request.overlay_out))}},
            "made_with": {"pycaffe_tools": __version__, "numpy": np.__version__},
        }

    def _compare(self, before: Dict[str, Any]) -> None:
        """Refuse what differs from an earlier run; find what it has finished."""
        request = self.request
        finished_before = self.store.manifest is None
        refuse_difference(Path(request.out) if finished_before else self.store.folder, before, self.manifest)
        touched = any(before["input"].get(name) != self.manifest["input"][name] for name in ("bytes", "modified"))
        if not finished_before:
            self.skipped = self.store.finished(self.slices)
            if touched:
                self.store.check_grey_values(self.skipped, self.volume.read, request.input)
            return
        account = read_account(request.out)
        if touched:
            for z, digest in account["slices"].items():
                if digest is not None and grey_hash(self.volume.read(int(z))) != digest:
                    raise UserError(f"{request.out}: exists already, and input.slice {z} is not the one it was made "
                                    f"from; choose another output, or say --force to replace it")
        gone = [path for path in (request.mask_out,) if path and read_account(path) is None]
        gone += [path for path in (request.overlay_out,) if path and not Path(path).is_dir()]
        if account["failed"] or gone:
            why = f"{gone[0]} is gone or changed" if gone else f"{len(account['failed'])} of its slices failed"
            raise UserError(f"{request.out}: exists already, but {why}; say --force to make all outputs anew")
        self.complete = True
        self.skipped = self.slices

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
            f"{plan.workers} worker{'s' if plan.workers > 1 else ''} of one thread",
            f"memory   predicted peak {size_text(plan.peak)} of {size_text(plan.limit)} allowed: "
            f"{plan.workers} x {size_text(plan.worker_bytes)} for workers, {size_text(plan.own_bytes)} for this process",
            f"disk     {size_text(disk)} for results slice by slice and outputs together",
            f"slices   {todo} to do, {len(self.skipped)} finished before"]

    # -- the work --------------------------------------------------------------------------------------------

    def run(self) -> Summary:
        """Do what is missing, and put the outputs together when all slices are there."""
        request = self.request
        if self.complete:
            return Summary([], self.slices, {}, [])
        todo = [z for z in self.slices if z not in set(self.skipped)]
        self._probe_outputs(len(todo))
        with self.store as store:
            try:
                store.begin(self.manifest, request.force)
                completed, failed = self._compute(todo) if todo else ([], {})
                written: List[str] = []
                if not failed or (request.incomplete and len(failed) < len(self.slices)):
                    written = self._write_outputs(failed)
                if written and not failed:
                    store.remove()
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise UserError(f"{store.folder}: the disk is full; what is finished is kept there, "
                                    f"free some space and run the same command again") from error
                raise
            finally:
                store.remove_if_empty()
        return Summary(completed, self.skipped, failed, written)

    def close(self) -> None:
        """Close the input."""
        self.volume.close()

    def _outputs(self) -> List[Tuple[str, str, str]]:
        """Path, content and data type of each volume to be written, the probabilities last: they tell that all is done."""
        masks = [(self.request.mask_out, MASK, "uint8")] if self.request.mask_out else []
        return masks + [(self.request.out, PROBABILITY, self.request.dtype)]

    def _probe_outputs(self, todo: int) -> None:
        """Run into now what would stop the writing of the outputs after hours: name, rights, room on the disk."""
        for path, _, dtype in self._outputs():
            create_volume(path, (1,) + self.region.shape, dtype, force=True).discard()
        needed, free = self.disk_bytes(todo), shutil.disk_usage(self.store.folder.parent).free
        if needed > free:
            raise UserError(f"{self.store.folder.parent}: the disk has {free / 1e9:.3g} GB left, and results slice by "
                            f"slice and the outputs together need {needed / 1e9:.3g} GB; free some space, choose "
                            f"another place, or say --dtype uint8")

    def disk_bytes(self, todo: int) -> int:
        """Room needed beside the output: results of the slices to do, and the outputs made from all of them."""
        pixel = sum(np.dtype(dtype).itemsize for _, _, dtype in self._outputs())
        return self.region.shape[0] * self.region.shape[1] * pixel * (todo + len(self.slices))

    def _write_outputs(self, failed: Dict[int, str]) -> List[str]:
        for path, content, dtype in self._outputs():
            # What stands there is an unfinished account's own, or --force was said.
            hashes = assemble(self.store, path, content, self.slices, list(failed), self.region.shape, dtype,
                              self.volume.pixel_size, force=True)
            write_account(path, content, self.manifest, hashes, self.volume.pixel_size)
        return [path for path, _, _ in self._outputs()]

    def _finish_slice(self, z: int, grey: np.ndarray, probability: np.ndarray) -> None:
        mask = None
        if self.request.mask_out or self.request.overlay_out:
            member = probability >= np.float32(self.threshold)
            mask = member.astype(np.uint8) * 255
            if self.request.overlay_out:
                top, bottom, left, right = self.region
                contrast = tuple(float(value) for value in np.percentile(grey[::4, ::4], (0.5, 99.5)))
                write_overlay(Path(self.request.overlay_out) / f"slice_{z:06d}.png",
                              grey[top:bottom, left:right], member, contrast)
        if self.request.dtype == "uint8":
            probability = np.rint(probability * np.float32(255)).astype(np.uint8)
        self.store.save(z, SliceResult(probability, mask if self.request.mask_out else None, grey_hash(grey)))

    def _compute(self, todo: List[int]) -> Tuple[List[int], Dict[int, str]]:
        completed: List[int] = []
        failed: Dict[int, str] = {}
        plan = self.plan
        rim = engine_module.halo(self.graph)

        def finish(z: int, grey: np.ndarray, probability: np.ndarray) -> None:
            self._finish_slice(z, grey, probability)
            completed.append(z)

        tiles = grid(self.region.shape, plan.tile)
        queue = SliceQueue(todo, self.volume.read, lambda grey: PaddedSlice(grey, self.region, rim), tiles,
                           self.region.shape, finish, failed.__setitem__, slices_in_memory(plan.workers, len(tiles)))
        mean, std = self.model.normalisation
        settings = Settings(plan.engine, str(self.model.deploy), str(self.model.weights), mean, std, plan.tile)
        already = len(tiles) * len(self.skipped)
        with Progress(len(tiles) * len(self.slices), "segmenting", already) as progress:
            run_workers(queue, settings, min(plan.workers, len(tiles) * len(todo)),
                        lambda done: progress.update(already + done, f"{len(completed) + len(self.skipped)} of "
                                                                     f"{len(self.slices)} slices"))
        return sorted(completed), dict(sorted(failed.items()))

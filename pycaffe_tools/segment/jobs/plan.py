"""The plan of a segmentation in parts: a folder that says all, wherever and however often its jobs are started.

=====================  ==============================================================================
``plan.json``          what is asked, the slices of each part, the options for Slurm
``array.sbatch``       a part
``merge.sbatch``       joins the parts, or finishes the OME-Zarr into which they write
``submit.sh``          submits both; ``submit.sh 3 7`` only parts 3 and 7, and a merge
``jobs``               numbers of the jobs that were submitted, a line for each
``state/``             a record for each part and for the merge (:mod:`pycaffe_tools.cluster.records`)
``parts/``, ``logs/``  outputs of the parts; what they printed
=====================  ==============================================================================

The number of parts, the engine and the tiles stand in the plan, so that every
part is computed in the same way whichever computer it comes to, and however
many of them are submitted again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from ... import __version__
from ...base.errors import UserError
from ...base.fields import read_fields
from ...base.files import read_json_object, write_json
from ...base.host.machine import Limit
from ...base.ranges import Part, pair, slice_ranges
from ...cluster.slurm import JobOptions, parse_options
from ...volumes.paths import split_dataset
from ...volumes.storage import DEFAULT_STORAGE
from ..in_place.sharing import check_shared
from ..planning import BYTES_PER_WORKER
from ..request import Request
from ..segmentation import Segmentation

PLAN = "plan.json"
FORMAT = 1


class JobPlan(NamedTuple):
    """A plan.

    Attributes
    ----------
    folder : where it stands, absolute.
    request : what is asked of all parts together, with absolute paths and with engine and tile decided.
    parts : slices of each part, as ``--slices`` reads them.
    sbatch : options for Slurm, as the user wrote them.
    memory : bytes that a job is predicted to take.
    """

    folder: Path
    request: Request
    parts: List[str]
    sbatch: str
    memory: int

    @property
    def in_place(self) -> bool:
        """Whether the parts write into the volume itself, an OME-Zarr."""
        return split_dataset(self.request.out)[0].suffix.lower() == ".zarr"

    def part(self, number: int) -> Request:
        """What is asked of a part.

        Raises
        ------
        UserError : there is no such part.
        """
        if not 1 <= number <= len(self.parts):
            raise UserError(f"{self.folder}: has parts 1 to {len(self.parts)}, and no part {number}")
        if self.in_place:
            return self.request._replace(part=Part(number, len(self.parts)))
        return self.request._replace(out=str(self.output(number)), part=Part(number, len(self.parts)), force=False,
                                     mask_out=str(self.output(number, mask=True)) if self.request.mask_out else None)

    def output(self, number: int, mask: bool = False) -> Path:
        """The volume of a part."""
        return self.folder / "parts" / f"part_{number:04d}{'_mask' if mask else ''}.tif"

    def record(self, number: int) -> Path:
        """The record of a part."""
        return self.folder / "state" / f"part_{number:04d}.json"

    @property
    def merge_record(self) -> Path:
        """The record of the merge."""
        return self.folder / "state" / "merge.json"

    @property
    def jobs(self) -> Path:
        """Numbers of the jobs that were submitted: lines of ``array JOB PARTS-BEFORE`` and ``merge JOB``."""
        return self.folder / "jobs"


def plan_jobs(request: Request, folder: Path, total: int, sbatch: str) -> Tuple[JobPlan, Segmentation]:
    """Plan a segmentation in parts; nothing is written.

    Parameters
    ----------
    request : what is asked of all parts together.
    folder : for the plan and everything of it.
    total : number of parts.
    sbatch : options for Slurm.

    Returns
    -------
    The plan, and the segmentation as one job would do it, with everything checked that a run checks before it begins.

    Raises
    ------
    UserError : what stands against it, as for a run; or what does not go in parts.
    """
    options = parse_options(sbatch)
    for given, option, why in ((request.part, "--part", "says which part to segment, and --slurm plans all of them"),
                               (request.incomplete, "--incomplete", "is not for --slurm: a merge leaves no slice out"),
                               (request.overlay_out, "--overlay-out", "is not for --slurm, which joins volumes alone")):
        if given:
            raise UserError(f"{option}: {why}; leave it out")
    if split_dataset(request.out)[0].suffix.lower() == ".zarr":
        check_shared(request)
    work = Segmentation(request, limits=_limits(request, options))
    if total > len(work.slices):
        raise UserError(f"--parts {total}: there are only {len(work.slices)} slices; ask for at most {len(work.slices)} parts")
    fixed = request._replace(input=os.path.abspath(request.input), out=os.path.abspath(request.out), model=os.path.abspath(request.model),
                             mask_out=os.path.abspath(request.mask_out) if request.mask_out else None,
                             engine="caffe" if request.mode == "patch" else work.plan.engine, tile=work.plan.tile)
    parts = [slice_ranges(Part(number, total).of(work.slices)) for number in range(1, total + 1)]
    plan = JobPlan(folder.absolute(), fixed, parts, options.text, work.plan.peak)
    _refuse_other_folder(plan)
    return plan, work


def _limits(request: Request, options: JobOptions) -> Tuple[Limit, Limit]:
    """Cores and memory that a job will have, as far as it is known before it begins."""
    if request.workers is not None:
        cores = Limit(request.workers, "--workers")
    elif options.cores is not None:
        cores = Limit(options.cores, "--cpus-per-task of --sbatch")
    else:
        cores = Limit(1, "Slurm's own choice for a job")
    memory = Limit(BYTES_PER_WORKER * (cores.amount + 1), "1 GB for each worker and its process")
    if request.max_memory is not None:
        memory = Limit(request.max_memory, "--max-memory")
    elif options.memory is not None and options.memory * 4 // 5 < memory.amount:
        memory = Limit(options.memory * 4 // 5, "four fifths of the memory in --sbatch")
    return cores, memory


def _refuse_other_folder(plan: JobPlan) -> None:
    """Refuse a folder of anything but this very plan."""
    folder = plan.folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, and a folder is to be made; choose another name")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / PLAN).is_file():
        raise UserError(f"{folder}: holds other files; choose another folder for the plan")
    before, now = read_json_object(folder / PLAN), _as_json(plan)
    for name in now:
        if before.get(name) != now[name] and name not in ("made_by", "memory"):
            raise UserError(f"{folder}: holds another plan, which differs in its {name}; choose another folder, or remove this one")


def _as_json(plan: JobPlan) -> Dict[str, Any]:
    request = plan.request._asdict()
    del request["part"], request["incomplete"], request["overlay_out"], request["shared"]
    request["tile"] = list(plan.request.tile or ())
    return {"format": FORMAT, "made_by": f"pycaffe-tools {__version__}", "request": request, "parts": plan.parts,
            "sbatch": plan.sbatch, "memory": plan.memory}


def write_plan(plan: JobPlan) -> None:
    """Write ``plan.json``."""
    write_json(plan.folder / PLAN, _as_json(plan))


def read_plan(folder: Path) -> JobPlan:
    """Read the plan of a folder.

    Raises
    ------
    UserError : there is none, or it is damaged.
    """
    path = folder / PLAN
    if not path.is_file():
        raise UserError(f"{folder}: holds no plan of jobs; name the folder that was given to --slurm")
    content = read_fields(path)
    if content.whole("format") != FORMAT:
        raise UserError(f"{path}: has format {content.whole('format')}, and this version reads {FORMAT}; plan the jobs again with --slurm")
    asked = content.fields("request")
    tile, parts = asked.wholes("tile"), content.list("parts")
    if len(tile) != 2 or not parts or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{path}: is damaged, it does not tell tiles and parts; plan the jobs again with --slurm")
    optional: Dict[str, Any] = {name: asked.get(name) for name in ("slices", "crop", "axes", "threshold", "mask_out", "max_memory",
                                                                   "workers", "membrane_share")}
    request = Request(asked.text("input"), asked.text("out"), asked.text("model"), mode=asked.text("mode"), engine=asked.text("engine"),
                      dtype=asked.text("dtype"), tile=pair(tile), force=asked.get("force") is True,
                      ome_zarr=str(asked.get("ome_zarr") or DEFAULT_STORAGE.ome_zarr), compress=asked.get("compress") is True,
                      calibrated=asked.get("calibrated") is True, **optional)
    sbatch = content.get("sbatch")
    return JobPlan(folder.absolute(), request, parts, sbatch if isinstance(sbatch, str) else "", content.whole("memory"))

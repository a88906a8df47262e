"""What a segmentation is asked for, and the manifest that says it for later runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np

from .. import __version__, engines
from ..base.errors import UserError
from ..base.files import refuse_inputs
from ..base.ranges import Pair, Part, Region, slice_ranges
from ..nets.calibration import Calibration
from ..nets.model import Model, Normalisation
from ..volumes.creating import check_output
from ..volumes.paths import input_files, split_dataset
from ..volumes.provenance import MASK, PROBABILITY
from ..volumes.storage import DEFAULT_STORAGE, MAJORITY, MEAN, Storage
from ..volumes.volume import Volume


class Request(NamedTuple):
    """What is to be segmented and how; see ``python -m pycaffe_tools.segment --help``."""

    input: str
    out: str
    model: str
    slices: Optional[str] = None
    part: Optional[Part] = None
    crop: Optional[str] = None
    axes: Optional[str] = None
    threshold: Optional[float] = None
    mask_out: Optional[str] = None
    overlay_out: Optional[str] = None
    mode: str = "dense"
    engine: str = "auto"
    tile: Optional[Pair] = None
    max_memory: Optional[int] = None
    workers: Optional[int] = None
    dtype: str = "float32"
    incomplete: bool = False
    force: bool = False
    ome_zarr: str = DEFAULT_STORAGE.ome_zarr
    compress: bool = False
    shared: bool = False
    """Whether an OME-Zarr is filled in place, as parts do it."""
    calibrated: bool = False
    """Whether probabilities are those of the volume, not of a world of which half is membrane."""
    membrane_share: Optional[float] = None
    """Of the volume's pixels, for ``calibrated``; by default that of the model's validation slices."""


def engine_of(request: Request) -> str:
    """Name of the engine that a request means.

    Raises
    ------
    UserError : none is installed, or one is asked for that does not run patch by patch.
    """
    if request.mode == "patch":
        if request.engine not in ("auto", "caffe"):
            raise UserError(f"--mode patch: runs in Caffe, not in engine {request.engine}; leave --engine out")
        return "patch"
    return engines.default_name() if request.engine == "auto" else request.engine


def calibration_of(request: Request, model: Model) -> Optional[Calibration]:
    """How probabilities are calibrated, if they are.

    Raises
    ------
    UserError : the model has no calibration, or a share of membrane is given for nothing.
    """
    if not request.calibrated:
        if request.membrane_share is not None:
            raise UserError("--membrane-share: says what --calibrated is to assume; give both, or none")
        return None
    found = model.calibration
    if found is None:
        raise UserError(f"{model.directory}: has no calibration; make it with python -m pycaffe_tools.calibrate {model.directory} "
                        f"--data PATCHES")
    return found if request.membrane_share is None else found._replace(membrane_share=request.membrane_share)


def storage_for(ome_zarr: Optional[str], compress: bool, content: str) -> Storage:
    """How an output is stored: probabilities are averaged for the levels of a pyramid, a mask's majority is taken."""
    return Storage(ome_zarr or DEFAULT_STORAGE.ome_zarr, compress, MAJORITY if content == MASK else MEAN)


def check_outputs(request: Request) -> None:
    """Refuse outputs that are inputs, or each other, or of a kind that cannot be written.

    Raises
    ------
    UserError : names the output and what is wrong with it.
    """
    files = [split_dataset(path)[0].resolve() for path in (request.out, request.mask_out) if path]
    source = split_dataset(request.input)[0].resolve()
    if source in files:
        raise UserError(f"{request.input}: is the input and cannot be the output as well; choose another name")
    for path, content, dtype in ((request.out, PROBABILITY, request.dtype), (request.mask_out, MASK, "uint8")):
        if path is None:
            continue
        check_output(path, request.force, dtype, storage_for(request.ome_zarr, request.compress, content))
        # A slice more among the slices of a folder would be read as one of them the next time.
        refuse_inputs(split_dataset(path)[0], source)
    if request.overlay_out:
        refuse_inputs(request.overlay_out, source, request.model)
    if len(set(files)) != len(files):
        raise UserError(f"{request.mask_out}: is the output for the probabilities and for the mask; "
                        f"choose another name for one of them")


def manifest_of(request: Request, volume: Volume, model: Model, normalisation: Normalisation, slices: Sequence[int],
                region: Region, engine: str, tile: Pair, threshold: float,
                calibration: Optional[Calibration]) -> Dict[str, Any]:
    """A request with everything decided, as JSON: what two runs on one output are compared by."""
    base = Path(request.out).resolve().parent
    return {
        "input": {"path": os.path.abspath(request.input), "shape": list(volume.shape),
                  "dtype": volume.dtype.name, "axes": request.axes, **size_and_time(request.input)},
        "model": {"name": model.name, "deploy_sha256": model.info["files"]["deploy.prototxt"],
                  "weights_sha256": model.info["files"]["weights.caffemodel"],
                  "normalisation": normalisation._asdict()},
        "options": {
            "slices": slice_ranges(slices), "part": str(request.part) if request.part else None,
            "crop": list(region), "mode": request.mode, "engine": engine,
            "tile": list(tile), "dtype": request.dtype,
            "threshold": threshold if request.mask_out or request.overlay_out else None,
            **{name: os.path.relpath(os.path.abspath(path), base) if path else None
               for name, path in (("mask_out", request.mask_out), ("overlay_out", request.overlay_out))},
            # Only where they are chosen, so that outputs of older versions are known again.
            **({"ome_zarr": request.ome_zarr} if request.ome_zarr != DEFAULT_STORAGE.ome_zarr else {}),
            **({"compress": True} if request.compress else {}),
            **({"calibration": calibration.as_json()} if calibration else {})},
        "made_with": {"pycaffe_tools": __version__, "numpy": np.__version__},
    }


def size_and_time(path: str) -> Dict[str, int]:
    """Size and latest time of change of an input, in bytes and nanoseconds."""
    stats = [found.stat() for found in input_files(path)]
    return {"bytes": sum(stat.st_size for stat in stats), "modified": max(stat.st_mtime_ns for stat in stats)}

"""What is asked of the watch, and the manifest that says it for later runs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import numpy as np

from .. import __version__
from ..base.errors import UserError
from ..base.files import refuse_inputs
from ..base.ranges import Pair
from ..nets.model import DEPLOY, WEIGHTS, Model, open_model
from ..segment.request import Request, calibration_of, engine_of
from ..volumes.paths import split_pattern
from .pace import LATE_FROM

SETTLE = 2.0
"""Seconds for which a file has to stay the same."""


class WatchRequest(NamedTuple):
    """What is to be watched, segmented and written; see ``python -m pycaffe_tools.watch --help``."""

    folder: str
    out: str
    model: str
    model_when_late: Optional[str] = None
    late_from: int = LATE_FROM
    threshold: Optional[float] = None
    mode: str = "dense"
    engine: str = "auto"
    tile: Optional[Pair] = None
    max_memory: Optional[int] = None
    workers: Optional[int] = None
    dtype: str = "float32"
    settle: float = SETTLE
    poll: Optional[float] = None
    stop_after: Optional[float] = None
    slices: Optional[int] = None
    once: bool = False
    port: Optional[int] = None
    host: str = "127.0.0.1"
    force: bool = False
    calibrated: bool = False
    membrane_share: Optional[float] = None

    def segmentation(self, model: str) -> Request:
        """The same as a request for a segmentation with one of the models; masks and pictures are always made."""
        return Request(self.folder, self.out, model, threshold=self.threshold, mask_out=self.out, overlay_out=self.out,
                       mode=self.mode, engine=self.engine, tile=self.tile, max_memory=self.max_memory, workers=self.workers,
                       dtype=self.dtype, calibrated=self.calibrated, membrane_share=self.membrane_share)


class Asked(NamedTuple):
    """A request with its models opened and its engine chosen."""

    request: WatchRequest
    engine: str
    model: Model
    late: Optional[Model]

    @property
    def manifest(self) -> Dict[str, Any]:
        """What two runs on one output are compared by."""
        request = self.request
        return {"folder": os.path.abspath(request.folder), "model": _described(self.model, request),
                "model_when_late": _described(self.late, request) if self.late else None,
                "options": {"mode": request.mode, "engine": self.engine, "dtype": request.dtype,
                            "late_from": request.late_from if self.late else None},
                "made_with": {"pycaffe_tools": __version__, "numpy": np.__version__}}


def ask(request: WatchRequest) -> Asked:
    """Open the models and choose the engine; refuse what cannot be.

    Raises
    ------
    UserError : names the option or the file and what is wrong with it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("watch: the pictures need the package matplotlib; install it (pip install 'pycaffe-tools[live]')")
    if request.once and request.model_when_late:
        raise UserError("--model-when-late: is for slices that keep coming, and with --once all are there; leave one of them out")
    folder, _ = split_pattern(Path(request.folder))
    refuse_inputs(request.out, folder, request.model, request.model_when_late)
    if Path(request.out).resolve() in folder.resolve().parents:
        raise UserError(f"{request.out}: holds {folder}, which is read; choose another folder for the results")
    model = _opened(request.model)
    late = _opened(request.model_when_late) if request.model_when_late else None
    if late is not None and late.files == model.files:
        raise UserError(f"--model-when-late {request.model_when_late}: is the same network as {request.model}; name a faster one")
    for opened in filter(None, (model, late)):
        calibration_of(request.segmentation(str(opened.directory)), opened)
    return Asked(request, engine_of(request.segmentation(request.model)), model, late)


def _opened(path: str) -> Model:
    model = open_model(path)
    if model.normalised_by_stack:
        raise UserError(f"{path}: was trained with --normalise stack, which needs the grey values of the whole stack, and the "
                        f"microscope has not written it yet; train on patches made with --normalise all, or use segment when "
                        f"the stack is complete")
    return model


def identity(model: Model) -> Dict[str, Any]:
    """What tells a model from others, as JSON."""
    return {"name": model.name, "deploy_sha256": model.files[DEPLOY], "weights_sha256": model.files[WEIGHTS],
            "normalisation": model.normalisation._asdict()}


def _described(model: Model, request: WatchRequest) -> Dict[str, Any]:
    calibration = calibration_of(request.segmentation(str(model.directory)), model)
    return {**identity(model), "threshold": model.threshold if request.threshold is None else request.threshold,
            **({"calibration": calibration.as_json()} if calibration else {})}

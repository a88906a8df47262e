"""Export a trained network to ONNX: the patch net, or the exact dense net for whole images.

ONNX runs where Caffe 1.0 does not: on current Pythons, on current GPUs (with
onnxruntime-gpu) and inside other programs.  Neither exporting nor running needs Caffe.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any, NamedTuple, Optional

import numpy as np

from .. import engines
from ..base.errors import UserError, naming
from ..base.files import PathLike, atomic_file, refuse_existing, require_ending
from ..dense_plan.kernels import kernels
from ..dense_plan.onnx_printer import dense_model
from ..dense_plan.plan import make_plan
from ..engines import engine
from ..nets import paper
from ..nets.classifier import note
from ..nets.model import Model, open_model
from ..nets.running.runtime import check_weights
from .onnx_patch import patch_model

TOLERANCE = 1e-5
"""Largest difference of probabilities from Caffe that an export may have."""

_TILE = (6, 9)
_SEED = 0


class Check(NamedTuple):
    """What an export was compared with."""

    against: str
    largest_difference: Optional[float]
    """Of probabilities; None if nothing was there to compare with."""

    def sentence(self) -> str:
        """The comparison in words."""
        if self.largest_difference is None:
            return f"checked with onnx.checker only: {self.against}"
        return (f"checked with onnx.checker and against {self.against}: "
                f"probabilities differ by at most {self.largest_difference:.1e}")


def onnx_of(model: Model, dense: bool, mirrored: bool = False) -> Any:
    """The ONNX form of a trained model, with what it needs to know about its input as metadata.

    Parameters
    ----------
    model : from :func:`pycaffe_tools.nets.model.open_model`.
    dense : the exact dense net instead of the patch net.
    mirrored : the dense net mirrors its input at the border, so that the output is as large as the input.

    Returns
    -------
    ModelProto; see :func:`pycaffe_tools.export.onnx_patch.patch_model` and
    :func:`pycaffe_tools.dense_plan.onnx_printer.dense_model` for inputs and outputs.
    """
    _needs_onnx()
    graph, weights = model.net(), model.load_weights()
    with naming(model.deploy):
        check_weights(graph, weights, str(model.weights))
        rim, added = engine.halo(graph), note(graph)
        if dense:
            made = dense_model(make_plan(graph), kernels(graph, weights), model.name, rim if mirrored else None)
        else:
            made = patch_model(graph, weights, model.name)
    facts = {"normalisation_mean": model.normalisation.mean, "normalisation_std": model.normalisation.std,
             "input": "(grey - mean) / std, float32", "patch_size": model.patch_size,
             "halo_before_after": [0, 0] if mirrored else list(rim), "pixel_size_nm_zyx": list(model.pixel_size_nm),
             "threshold": model.threshold}
    if added:
        facts["softmax"] = added
    for key, value in facts.items():
        made.metadata_props.add(key=key, value=json.dumps(value))
    return made


def check(made: Any, model: Model, dense: bool) -> Check:
    """Check an exported patch net or (not mirrored) dense net.

    ``onnx.checker`` looks at its form.  Its numbers are compared with Caffe
    patch by patch where Caffe is installed; elsewhere the patch net and the
    dense net, which are written by different code, are compared with each other.

    Raises
    ------
    UserError : probabilities differ by more than 1e-5.
    """
    import onnx
    onnx.checker.check_model(made, full_check=True)
    if importlib.util.find_spec("onnxruntime") is None:
        return Check("onnxruntime is not installed here", None)
    graph = model.net()
    rows, columns = (side + sum(engine.halo(graph)) for side in _TILE)
    grey = np.random.default_rng(_SEED).standard_normal((rows, columns)).astype(np.float32)
    found = (run_model(made, grey[None, None])[0, 0] if dense else _patch_by_patch(made, grey, model.patch_size))
    if "patch" in engines.available():
        against = "Caffe patch by patch"
        expected = engines.create("patch", graph, model.load_weights(), _TILE).predict(grey)
    else:
        against = f"the {'patch' if dense else 'dense'} net in ONNX Runtime (Caffe is not installed here)"
        try:
            other = onnx_of(model, not dense)
        except UserError:
            return Check("Caffe is not installed here, and the net has no dense form to compare it with", None)
        expected = _patch_by_patch(other, grey, model.patch_size) if dense else run_model(other, grey[None, None])[0, 0]
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise UserError(f"{model.directory}: the exported net's probabilities differ from {against} by "
                        f"{difference:.1e}, more than {TOLERANCE:.0e}; it was not written")
    return Check(f"{against} ({found.size} patches)", difference)


def export(directory: PathLike, out: PathLike, dense: bool = False, force: bool = False) -> Check:
    """Write a model directory's network as ONNX, after checking it.

    Raises
    ------
    UserError : no whole model, a layer that cannot be exported, ``out`` is not called .onnx or exists without ``force``.
    """
    require_ending(out, ".onnx")
    refuse_existing(out, force)
    model = open_model(directory)
    made = onnx_of(model, dense)
    result = check(made, model, dense)
    with atomic_file(out) as temporary:
        temporary.write_bytes(made.SerializeToString(deterministic=True))
    return result


def run_model(made: Any, data: np.ndarray) -> np.ndarray:
    """First output of a ModelProto with one input, in ONNX Runtime on the processor."""
    from ..engines.dense_onnx import make_session
    output: np.ndarray = make_session(made, 1, {}).run(None, {made.graph.input[0].name: data})[0]
    return output


def _patch_by_patch(made: Any, grey: np.ndarray, side: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(grey, (side, side))
    patches = np.ascontiguousarray(windows.reshape(-1, 1, side, side))
    result = run_model(made, patches).reshape(len(patches), -1)
    return result[:, paper.MEMBRANE].reshape(windows.shape[:2])


def _needs_onnx() -> None:
    if importlib.util.find_spec("onnx") is None:
        raise UserError("export: the package onnx is not installed here; run `pip install onnx onnxruntime`")

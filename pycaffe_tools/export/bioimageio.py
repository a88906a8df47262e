"""A trained network as a bioimage.io model package, for the programs that read those.

The package is a zip file with the exact dense net in ONNX, ``rdf.yaml`` that
describes it (bioimage.io model description 0.5), and an input with its output,
with which every program can check whether it computes the same.

The net inside mirrors its input at the border, so that output and input are of
one size; the halo that the description states (16 pixels for patches of 32) is
what a program cutting an image into tiles has to leave between them.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, Dict, List, Tuple

import numpy as np

from .. import __version__
from ..base.files import PathLike, atomic_file, refuse_existing, require_ending
from ..dense_plan.onnx_printer import OPSET
from ..engines import engine
from ..nets.classifier import note
from ..nets.model import Model, open_model
from .onnx_net import TOLERANCE, Check, check, onnx_of, run_model

FORMAT_VERSION = "0.5.3"
"""Of the model description; later 0.5 readers accept it."""

_TEST_SIZE = 96
_STEP = 8


def export_package(directory: PathLike, out: PathLike, force: bool = False) -> Check:
    """Write a model directory's network as a bioimage.io package, after checking its numbers.

    Raises
    ------
    UserError : no whole model, a net without dense form, ``out`` is not called .zip or exists without ``force``.
    """
    require_ending(out, ".zip")
    refuse_existing(out, force)
    model = open_model(directory)
    # The numbers are checked on the net without mirroring, from which the packaged one differs by its first node.
    result = check(onnx_of(model, dense=True), model, dense=True)
    made = onnx_of(model, dense=True, mirrored=True)
    test_input, test_output = _test_tensors(made, model)
    files = {
        "rdf.yaml": (json.dumps(description(model), indent=1) + "\n").encode(),
        "README.md": _readme(model).encode(),
        "net.onnx": made.SerializeToString(deterministic=True),
        "test_input.npy": _npy(test_input),
        "test_output.npy": _npy(test_output),
    }
    with atomic_file(out) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                # A fixed date, so that equal models give equal bytes.
                archive.writestr(zipfile.ZipInfo(name, (2017, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return result


def description(model: Model) -> Dict[str, Any]:
    """Content of ``rdf.yaml``; written as JSON, which is YAML as well."""
    halo = max(engine.halo(model.net()))
    least = _least(halo)
    pixels = model.pixel_size_nm[1:]

    def space(axis: str, number: int, **more: Any) -> Dict[str, Any]:
        size = pixels[number]
        known = {} if size is None else {"unit": "nanometer", "scale": float(size)}
        return {"type": "space", "id": axis, **known, **more}

    def reference(axis: str) -> Dict[str, Any]:
        return {"tensor_id": "grey", "axis_id": axis}

    data = {"type": "float32"}
    normalisation = {"mean": float(model.normalisation.mean), "std": float(model.normalisation.std)}
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": f"Membrane segmentation {model.name}",
        "description": "Probability of membrane at each pixel of an electron micrograph, by a convolutional network "
                       "that classifies a 32 x 32 patch around it; evaluated densely with the same numbers."
                       .replace("32 x 32", f"{model.patch_size} x {model.patch_size}"),
        "authors": [{"name": "pycaffe_tools"}],
        "cite": [{"text": "J. Roels et al. Convolutional neural network pruning to accelerate membrane segmentation in "
                          "electron microscopy. ISBI 2017.", "url": "https://arxiv.org/abs/1810.09735"}],
        "license": "BSD-2-Clause",
        "tags": ["electron-microscopy", "membrane", "semantic-segmentation", "2d"],
        "documentation": "README.md",
        "version": "1.0.0",
        "inputs": [{
            "id": "grey",
            "description": "raw grey values of one slice",
            "axes": [{"type": "batch", "size": 1},
                     {"type": "channel", "channel_names": ["grey"]},
                     space("y", 0, size={"min": least, "step": _STEP}),
                     space("x", 1, size={"min": least, "step": _STEP})],
            "data": data,
            "preprocessing": [{"id": "fixed_zero_mean_unit_variance", "kwargs": normalisation}],
            "test_tensor": {"source": "test_input.npy"}}],
        "outputs": [{
            "id": "membrane",
            "description": "probability of membrane",
            "axes": [{"type": "batch", "size": 1},
                     {"type": "channel", "channel_names": ["membrane"]},
                     space("y", 0, size=reference("y"), halo=halo),
                     space("x", 1, size=reference("x"), halo=halo)],
            "data": {**data, "range": [0.0, 1.0]},
            "test_tensor": {"source": "test_output.npy"}}],
        "weights": {"onnx": {"source": "net.onnx", "opset_version": OPSET}},
        "config": {"pycaffe_tools": {"version": __version__, "threshold": model.threshold, "counts": model.counts}},
    }


def _least(halo: int) -> int:
    """Side of the smallest image that the packaged net is described to take: one with a pixel that mirrors nothing."""
    return -(-(2 * halo + 1) // _STEP) * _STEP


def _test_tensors(made: Any, model: Model) -> Tuple[np.ndarray, np.ndarray]:
    """Grey values with edges in them, around the model's mean, and the packaged net's answer."""
    size = max(_TEST_SIZE, _least(max(engine.halo(model.net()))))
    y, x = np.mgrid[:size, :size]
    noise = np.random.default_rng(0).standard_normal((size, size))
    waves = np.sin(np.hypot(x - 20, y - 30) / 4) + 0.5 * noise
    grey = (model.normalisation.mean + model.normalisation.std * waves).astype(np.float32)[None, None]
    return grey, run_model(made, model.normalisation.apply(grey))


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _readme(model: Model) -> str:
    sizes = ["unknown" if size is None else f"{size:g} nm" for size in model.pixel_size_nm]
    added = note(model.net())
    lines: List[str] = [
        f"# Membrane segmentation {model.name}",
        "",
        f"Gives the probability of membrane at each pixel of a slice of electron microscopy. The network classifies "
        f"the {model.patch_size} x {model.patch_size} pixels around a pixel; here it is evaluated for whole images, "
        f"with the same numbers as patch by patch (within {TOLERANCE:g}).",
        "",
        f"- Input: raw grey values as in training (mean {model.normalisation.mean:g}, "
        f"standard deviation {model.normalisation.std:g}).",
        f"- Pixel size of the training data (z, y, x): {', '.join(sizes)}.",
        f"- A pixel counts as membrane from a probability of {model.threshold:g}.",
        f"- Features in each layer: {', '.join(f'{layer} {count}' for layer, count in model.counts.items())}.",
        *([f"- {added}"] if added else []),
        "",
        "# Validation",
        "",
        "Compare the thresholded output with membranes labelled by hand on slices that were not used for training: "
        "the fraction of correctly classified pixels, and the F-score of membrane.",
        "",
    ]
    return "\n".join(lines)

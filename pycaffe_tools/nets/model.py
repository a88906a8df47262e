"""A model directory: everything needed to use a trained network, in one movable folder.

=====================  =================================================================
``deploy.prototxt``    the network for patches, as Caffe reads it
``weights.caffemodel`` its weights
``model.json``         what the two files do not say; written last, so a folder with it is whole
=====================  =================================================================

``model.json`` holds the ``normalisation`` (``mean`` and ``std`` in the raw
data's grey values; the network sees ``(grey - mean) / std``; or ``by``:
``"stack"`` where every volume is normalised by its own mean and deviation,
with those of the ``stacks`` that it was trained on), ``patch_size``,
``pixel_size_nm`` (z, y, x; null where unknown), ``counts`` (features in each
layer), ``threshold`` (on the probability of membrane), the SHA-256 of both
files and ``provenance`` (how the model was made).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, read_json, sha256, write_json
from .caffemodel import read_weights
from .netgraph import NetGraph, read_net

DEPLOY, WEIGHTS, INFO = "deploy.prototxt", "weights.caffemodel", "model.json"
FORMAT = 1


class Normalisation(NamedTuple):
    """Grey values of the raw data at which the network's input is 0, and that make 1."""

    mean: float
    std: float

    def apply(self, grey: np.ndarray) -> np.ndarray:
        """Network input of raw grey values: float32 of the same shape."""
        return (grey.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)


class Model:
    """An opened model directory; make one with :func:`open_model`.

    Attributes
    ----------
    directory : the folder.
    info : the content of ``model.json``.
    """

    def __init__(self, directory: Path, info: Dict[str, Any]):
        self.directory = directory
        self.info = info

    @property
    def name(self) -> str:
        """The network's name."""
        return self.info["name"]

    @property
    def deploy(self) -> Path:
        """Path of the deploy prototxt."""
        return self.directory / DEPLOY

    @property
    def weights(self) -> Path:
        """Path of the caffemodel."""
        return self.directory / WEIGHTS

    @property
    def normalised_by_stack(self) -> bool:
        """Whether every volume is normalised by its own mean and standard deviation."""
        return "by" in self.info["normalisation"]

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation in the raw data's grey values.

        Raises
        ------
        UserError : every volume is normalised by its own.
        """
        if self.normalised_by_stack:
            raise UserError(f"{self.directory}: was trained with --normalise stack, so its mean and standard deviation are those "
                            f"of each volume; use python -m pycaffe_tools.segment, or train on patches made with "
                            f"--normalise all")
        return Normalisation(**self.info["normalisation"])

    def normalisation_of_training_stack(self, sha256: str, dataset: Optional[str] = None) -> Optional[Normalisation]:
        """The normalisation of a stack that the model was trained on, where each has its own; None for any other volume.

        Parameters
        ----------
        sha256 : of the volume's file.
        dataset : inside the file; None where it is not one that holds several.
        """
        for stack in self.info["normalisation"].get("stacks", ()):
            if (stack["sha256"], stack["dataset"]) == (sha256, dataset):
                return Normalisation(stack["mean"], stack["std"])
        return None

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.info["patch_size"]

    @property
    def pixel_size_nm(self) -> List[Optional[float]]:
        """Pixel size (z, y, x) of the training data in nanometres, None where unknown."""
        return self.info["pixel_size_nm"]

    @property
    def counts(self) -> Dict[str, int]:
        """Features in each prunable layer."""
        return dict(self.info["counts"])

    @property
    def threshold(self) -> float:
        """Probability of membrane from which a pixel counts as membrane."""
        return self.info["threshold"]

    def net(self) -> NetGraph:
        """The deployed network."""
        return read_net(self.deploy)

    def load_weights(self) -> Dict[str, List[np.ndarray]]:
        """The weights by layer name; see :func:`pycaffe_tools.nets.caffemodel.read_weights`."""
        return read_weights(self.weights)


def open_model(path: PathLike) -> Model:
    """Open a model directory and check that it is whole.

    Raises
    ------
    UserError : no such folder, unfinished, or a file that is not the one it was made with.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise UserError(f"{path}: there is no such model directory; train one with python -m pycaffe_tools.train")
    if not (directory / INFO).is_file():
        unfinished = (directory / "training").is_dir()
        raise UserError(f"{path}: is not a whole model directory, it has no {INFO}; " + (
            "its training was interrupted, go on with python -m pycaffe_tools.train ... --resume" if unfinished
            else "train one with python -m pycaffe_tools.train"))
    info = read_json(directory / INFO)
    missing = [key for key in ("format", "name", "normalisation", "patch_size", "pixel_size_nm", "counts",
                               "threshold", "files") if key not in info]
    if missing or info["format"] != FORMAT:
        raise UserError(f"{directory / INFO}: is not of this program's format "
                        f"({'without ' + ', '.join(missing) if missing else 'format %s' % info['format']}); "
                        f"make the model again")
    for name, digest in info["files"].items():
        if not (directory / name).is_file() or sha256(directory / name) != digest:
            raise UserError(f"{directory / name}: is missing or not the file this model was made with; "
                            f"copy the whole model directory again")
    return Model(directory, info)


def finish_model(directory: PathLike, *, name: str, normalisation: Mapping[str, Any], patch_size: int,
                 pixel_size_nm: List[Optional[float]], counts: Mapping[str, int], threshold: float,
                 provenance: Mapping[str, Any], **more: Any) -> Model:
    """Write ``model.json`` beside a deploy prototxt and weights that are already there, which makes the model whole.

    ``more`` holds further results, such as ``validation``.
    """
    directory = Path(directory)
    info = {"format": FORMAT, "name": name, "patch_size": patch_size, "normalisation": dict(normalisation),
            "pixel_size_nm": list(pixel_size_nm), "counts": dict(counts), "threshold": float(threshold), **more,
            "files": {file: sha256(directory / file) for file in (DEPLOY, WEIGHTS)},
            "provenance": dict(provenance)}
    write_json(directory / INFO, info)
    return Model(directory, info)

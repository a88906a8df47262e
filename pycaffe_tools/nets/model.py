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
layer), ``threshold`` (on the probability of membrane), ``calibration`` (see :mod:`.calibration`), the SHA-256 of both
files and ``provenance`` (how the model was made).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.fields import Fields, shown
from ..base.files import PathLike, read_json, sha256, write_json
from .calibration import Calibration, read_calibration
from .files.caffemodel import read_weights
from .netgraph import NetGraph, read_net

DEPLOY, WEIGHTS, INFO = "deploy.prototxt", "weights.caffemodel", "model.json"
FORMAT = 1


class Normalisation(NamedTuple):
    """Grey values of the raw data at which the network's input is 0, and that make 1."""

    mean: float
    std: float

    def apply(self, grey: np.ndarray) -> np.ndarray:
        """Network input of raw grey values: float32 of the same shape."""
        normalised: np.ndarray = (grey.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        return normalised


def read_normalisation(fields: Fields) -> Normalisation:
    """Mean and standard deviation of an object in a JSON file."""
    return Normalisation(fields.number("mean"), fields.number("std", above=0.0))


class Model:
    """An opened model directory; make one with :func:`open_model`.

    Attributes
    ----------
    directory : the folder.
    info : the content of ``model.json``.
    name : the network's name.
    patch_size : side of a patch in pixels.
    pixel_size_nm : pixel size (z, y, x) of the training data in nanometres, None where unknown.
    counts : features in each prunable layer.
    threshold : probability of membrane from which a pixel counts as membrane.
    files : SHA-256 of the prototxt and of the caffemodel.

    Raises
    ------
    UserError : ``info`` is not what a ``model.json`` holds; names the field.
    """

    def __init__(self, directory: Path, info: Dict[str, Any]):
        self.directory = directory
        self.info = info
        self._fields = fields = Fields(info, directory / INFO)
        if fields.whole("format") != FORMAT:
            raise UserError(f"{directory / INFO}: is of format {shown(info['format'])}, and this program reads format "
                            f"{FORMAT}; make the model again")
        self.name = fields.text("name")
        grey = fields.fields("normalisation")
        self._normalisation = None if grey.has("by") else read_normalisation(grey)
        self._stacks: Dict[Tuple[str, Optional[str]], Normalisation] = {}
        if grey.has("by"):
            grey.one_of("by", ["stack"])
            for stack in grey.objects("stacks"):
                place = (stack.text("sha256"), stack.text("dataset") if stack.has("dataset") else None)
                self._stacks[place] = read_normalisation(stack)
        self.patch_size = fields.whole("patch_size", 1)
        self.pixel_size_nm = fields.sizes("pixel_size_nm", 3)
        counts = fields.fields("counts")
        self.counts: Dict[str, int] = {layer: counts.whole(layer, 1) for layer in counts.names}
        self.threshold = fields.number("threshold", 0.0)
        digests = fields.fields("files")
        self.files: Dict[str, str] = {file: digests.text(file) for file in (DEPLOY, WEIGHTS)}

    @property
    def deploy(self) -> Path:
        """Path of the deploy prototxt."""
        return self.directory / DEPLOY

    @property
    def weights(self) -> Path:
        """Path of the caffemodel."""
        return self.directory / WEIGHTS

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation in the raw data's grey values.

        Raises
        ------
        UserError : every volume is normalised by its own.
        """
        if self._normalisation is None:
            raise UserError(f"{self.directory}: was trained with --normalise stack, so its mean and standard deviation are those "
                            f"of each volume; use python -m pycaffe_tools.segment, or train on patches made with "
                            f"--normalise all")
        return self._normalisation

    @property
    def normalised_by_stack(self) -> bool:
        """Whether every volume is normalised by its own mean and standard deviation."""
        return self._normalisation is None

    def normalisation_of_training_stack(self, sha256: str, dataset: Optional[str] = None) -> Optional[Normalisation]:
        """The normalisation of a stack that the model was trained on, where each has its own; None for any other volume.

        Parameters
        ----------
        sha256 : of the volume's file.
        dataset : inside the file; None where it is not one that holds several.
        """
        return self._stacks.get((sha256, dataset))

    @property
    def validation_accuracy(self) -> Optional[float]:
        """Share of the validation patches that were classified correctly; None if it was not recorded.

        Raises
        ------
        UserError : what is recorded is no share.
        """
        if not self._fields.has("validation"):
            return None
        validation = self._fields.fields("validation")
        return validation.number("accuracy", 0.0, 1.0) if validation.has("accuracy") else None

    @property
    def calibration(self) -> Optional[Calibration]:
        """How its probabilities become those of a volume; None if that was not fitted.

        Raises
        ------
        UserError : what is recorded is no calibration.
        """
        return read_calibration(self._fields.fields("calibration")) if self._fields.has("calibration") else None

    def net(self) -> NetGraph:
        """The deployed network.

        Raises
        ------
        UserError : the prototxt cannot be read, or ``model.json`` says something else of its patches or features.
        """
        net = read_net(self.deploy)
        sides = {shape[2:] for shape in net.inputs.values() if shape is not None and len(shape) == 4}
        if sides and sides != {(self.patch_size, self.patch_size)}:
            rows, columns = sides.pop()
            raise UserError(f"{self.directory / INFO}: says that patches have {self.patch_size} pixels a side, but "
                            f"{DEPLOY} takes {rows}x{columns}; restore the file or make the model again")
        features = {layer.name: layer.num_output for layer in net.layers if layer.is_parametric}
        missing = [name for name in list(features)[:-1] if name not in self.counts]
        if missing:
            raise UserError(f"{self.directory / INFO}: does not say how many features layer {missing[0]} of {DEPLOY} has; "
                            f"restore the file or make the model again")
        for name, count in self.counts.items():
            if features.get(name) != count:
                raise UserError(f"{self.directory / INFO}: says that layer {name} has {count} features, but in {DEPLOY} "
                                f"it has {features.get(name, 'none')}; restore the file or make the model again")
        return net

    def load_weights(self) -> Dict[str, List[np.ndarray]]:
        """The weights by layer name; see :func:`pycaffe_tools.nets.files.caffemodel.read_weights`."""
        return read_weights(self.weights)


def open_model(path: PathLike) -> Model:
    """Open a model directory and check that it is whole.

    Raises
    ------
    UserError : no such folder, unfinished, a field of ``model.json`` that cannot be, or a file that is not the one
        it was made with.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise UserError(f"{path}: there is no such model directory; train one with python -m pycaffe_tools.train")
    if not (directory / INFO).is_file():
        unfinished = (directory / "training").is_dir()
        raise UserError(f"{path}: is not a whole model directory, it has no {INFO}; " + (
            "its training was interrupted, go on with python -m pycaffe_tools.train ... --resume" if unfinished
            else "train one with python -m pycaffe_tools.train"))
    model = Model(directory, read_json(directory / INFO))
    for name, digest in model.files.items():
        if not (directory / name).is_file() or sha256(directory / name) != digest:
            raise UserError(f"{directory / name}: is missing or not the file this model was made with; "
                            f"copy the whole model directory again")
    return model


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

"""How the grey values of a volume become a network's input."""

from __future__ import annotations

from ..nets.model import Model, Normalisation
from ..patches.greys import own_normalisation
from ..volumes.paths import split_dataset
from ..volumes.volume import Volume


def normalisation_of(model: Model, volume: Volume) -> Normalisation:
    """The normalisation under which a model is applied to a volume.

    As a rule it is the model's own.  A model that was trained on stacks that
    were normalised one by one takes that of its training for one of these
    stacks, and for every other volume the volume's own.

    Raises
    ------
    UserError : the volume needs one of its own and has none, see
        :func:`~pycaffe_tools.patches.greys.own_normalisation`.
    """
    if not model.normalised_by_stack:
        return model.normalisation
    known = model.normalisation_of_training_stack(volume.sha256(), split_dataset(volume.path)[1])
    return own_normalisation(volume) if known is None else known

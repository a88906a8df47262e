"""How a removed channel travels through a net, and what stands in its way.

A feature of a layer is removed when its map is zero, and everything made of
that map alone is zero too.  This module follows the removed channels (index 1
of each blob's axes) from the layers to be pruned through all layers behind
them, in the order of execution.  Each layer type has one rule: given which
channels of its bottoms are removed, which channels of its tops are zero
whatever the rest of the input.  A layer that mixes channels without weights
(LRN across channels, Eltwise), or that makes something else of zero
(Sigmoid), stands in the way: leaving the channel out would be another
function, so the removal is refused.

What weights become is not told here but in :mod:`pycaffe_tools.surgery`.
"""

from __future__ import annotations

from collections.abc import Sequence as AnySequence
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, NoReturn, Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.fields import shown
from ..nets.layers import Layer, Value
from ..nets.netgraph import NetGraph
from .rules import PRUNABLE_TYPES, RULES, Obstacle, is_depthwise, not_understood


class Removed(NamedTuple):
    """Removed channels of one value.

    ``mask`` is bool, one element a channel, True where removed; ``because``
    names the layers to be pruned that it comes from.
    """

    mask: np.ndarray
    because: FrozenSet[str]


class Channels:
    """Which channels are removed, all over a net; made by :func:`propagate`."""

    def __init__(self, net: NetGraph, removed: Mapping[Value, Removed]):
        self.net = net
        self._removed = removed

    def removed(self, value: Value) -> Optional[np.ndarray]:
        """Bool mask of a value's removed channels; None where there are none."""
        return self._removed[value].mask if value in self._removed else None

    def kept(self, value: Value) -> np.ndarray:
        """Indexes of the channels that stay, ascending."""
        mask = self.removed(value)
        return np.arange(self.net.shape(value)[1]) if mask is None else np.flatnonzero(~mask)

    def groups(self, layer: Layer) -> List[int]:
        """Groups of a convolution or deconvolution that keep any input, ascending."""
        per_group = self.net.input_shape(layer)[1] // layer.parameters.group
        return sorted(set((self.kept(layer.inputs[0]) // per_group).tolist()))

    def touches(self, layer: Layer) -> bool:
        """Whether a layer reads or makes a value with removed channels."""
        return any(value in self._removed for value in layer.inputs + layer.outputs)


def propagate(net: NetGraph, keep: Mapping[str, Sequence[int]]) -> Channels:
    """Follow the removal of features through a net.

    Parameters
    ----------
    net : the net.
    keep : for each layer to be pruned, the indexes of the features that stay,
        counted from 0, in any order; layers not named keep all.

    Raises
    ------
    UserError : ``keep`` does not fit the net, or a layer stands in the way;
        the message names the layer to be pruned and the obstacle.
    """
    own = {name: _own_mask(net, name, indexes) for name, indexes in keep.items()}
    sharing = layers_that_share_parameters(net)
    removed: Dict[Value, Removed] = {}
    for layer in net.layers:
        incoming = [removed.get(value) for value in layer.inputs]
        mask = own.get(layer.name)
        because = frozenset().union(*(state.because for state in incoming if state is not None))
        if mask is not None and mask.any():
            because |= {layer.name}
        if not because:
            continue
        try:
            if layer.name in sharing:
                raise Obstacle(f"shares its parameters with layer {sharing[layer.name]}")
            rule = RULES.get(layer.type, not_understood)
            outgoing = rule(net, layer, [None if state is None else state.mask for state in incoming], mask)
        except Obstacle as obstacle:
            _refuse(because, layer, str(obstacle))
        if layer.type in PRUNABLE_TYPES and not is_depthwise(net, layer):
            because = frozenset((layer.name,))  # its removed features are its own, whatever its input lacks
        for value, zero in zip(layer.outputs, outgoing):
            if zero is not None and zero.any():
                removed[value] = Removed(zero, because)
    for value in net.outputs:
        if value in removed:
            maker = net.layers[value.layer]
            _refuse(removed[value].because, maker, f"makes the net's output {value.blob!r}")
    return Channels(net, removed)


def _refuse(because: FrozenSet[str], layer: Layer, reason: str) -> NoReturn:
    pruned = ", ".join(sorted(because))
    obstacle = "it" if because == {layer.name} else f"the {layer.type} layer {layer.name} behind it"
    noun = "layer" if len(because) == 1 else "layers"
    raise UserError(f"{noun} {pruned}: features cannot be removed without changing the function, because {obstacle} "
                    f"{reason}; take {pruned} out of the layers to be pruned")


def _own_mask(net: NetGraph, name: str, indexes: Any) -> np.ndarray:
    layer = net.layer(name)
    if layer.type not in PRUNABLE_TYPES:
        raise UserError(f"layer {name}: is a {layer.type} layer, which has no features to remove; "
                        f"name a Convolution, Deconvolution or InnerProduct")
    count = layer.num_output
    if not isinstance(indexes, (AnySequence, np.ndarray)) or isinstance(indexes, (str, bytes)):
        raise UserError(f"layer {name}: the features to keep must be a list of whole numbers, not {shown(indexes)}")
    wrong = [index for index in indexes if isinstance(index, bool) or not isinstance(index, (int, np.integer))]
    wrong = wrong or [index for index in indexes if not 0 <= index < count]
    if wrong:
        raise UserError(f"layer {name}: {shown(wrong[0])} is not one of its features, which are numbered 0 to {count - 1}; "
                        f"correct the list of features to keep")
    if not len(indexes):
        raise UserError(f"layer {name}: would keep no feature at all; keep at least one")
    mask = np.ones(count, bool)
    for index in indexes:
        if not mask[index]:
            raise UserError(f"layer {name}: feature {index} stands twice in the list of features to keep; "
                            f"name each once")
        mask[index] = False
    return mask


def layers_that_share_parameters(net: NetGraph) -> Dict[str, str]:
    """For each layer that has a named parameter in common with another, that other layer's name."""
    users: Dict[str, List[str]] = {}
    for layer in net.layers:
        for spec in layer.proto.param:
            if spec.name and layer.name not in users.setdefault(spec.name, []):
                users[spec.name].append(layer.name)
    return {name: names[names[0] == name] for names in users.values() if len(names) > 1 for name in names}

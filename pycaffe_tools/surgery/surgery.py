"""Zero features of a trained net, or remove them, and prove that both are the same function.

``python -m pycaffe_tools.surgery DEPLOY WEIGHTS OUT_DIR --keep-file keep.json``
works on any Caffe net, not only on this package's own.  In Python:

    >>> surgery = remove_features(net, weights, {"c1": [0, 2, 5]})       # doctest: +SKIP
    >>> verify(surgery)                                                  # doctest: +SKIP
    2.1e-07

Two forms of the pruned net are made.  The *masked* net has the original
shapes; what makes a removed channel is zero: the weights and bias of its
filter, and where BatchNorm, Scale or Bias follow, their mean, factor and
offset, since BatchNorm alone would turn a zero map into -mean / deviation.
The *slim* net does without these channels and without the weights of the next
layers that read them.  :mod:`pycaffe_tools.surgery.channels` tells which those are.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..nets.files.schema import schema
from ..nets.files.upgrade import upgraded
from ..nets.layers import Layer
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights
from .blobs import Blobs, check_all_weights, masked_weights, slim_weights
from .channels import Channels, propagate
from .rules import PRUNABLE_TYPES


class Surgery(NamedTuple):
    """A net with features removed.

    Attributes
    ----------
    net : the original net.
    keep : for each pruned layer, the features that stayed, ascending.
    masked_weights : for the original net; what makes removed channels is zero.
    slim_proto : NetParameter without them.
    slim_weights : for ``slim_proto``.
    channels : which channels are removed, all over the net.
    """

    net: NetGraph
    keep: Dict[str, List[int]]
    masked_weights: Dict[str, Blobs]
    slim_proto: Any
    slim_weights: Dict[str, Blobs]
    channels: Channels


def remove_features(net: NetGraph, weights: Weights, keep: Mapping[str, Sequence[int]]) -> Surgery:
    """Remove features from a net, and all that reads only them.

    Parameters
    ----------
    net : the net, with the shape of its input (a deploy prototxt).
    weights : blobs by layer name, as from :func:`pycaffe_tools.nets.files.caffemodel.read_weights`; untouched.
        What they hold for layers that the net has not is left out.
    keep : for each layer to be pruned, the indexes of the features that stay,
        in any order (the features stay in the original order); layers not named keep all.

    Raises
    ------
    UserError : the weights do not fit, ``keep`` does not fit, or a layer
        stands in the way (see :func:`pycaffe_tools.surgery.channels.propagate`).
    """
    check_all_weights(net, weights)
    channels = propagate(net, keep)
    return Surgery(net, {name: sorted(int(index) for index in indexes) for name, indexes in keep.items()},
                   masked_weights(channels, weights), _slimmed(net.proto, slim_counts(channels)),
                   slim_weights(channels, weights), channels)


def mask_features(net: NetGraph, weights: Weights, removed: Mapping[str, Sequence[int]]) -> Dict[str, Blobs]:
    """Weights of the original shapes with features zeroed.

    Parameters
    ----------
    net, weights : as for :func:`remove_features`.
    removed : for each layer, the indexes of the features to be zeroed.

    Raises
    ------
    UserError : as :func:`remove_features`.
    """
    keep = {}
    for name, indexes in removed.items():
        every = range(net.layer(name).num_output) if net.layer(name).type in PRUNABLE_TYPES else ()
        wrong = [index for index in indexes if index not in every]
        if wrong:
            raise UserError(f"layer {name}: has no feature {wrong[0]!r}; correct the list of features to remove")
        keep[name] = [index for index in every if index not in set(indexes)]
    check_all_weights(net, weights)
    return masked_weights(propagate(net, keep), weights)


def slim_prototxt(proto: Any, keep: Mapping[str, Sequence[int]],
                  input_shapes: Optional[Mapping[str, Tuple[int, ...]]] = None) -> Any:
    """Write the reduced number of features into a net of the same layer names, such as the one for training.

    Parameters
    ----------
    proto : NetParameter; its data layers, losses and fillers stay as they are.
    keep : as for :func:`remove_features`.
    input_shapes : shapes of the blobs that its data layers make, by name.

    Raises
    ------
    UserError : it lacks a pruned layer, or a layer stands in the way in one of its phases.
    """
    changes: Dict[str, Dict[str, Any]] = {}
    missing = set(keep)
    for phase in ("TRAIN", "TEST"):
        net = NetGraph(proto, phase, input_shapes)
        names = {layer.name for layer in net.layers}
        changes.update(slim_counts(propagate(net, {name: keep[name] for name in keep if name in names})))
        missing -= names
    if missing:
        raise UserError(f"net {proto.name}: has no layer {', '.join(sorted(missing))}, which is to be pruned; "
                        f"give the training net of the same network")
    return _slimmed(upgraded(proto), changes)


def slim_counts(channels: Channels) -> Dict[str, Dict[str, Any]]:
    """What changes in a prototxt: for each layer that does, ``num_output``, ``group`` or ``slice_point``."""
    changes: Dict[str, Dict[str, Any]] = {}
    for layer in channels.net.layers:
        if not channels.touches(layer):
            continue
        if layer.type in PRUNABLE_TYPES:
            mask = channels.removed(layer.outputs[0])
            change: Dict[str, Any] = {"num_output": layer.num_output if mask is None else int((~mask).sum())}
            if layer.type != "InnerProduct" and layer.parameters.group > 1:
                change["group"] = len(channels.groups(layer))
            changes[layer.name] = change
        elif layer.type == "Slice" and _slices_channels(channels.net, layer):
            counts = [len(channels.kept(value)) for value in layer.outputs]
            changes[layer.name] = {"slice_point": [int(edge) for edge in np.cumsum(counts)[:-1]]}
    return changes


def _slices_channels(net: NetGraph, layer: Layer) -> bool:
    return net.shape(layer.outputs[0])[1] != net.input_shape(layer)[1]


def _slimmed(proto: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
    slim = schema().NetParameter()
    slim.CopyFrom(proto)
    for layer in slim.layer:
        options = (layer.inner_product_param if layer.type == "InnerProduct" else
                   layer.slice_param if layer.type == "Slice" else layer.convolution_param)
        for field, content in changes.get(layer.name, {}).items():
            if field == "slice_point":
                options.slice_point[:] = content
            else:
                setattr(options, field, content)
        del layer.blobs[:]
    return slim

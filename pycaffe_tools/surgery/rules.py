"""How each layer type passes channels on: one rule a type."""

from __future__ import annotations

from typing import Callable, Dict, List, NoReturn, Optional, Sequence

import numpy as np

from ..nets.layers import LOSS_TYPES, Layer
from ..nets.netgraph import NetGraph
from ..nets.shapes import concat_axis

PRUNABLE_TYPES = frozenset(("Convolution", "Deconvolution", "InnerProduct"))
"""Types of layers whose features can be removed."""

Masks = List[Optional[np.ndarray]]
Rule = Callable[[NetGraph, Layer, Masks, Optional[np.ndarray]], Sequence[Optional[np.ndarray]]]


class Obstacle(Exception):
    """Why a layer cannot be passed; :func:`propagate` adds the names."""


def _mask(mask: Optional[np.ndarray]) -> np.ndarray:
    """The mask of the only input of a layer; rules are asked only where there is one."""
    assert mask is not None
    return mask


# -- one rule a layer type -------------------------------------------------------------------------------------

def not_understood(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> NoReturn:
    """The rule of every type that has none of its own."""
    raise Obstacle("is of a type whose channels are not understood here")


def _needs(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> NoReturn:
    raise Obstacle("needs all its inputs")


def _same(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    """Each channel by itself, and zero stays zero."""
    if len(masks) > 1:
        raise Obstacle("has several inputs")
    return masks * len(layer.outputs)


def _if_zero_stays_zero(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    if not zero_stays_zero(layer):
        raise Obstacle("makes a constant other than zero of a removed (zero) map")
    return _same(net, layer, masks, own)


def zero_stays_zero(layer: Layer) -> bool:
    """Whether an activation layer maps 0 to 0."""
    def option(message: str, field: str, default: float) -> float:
        return getattr(getattr(layer.proto, message, None), field, default)

    if layer.type == "Power":
        return option("power_param", "shift", 0) == 0 and option("power_param", "power", 1) > 0
    if layer.type == "Log":
        return option("log_param", "shift", 0) == 1
    if layer.type == "Threshold":
        return option("threshold_param", "threshold", 0) >= 0
    return layer.type in ("AbsVal", "Dropout", "ELU", "ReLU", "Swish", "TanH")


def _within_channels(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    if layer.type == "LRN" and layer.proto.lrn_param.norm_region == 0 and layer.proto.lrn_param.local_size > 1:
        raise Obstacle("normalises across channels")
    if layer.type == "MVN" and getattr(getattr(layer.proto, "mvn_param", None), "across_channels", False):
        raise Obstacle("normalises across channels")
    return _same(net, layer, masks, own)


def affine_axis(layer: Layer, axes: int) -> Optional[int]:
    """Axis of a Scale or Bias layer's blob that means channels; None if it has one number for several channels.

    Parameters
    ----------
    layer : a Scale or Bias layer with one bottom.
    axes : number of axes of its bottom.
    """
    options = getattr(layer.proto, f"{layer.type.lower()}_param")
    start = options.axis % axes
    count = axes - start if options.num_axes == -1 else options.num_axes
    return 1 - start if start <= 1 < start + count else None


def _affine(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    if len(masks) > 1:
        raise Obstacle("combines several inputs")
    adds = layer.type == "Bias" or layer.proto.scale_param.bias_term
    if adds and affine_axis(layer, len(net.input_shape(layer))) is None:
        raise Obstacle("adds the same number to several channels, also to removed (zero) ones")
    return _same(net, layer, masks, own)


def _convolution(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    options = layer.parameters
    if len(masks) > 1:
        raise Obstacle("applies the same weights to several inputs")
    group = options.group
    incoming = masks[0] if masks[0] is not None else np.zeros(net.input_shape(layer)[1], bool)
    outgoing = np.zeros(layer.num_output, bool) if own is None else own
    if group == 1:
        return [outgoing]
    depthwise = is_depthwise(net, layer)
    if depthwise and incoming.any():
        # Depthwise: a removed channel takes its own group along, filters and biases.
        gone = np.repeat(incoming, layer.num_output // group)
        if own is not None and (gone & ~own).any():
            raise Obstacle(f"is told to keep feature {int(np.flatnonzero(gone & ~own)[0])}, "
                            f"which is made of a removed channel alone")
        outgoing = outgoing | gone
    groups_in, groups_out = (~incoming).reshape(group, -1).sum(1), (~outgoing).reshape(group, -1).sum(1)
    alive = groups_in > 0 if depthwise else np.ones(group, bool)
    for what, counts in (("input channels", groups_in[alive]), ("features", groups_out[alive])):
        if len(set(counts.tolist())) > 1 or not counts.min():
            raise Obstacle(f"has {group} groups that would keep unequal numbers of {what}, "
                            f"{counts.min()} to {counts.max()}")
    return [outgoing]


def is_depthwise(net: NetGraph, layer: Layer) -> bool:
    """Whether each channel of the input is filtered by itself."""
    return (layer.type != "InnerProduct" and layer.parameters.group > 1
            and layer.parameters.group == net.input_shape(layer)[1])


def _inner_product(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    if len(masks) > 1:
        raise Obstacle("has several inputs")
    if layer.proto.inner_product_param.axis % len(net.input_shape(layer)) != 1:
        raise Obstacle(f"counts its inputs from axis {layer.proto.inner_product_param.axis}, not from the channels")
    return [own]


def _concat(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    shapes = [net.shape(value) for value in layer.inputs]
    full = [np.zeros(shape[1], bool) if mask is None else mask for mask, shape in zip(masks, shapes)]
    if concat_axis(layer) % len(shapes[0]) == 1:
        return [np.concatenate(full)]
    if any((mask != full[0]).any() for mask in full):
        raise Obstacle("joins maps along another axis than the channels, of which not the same are removed")
    return [full[0]]


def _slice(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    pieces = [net.shape(value) for value in layer.outputs]
    if pieces[0][1] == net.input_shape(layer)[1]:  # sliced along another axis
        return masks * len(pieces)
    parts = np.split(_mask(masks[0]), np.cumsum([shape[1] for shape in pieces])[:-1])
    if any(part.all() for part in parts):
        raise Obstacle("would have a top without any channel")
    return list(parts)


def _split(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    return masks * len(layer.outputs)


def _flatten(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    shape, options = net.input_shape(layer), layer.proto.flatten_param
    start, stop = options.axis % len(shape), options.end_axis % len(shape)
    if start == 0 and stop > 0:
        raise Obstacle("joins the channels of all samples")
    if start > 1 or stop == start:
        return masks
    return [np.repeat(_mask(masks[0]), int(np.prod(shape[2:stop + 1], dtype=int)))]


def _crop(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> Masks:
    if layer.proto.crop_param.axis % len(net.input_shape(layer)) < 2:
        raise Obstacle("cuts channels by position")
    return masks[:1]


def _eltwise(net: NetGraph, layer: Layer, masks: Masks, own: Optional[np.ndarray]) -> NoReturn:
    raise Obstacle("combines maps of several layers channel by channel")


RULES: Dict[str, Rule] = {
    "BatchNorm": _same, "PReLU": _same, "Pooling": _same, "LRN": _within_channels, "MVN": _within_channels,
    "Scale": _affine, "Bias": _affine, "Convolution": _convolution, "Deconvolution": _convolution,
    "InnerProduct": _inner_product, "Concat": _concat, "Slice": _slice, "Split": _split, "Flatten": _flatten,
    "Crop": _crop, "Eltwise": _eltwise, "Silence": _split,
    **dict.fromkeys("AbsVal BNLL Dropout ELU Exp Log Power ReLU Sigmoid Softmax Swish TanH Threshold".split(),
                    _if_zero_stays_zero),
    **dict.fromkeys(LOSS_TYPES, _needs),
}

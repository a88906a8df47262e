"""Shapes of what a layer makes, by Caffe's own arithmetic, pooling windows clipped at the border included.

What Caffe would answer with an abort is refused here in a sentence.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence

from .layers import ELEMENTWISE_TYPES, LOSS_TYPES, Geometry, Layer, Shape, product

MOST_ELEMENTS = 2 ** 31 - 1
"""Elements that one of Caffe's blobs can have."""

Shapes = List[Shape]


def output_shapes(layer: Layer, shapes: Shapes) -> Shapes:
    """Shapes of a layer's tops from those of its bottoms.

    Raises
    ------
    UserError : the shapes do not fit the layer, or its type is not understood.
    """
    if layer.type not in _RULES:
        raise layer.wrong(f"layers of type {layer.type} are not understood here; check how the type is written, such "
                          f"a net can only be run as a whole in Caffe")
    if len(shapes) > 1 and layer.type in _ONE_INPUT:
        raise layer.wrong(f"reads {len(shapes)} blobs, where layers of type {layer.type} read one; correct the prototxt")
    found = _RULES[layer.type](layer, shapes)
    if len(found) != len(layer.outputs):
        raise layer.wrong(f"makes {len(found)} blob{'s' * (len(found) != 1)}, but has {len(layer.outputs)} tops; "
                          f"correct the prototxt")
    for shape in found:
        if any(length < 1 for length in shape):
            raise layer.wrong(f"would make a blob of {_text(shape)}; correct the prototxt")
        if product(shape) > MOST_ELEMENTS:
            raise layer.wrong(f"would make a blob of {_text(shape)}, more than the {MOST_ELEMENTS:,} elements that "
                              f"Caffe can hold; correct the prototxt")
    return found


def pooled_length(length: int, kernel: int, stride: int, pad: int = 0, *, rounds_down: bool = False,
                  padded: bool = False) -> int:
    """Number of pooling windows along an axis; may be below 1 where the window is far larger than the input.

    Parameters
    ----------
    length, kernel, stride, pad : along this axis.
    rounds_down : count whole windows only; Caffe 1.0 rounds up and clips the last window at the border.
    padded : whether the pooling has padding along either axis, which makes Caffe leave out a last window that begins
        behind the map or in the padding.
    """
    rest = length + 2 * pad - kernel
    windows = (rest // stride if rounds_down else -(-rest // stride)) + 1
    if (pad or padded) and (windows - 1) * stride >= length + pad:
        windows -= 1
    return windows


def pooled_size(size: Sequence[int], window: Geometry) -> Shape:
    """Rows and columns of pooling windows over a map of ``size``."""
    return tuple(pooled_length(length, kernel, stride, pad, rounds_down=window.rounds_down, padded=any(window.pad))
                 for length, kernel, stride, pad in zip(size, window.kernel, window.stride, window.pad))


def concat_axis(layer: Layer) -> int:
    """Axis of a Concat layer, as its prototxt states it."""
    options = layer.proto.concat_param
    return int(options.concat_dim if options.HasField("concat_dim") else options.axis)


# -- one rule a layer type -----------------------------------------------------------------------------------------

def _same(layer: Layer, shapes: Shapes) -> Shapes:
    return [shapes[0]]


def _copies(layer: Layer, shapes: Shapes) -> Shapes:
    return [shapes[0]] * len(layer.outputs)


def _loss(layer: Layer, shapes: Shapes) -> Shapes:
    return [()] * len(layer.outputs)


def _image(layer: Layer, shape: Shape) -> Shape:
    if len(shape) != 4:
        raise layer.wrong(f"needs an input of four axes, not {shape}; correct the prototxt")
    return shape


def _convolved(layer: Layer, shapes: Shapes) -> Shapes:
    return [_convolved_shape(layer, _image(layer, shape)) for shape in shapes]


def _convolved_shape(layer: Layer, shape: Shape) -> Shape:
    geometry = layer.geometry
    spatial = []
    for size, kernel, stride, pad, dilation in zip(shape[2:], geometry.kernel, geometry.stride, geometry.pad,
                                                   geometry.dilation):
        extent = dilation * (kernel - 1) + 1
        spatial.append(stride * (size - 1) + extent - 2 * pad if layer.type == "Deconvolution"
                       else (size + 2 * pad - extent) // stride + 1)
    if min(spatial) < 1:
        raise layer.wrong(f"its kernel is larger than its {shape[2]}x{shape[3]} input")
    if shape[1] % geometry.group or layer.num_output % geometry.group:
        raise layer.wrong(f"its {geometry.group} groups do not divide its {shape[1]} inputs and {layer.num_output} "
                          f"outputs; correct the prototxt")
    return (shape[0], layer.num_output, *spatial)


def _pooled(layer: Layer, shapes: Shapes) -> Shapes:
    shape = _image(layer, shapes[0])
    if layer.is_global_pooling:
        return [shape[:2] + (1, 1)]
    size = pooled_size(shape[2:], layer.geometry)
    if min(size) < 1:
        raise layer.wrong(f"its pooling window is larger than its {shape[2]}x{shape[3]} input by so much that Caffe "
                          f"refuses it; correct the prototxt")
    return [shape[:2] + size]


def _inner_product(layer: Layer, shapes: Shapes) -> Shapes:
    axis = layer.axis(layer.proto.inner_product_param.axis, len(shapes[0]))
    return [shapes[0][:axis] + (layer.num_output,)]


def _concatenated(layer: Layer, shapes: Shapes) -> Shapes:
    first = shapes[0]
    axis = layer.axis(concat_axis(layer), len(first))
    around = {shape[:axis] + shape[axis + 1:] for shape in shapes if len(shape) == len(first)}
    if len(around) > 1 or any(len(shape) != len(first) for shape in shapes):
        raise layer.wrong(f"cannot join blobs of {', '.join(map(_text, shapes))} along axis {axis}; "
                          f"correct the prototxt")
    return [first[:axis] + (sum(shape[axis] for shape in shapes),) + first[axis + 1:]]


def _combined(layer: Layer, shapes: Shapes) -> Shapes:
    if len(set(shapes)) > 1:
        raise layer.wrong(f"cannot combine blobs of {', '.join(map(_text, shapes))}; correct the prototxt")
    return [shapes[0]]


def _flattened(layer: Layer, shapes: Shapes) -> Shapes:
    first, options = shapes[0], layer.proto.flatten_param
    start, stop = layer.axis(options.axis, len(first)), layer.axis(options.end_axis, len(first))
    return [first[:start] + (product(first[start:stop + 1]),) + first[stop + 1:]]


def _cropped(layer: Layer, shapes: Shapes) -> Shapes:
    if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
        raise layer.wrong("needs two blobs of as many axes, one to crop and one for the size; correct the prototxt")
    axis = layer.axis(layer.proto.crop_param.axis, len(shapes[0]))
    return [shapes[0][:axis] + shapes[1][axis:]]


def _sliced(layer: Layer, shapes: Shapes) -> Shapes:
    first, options = shapes[0], layer.proto.slice_param
    axis = layer.axis(options.axis if options.HasField("axis") else options.slice_dim, len(first))
    count = len(layer.outputs)
    points = list(options.slice_point) or [first[axis] * number // count for number in range(1, count)]
    edges = [0, *points, first[axis]]
    lengths = [after - before for before, after in zip(edges, edges[1:])]
    if len(lengths) != count or min(lengths) < 1:
        raise layer.wrong(f"cannot cut {first[axis]} elements of axis {axis} at {points} into {count} blobs; "
                          f"correct the prototxt")
    return [first[:axis] + (length,) + first[axis + 1:] for length in lengths]


def _reshaped(layer: Layer, shapes: Shapes) -> Shapes:
    """0 copies a length, -1 takes what is left."""
    shape, options = shapes[0], layer.proto.reshape_param
    start = options.axis if options.axis >= 0 else len(shape) + 1 + options.axis
    stop = len(shape) if options.num_axes == -1 else start + options.num_axes
    stated = [int(length) for length in options.shape.dim]
    wrong = layer.wrong(f"cannot make {_text(stated) or 'nothing'} of a blob of {_text(shape)}; correct the prototxt")
    if not 0 <= start <= stop <= len(shape) or min(stated, default=1) < -1 or stated.count(-1) > 1:
        raise wrong
    if any(length == 0 and start + number >= len(shape) for number, length in enumerate(stated)):
        raise wrong
    middle = [shape[start + number] if length == 0 else length for number, length in enumerate(stated)]
    if -1 in middle:
        known = product([length for length in middle if length != -1])
        middle[middle.index(-1)] = product(shape[start:stop]) // known
    if product(middle) != product(shape[start:stop]):
        raise wrong
    return [shape[:start] + tuple(middle) + shape[stop:]]


def _text(shape: Sequence[int]) -> str:
    return "x".join(str(length) for length in shape)


_RULES: Dict[str, Callable[[Layer, Shapes], Shapes]] = {
    **dict.fromkeys(ELEMENTWISE_TYPES, _same), **dict.fromkeys(LOSS_TYPES, _loss),
    "Split": _copies, "Silence": _copies, "Convolution": _convolved, "Deconvolution": _convolved, "Pooling": _pooled,
    "InnerProduct": _inner_product, "Concat": _concatenated, "Eltwise": _combined, "Flatten": _flattened,
    "Crop": _cropped, "Slice": _sliced, "Reshape": _reshaped,
}
_ONE_INPUT = (ELEMENTWISE_TYPES - {"Bias", "Scale"}) | {"Flatten", "InnerProduct", "Pooling", "Reshape", "Slice", "Split"}
KNOWN_TYPES = frozenset(_RULES)
"""Types of layers whose shapes are known; each reads a blob at least."""
TOPLESS_TYPES = LOSS_TYPES | {"Silence"}
"""Those of them that may go without a top."""

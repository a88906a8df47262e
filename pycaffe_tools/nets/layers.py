"""One layer of a net: its type, its window, and the shapes of what it makes.

Shape rules are Caffe 1.0's own, pooling windows clipped at the border included.
"""

from __future__ import annotations

import math
from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..base.errors import UserError

Shape = Tuple[int, ...]

# Layer types whose top has the shape of their bottom.
ELEMENTWISE_TYPES = frozenset(
    "AbsVal BNLL BatchNorm Bias Dropout ELU Exp LRN Log MVN PReLU Power ReLU Scale Sigmoid Softmax "
    "Swish TanH Threshold".split())
LOSS_TYPES = frozenset("Accuracy ContrastiveLoss EuclideanLoss HingeLoss InfogainLoss MultinomialLogisticLoss "
                       "SigmoidCrossEntropyLoss SoftmaxWithLoss".split())
DATA_TYPES = frozenset("Data DummyData HDF5Data ImageData Input MemoryData WindowData".split())


class Geometry(NamedTuple):
    """Window of a convolution or pooling, each pair (vertical, horizontal)."""

    kernel: Tuple[int, int]
    stride: Tuple[int, int] = (1, 1)
    pad: Tuple[int, int] = (0, 0)
    dilation: Tuple[int, int] = (1, 1)
    group: int = 1


class Value(NamedTuple):
    """One tensor of the net: top number ``top`` of layer ``layer`` (-1: a net input called ``blob``)."""

    layer: int
    top: int
    blob: str


class Layer:
    """One layer of a net in one phase.

    Attributes
    ----------
    proto : its LayerParameter.
    index : position among the net's layers, in the order of execution.
    inputs, outputs : the values it reads and makes.
    """

    def __init__(self, proto: Any, index: int, inputs: Sequence[Value], outputs: Sequence[Value]):
        self.proto = proto
        self.index = index
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def __repr__(self) -> str:
        return f"<{self.type} layer {self.name}>"

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.proto.name

    @property
    def type(self) -> str:
        """The layer's type as Caffe 1.0 writes it, such as ``InnerProduct``."""
        return self.proto.type

    @property
    def bottoms(self) -> Tuple[str, ...]:
        """Names of the blobs it reads."""
        return tuple(self.proto.bottom)

    @property
    def tops(self) -> Tuple[str, ...]:
        """Names of the blobs it writes."""
        return tuple(self.proto.top)

    @property
    def parameters(self) -> Any:
        """The type's own options, such as the ConvolutionParameter of a Convolution."""
        return {"Convolution": self.proto.convolution_param, "Deconvolution": self.proto.convolution_param,
                "InnerProduct": self.proto.inner_product_param, "Pooling": self.proto.pooling_param}[self.type]

    @property
    def is_parametric(self) -> bool:
        """Whether it is a convolution or an inner product, the layers whose outputs the paper calls features."""
        return self.type in ("Convolution", "InnerProduct")

    @property
    def num_output(self) -> int:
        """Number of outputs (features) of a convolution or an inner product."""
        return self.parameters.num_output

    @property
    def bias_term(self) -> bool:
        """Whether a convolution or an inner product has a bias."""
        return self.parameters.bias_term

    @property
    def pool(self) -> str:
        """``MAX``, ``AVE`` or ``STOCHASTIC``."""
        return ("MAX", "AVE", "STOCHASTIC")[self.proto.pooling_param.pool]

    @property
    def geometry(self) -> Geometry:
        """Window of a Convolution, Deconvolution or Pooling.

        Raises
        ------
        UserError : a convolution over other than two axes, or without a kernel size.
        """
        options = self.parameters
        if self.type == "Pooling":
            if options.global_pooling:
                raise UserError(f"layer {self.name}: global pooling has no fixed window; "
                                f"write its kernel size in the prototxt")
            return Geometry(self._pair(options, "kernel", 0), self._pair(options, "stride", 1),
                            self._pair(options, "pad", 0))
        return Geometry(self._pair(options, "kernel", 0), self._pair(options, "stride", 1),
                        self._pair(options, "pad", 0), self._repeated(options.dilation, 1), options.group)

    def _pair(self, options: Any, what: str, default: int) -> Tuple[int, int]:
        if options.HasField(f"{what}_h") or options.HasField(f"{what}_w"):
            return getattr(options, f"{what}_h"), getattr(options, f"{what}_w")
        value = getattr(options, "kernel_size" if what == "kernel" else what)
        values = [value] if isinstance(value, int) else value
        pair = self._repeated(values, default)
        if min(pair) < (0 if what == "pad" else 1):
            raise UserError(f"layer {self.name}: has no {what} size; correct its prototxt")
        return pair

    def _repeated(self, values: Sequence[int], default: int) -> Tuple[int, int]:
        if len(values) > 2:
            raise UserError(f"layer {self.name}: works on {len(values)} axes; only images (two axes) are supported")
        numbers = [int(value) for value in values] or [default]
        return numbers[0], numbers[-1]


def pooled_length(length: int, kernel: int, stride: int, pad: int = 0) -> int:
    """Number of pooling windows along an axis in Caffe 1.0: rounded up, the last one clipped at the border."""
    windows = math.ceil((length + 2 * pad - kernel) / stride) + 1
    if pad and (windows - 1) * stride >= length + pad:
        windows -= 1
    return windows


def output_shapes(layer: Layer, shapes: List[Shape]) -> List[Shape]:
    """Shapes of a layer's tops from those of its bottoms, by Caffe 1.0's arithmetic.

    Raises
    ------
    UserError : the shapes do not fit the layer, or its type is not understood.
    """
    first = shapes[0]
    if layer.type in ELEMENTWISE_TYPES:
        return [first]
    if layer.type in LOSS_TYPES:
        return [()] * len(layer.outputs)
    if layer.type in ("Split", "Silence"):
        return [first] * len(layer.outputs)
    if layer.type in ("Convolution", "Deconvolution"):
        return [_convolved(layer, shape) for shape in shapes]
    if layer.type == "Pooling":
        if layer.proto.pooling_param.global_pooling:
            return [first[:2] + (1, 1)]
        geometry = layer.geometry
        return [first[:2] + tuple(pooled_length(size, kernel, stride, pad) for size, kernel, stride, pad
                                  in zip(first[2:], geometry.kernel, geometry.stride, geometry.pad))]
    if layer.type == "InnerProduct":
        axis = layer.proto.inner_product_param.axis % len(first)
        return [first[:axis] + (layer.num_output,)]
    if layer.type == "Concat":
        axis = concat_axis(layer) % len(first)
        return [first[:axis] + (sum(shape[axis] for shape in shapes),) + first[axis + 1:]]
    if layer.type == "Eltwise":
        return [first]
    if layer.type == "Flatten":
        options = layer.proto.flatten_param
        start, stop = options.axis % len(first), options.end_axis % len(first)
        return [first[:start] + (product(first[start:stop + 1]),) + first[stop + 1:]]
    if layer.type == "Crop":
        axis = layer.proto.crop_param.axis % len(first)
        return [first[:axis] + shapes[1][axis:]]
    if layer.type == "Slice":
        options = layer.proto.slice_param
        axis = (options.axis if options.HasField("axis") else options.slice_dim) % len(first)
        points = list(options.slice_point) or [first[axis] * number // len(layer.outputs)
                                               for number in range(1, len(layer.outputs))]
        edges = [0] + points + [first[axis]]
        return [first[:axis] + (after - before,) + first[axis + 1:] for before, after in zip(edges, edges[1:])]
    if layer.type == "Reshape":
        return [_reshaped(layer, first)]
    raise UserError(f"layer {layer.name}: layers of type {layer.type} are not understood here; check how the type is "
                    f"written, such a net can only be run as a whole in Caffe")


def _convolved(layer: Layer, shape: Shape) -> Shape:
    """Shape of a convolution's or deconvolution's top, by Caffe's ``compute_output_shape``."""
    geometry = layer.geometry
    if len(shape) != 4:
        raise UserError(f"layer {layer.name}: needs an input of four axes, not {shape}; correct the prototxt")
    spatial = []
    for size, kernel, stride, pad, dilation in zip(shape[2:], geometry.kernel, geometry.stride, geometry.pad,
                                                   geometry.dilation):
        extent = dilation * (kernel - 1) + 1
        spatial.append(stride * (size - 1) + extent - 2 * pad if layer.type == "Deconvolution"
                       else (size + 2 * pad - extent) // stride + 1)
    if min(spatial) < 1:
        raise UserError(f"layer {layer.name}: its kernel is larger than its {shape[2]}x{shape[3]} input")
    if shape[1] % geometry.group or layer.num_output % geometry.group:
        raise UserError(f"layer {layer.name}: its {geometry.group} groups do not divide its {shape[1]} inputs and "
                        f"{layer.num_output} outputs; correct the prototxt")
    return (shape[0], layer.num_output) + tuple(spatial)


def _reshaped(layer: Layer, shape: Shape) -> Shape:
    """Shape of a Reshape layer's top: 0 copies a length, -1 takes what is left."""
    options = layer.proto.reshape_param
    start = options.axis if options.axis >= 0 else len(shape) + 1 + options.axis
    stop = len(shape) if options.num_axes == -1 else start + options.num_axes
    middle = [shape[start + number] if length == 0 else length for number, length in enumerate(options.shape.dim)]
    if -1 in middle:
        known = product([length for length in middle if length != -1])
        middle[middle.index(-1)] = product(shape[start:stop]) // known
    return shape[:start] + tuple(middle) + shape[stop:]


def concat_axis(layer: Layer) -> int:
    """Axis of a Concat layer."""
    options = layer.proto.concat_param
    return options.concat_dim if options.HasField("concat_dim") else options.axis


def product(numbers: Sequence[int]) -> int:
    """Product of whole numbers, 1 for none: the number of elements of a shape."""
    return int(np.prod(numbers, dtype=np.int64)) if len(numbers) else 1

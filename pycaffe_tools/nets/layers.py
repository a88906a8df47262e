"""One layer of a net: its type, its options and its window."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Sequence, Tuple

from ..base.errors import UserError
from ..base.ranges import Pair

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

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    group: int = 1
    rounds_down: bool = False
    """Of a pooling: only whole windows (``round_mode: FLOOR``), where Caffe 1.0 rounds their number up."""


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
        return str(self.proto.name)

    @property
    def type(self) -> str:
        """The layer's type as Caffe 1.0 writes it, such as ``InnerProduct``."""
        return str(self.proto.type)

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
        return int(self.parameters.num_output)

    @property
    def bias_term(self) -> bool:
        """Whether a convolution or an inner product has a bias."""
        return bool(self.parameters.bias_term)

    @property
    def pool(self) -> str:
        """``MAX``, ``AVE`` or ``STOCHASTIC``."""
        return ("MAX", "AVE", "STOCHASTIC")[self.proto.pooling_param.pool]

    @property
    def is_global_pooling(self) -> bool:
        """Whether it is a pooling over whole maps, whatever their size.

        Raises
        ------
        UserError : it also states a window, which Caffe refuses.
        """
        options = self.proto.pooling_param
        if self.type != "Pooling" or not options.global_pooling:
            return False
        stated = any(options.HasField(name) for name in ("kernel_size", "kernel_h", "kernel_w"))
        if stated or self._size("stride") != (1, 1) or self._size("pad") != (0, 0):
            raise self.wrong("has global_pooling, with which Caffe takes no kernel size, stride or padding; "
                             "correct its prototxt")
        return True

    @property
    def geometry(self) -> Geometry:
        """Window of a Convolution, Deconvolution or Pooling, as Caffe reads it.

        Raises
        ------
        UserError : Caffe would refuse it (a size of zero, ``kernel_size`` beside ``kernel_h``, padding as wide as a
            pooling window ...), a convolution over other than two axes, or a global pooling, which has no fixed window.
        """
        options = self.parameters
        if self.type != "Pooling":
            if options.axis not in (1, -3):
                raise self.wrong(f"counts its channels along axis {options.axis}, which is not supported; use axis 1")
            if not options.group:
                raise self.wrong("has group: 0; correct its prototxt")
            return Geometry(self._size("kernel"), self._size("stride"), self._size("pad"),
                            self._at_least_one("dilation", self._repeated(options.dilation, 1)), options.group)
        if self.is_global_pooling:
            raise self.wrong("global pooling has no fixed window; write its kernel size in the prototxt")
        # A field that only versions of Caffe after 1.0 know; 1 is FLOOR.
        rounds_down = getattr(options, "round_mode", 0) == 1
        window = Geometry(self._size("kernel"), self._size("stride"), self._size("pad"), rounds_down=rounds_down)
        if any(window.pad) and self.pool == "STOCHASTIC":
            raise self.wrong("pools at random with padding, which Caffe does not do; correct its prototxt")
        if any(pad >= kernel for pad, kernel in zip(window.pad, window.kernel)):
            raise self.wrong(f"has padding {window.pad[0]}x{window.pad[1]}, as wide as its {window.kernel[0]}x"
                             f"{window.kernel[1]} window or wider, which Caffe refuses; correct its prototxt")
        return window

    def wrong(self, what: str) -> UserError:
        """The error that says what is wrong with this layer."""
        return UserError(f"layer {self.name}: {what}")

    def _size(self, what: str) -> Pair:
        """``kernel``, ``stride`` or ``pad``: once for both axes, once an axis, or as ``_h`` and ``_w``."""
        options, name = self.parameters, "kernel_size" if what == "kernel" else what
        both = getattr(options, name)
        once = (both,) if isinstance(both, int) else tuple(both)
        stated = options.HasField(name) if isinstance(both, int) else bool(once)
        by_axis = [options.HasField(f"{what}_{axis}") for axis in "hw"]
        if any(by_axis):
            # Of convolutions Caffe takes an unstated one for zero, with poolings it wants both.
            if stated or (self.type == "Pooling" and not all(by_axis)):
                raise self.wrong(f"has to state its {what} either as {name} or as {what}_h and {what}_w; "
                                 f"correct its prototxt")
            found = getattr(options, f"{what}_h"), getattr(options, f"{what}_w")
        else:
            found = self._repeated(once, 1 if what == "stride" else 0)
        return found if what == "pad" else self._at_least_one(what, found)

    def _at_least_one(self, what: str, found: Pair) -> Pair:
        if min(found) < 1:
            raise self.wrong(f"has no {what} size; correct its prototxt")
        return found

    def _repeated(self, values: Sequence[int], default: int) -> Pair:
        if len(values) > 2:
            raise self.wrong(f"works on {len(values)} axes; only images (two axes) are supported")
        numbers = [int(value) for value in values] or [default]
        return numbers[0], numbers[-1]

    def axis(self, stated: int, axes: int) -> int:
        """Number of an axis counted from 0, where ``stated`` may count from the end.

        Raises
        ------
        UserError : there is no such axis among ``axes``.
        """
        if not -axes <= stated < axes:
            raise self.wrong(f"works on axis {stated}, but its input has {axes} axes; correct its prototxt")
        return stated % axes


def product(numbers: Sequence[int]) -> int:
    """Product of whole numbers, 1 for none: the number of elements of a shape."""
    return math.prod(int(number) for number in numbers)

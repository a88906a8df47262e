"""The dense plan as an ONNX graph of standard operators, laid out for fast processors.

ONNX Runtime keeps maps in a blocked layout (sixteen channels together) as long
as it meets nothing but convolutions, poolings, additions and ReLU on channel
counts it can block; each other operator costs two changes of layout.  So:

- Channels are filled up with features of weight zero to a multiple of 16.
- A map's first or last rows and columns are cut off by a depthwise convolution
  whose kernel has one element other than zero, not by Slice; it multiplies by -1 on the way where needed.
- max(a, b) is a + ReLU(b - a), exact to the last bit or so, not Max.
- Sums of channels in average pooling are depthwise convolutions too.

Adds and ReLUs stand right behind a convolution where possible, which runtimes
take into the convolution.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..base.ranges import Pair, pair
from ..nets.paper import MEMBRANE
from .steps import Combine, Convolve, DensePlan, Map, Operand, Pool, Rectify, Softmax

OPSET, IR_VERSION = 13, 7
"""Old enough for any runtime since 2021; nothing newer is needed."""

BLOCK = 16
"""Channel counts are multiples of this inside the net."""

Kernels = Mapping[str, Tuple[np.ndarray, np.ndarray]]


def dense_model(plan: DensePlan, kernels: Kernels, name: str, mirrored: Optional[Tuple[int, int]] = None) -> Any:
    """The plan as an ONNX model with free tile size.

    Parameters
    ----------
    plan, kernels : from :mod:`pycaffe_tools.dense_plan.plan` and :mod:`pycaffe_tools.dense_plan.kernels`.
    name : the graph's name.
    mirrored : pixels to add before and after the input along either axis,
        mirrored at its border as numpy's ``reflect`` does; with an engine's
        halo, the output is as large as the input.

    Returns
    -------
    ModelProto.  Input ``grey``: 1 x channels x (h + n - 1) x (w + n - 1) for
    patches of n x n (h x w if mirrored); output ``membrane``: 1 x 1 x h x w, float32.
    """
    return _Printer(plan, kernels).model(name, mirrored)


class _Printer:
    """Writes nodes step by step; ``_names`` says which tensor holds each map."""

    def __init__(self, plan: DensePlan, kernels: Kernels):
        import onnx
        self._onnx = onnx
        self._plan, self._kernels = plan, kernels
        self._nodes: List[Any] = []
        self._constants: Dict[str, np.ndarray] = {}
        self._names = {plan.input.name: "grey"}
        self._widths = {plan.input.name: plan.input.channels}
        self._count = 0

    def model(self, name: str, mirrored: Optional[Tuple[int, int]]) -> Any:
        helper, tensor_type = self._onnx.helper, self._onnx.TensorProto.FLOAT
        if mirrored is not None:
            pads = np.array([0, 0, mirrored[0], mirrored[0], 0, 0, mirrored[1], mirrored[1]], np.int64)
            self._names[self._plan.input.name] = self._node("Pad", ["grey", self._constant(pads)], mode="reflect")
        last = len(self._plan.steps) - 1
        for number, step in enumerate(self._plan.steps):
            if isinstance(step, Softmax) and number == last:
                self._names[step.out.name] = self._probability(step.source)
                self._widths[step.out.name] = 1
            else:
                self._step(step)
        self._nodes.append(helper.make_node("Identity", [self._names[self._plan.output.name]], ["membrane"]))
        sizes = ("rows", "columns") if mirrored is not None else ("tile_rows", "tile_columns")
        graph = helper.make_graph(
            self._nodes, name,
            [helper.make_tensor_value_info("grey", tensor_type, [1, self._plan.input.channels, "rows", "columns"])],
            [helper.make_tensor_value_info("membrane", tensor_type, [1, 1, *sizes])],
            [self._onnx.numpy_helper.from_array(array, key) for key, array in self._constants.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                 producer_name="pycaffe_tools")

    # -- steps -----------------------------------------------------------------------------------------------

    def _step(self, step: Any) -> None:
        out = step.out
        if isinstance(step, Convolve):
            kernel, bias = self._kernels[step.layer]
            piece = kernel[:, :, slice(*step.rows), slice(*step.columns)]
            name = self._convolution(step.source, piece, bias if step.bias else None, step.spacing,
                                     (step.rows[0] * step.spacing[0], step.columns[0] * step.spacing[1]), out)
            self._widths[out.name] = self._filled(out.channels)
        elif isinstance(step, Pool):
            name = self._pool(step)
            self._widths[out.name] = self._widths[step.source.name]
        elif isinstance(step, Combine):
            self._widths[out.name] = self._widths[step.operands[0].source.name]
            name = (self._sum if step.kind == "SUM" else self._maximum)(step)
        elif isinstance(step, Rectify):
            name = self._node("Relu", [self._names[step.source.name]])
            self._widths[out.name] = self._widths[step.source.name]
        else:
            # Channels filled up with zeros have no place in a softmax.
            name = self._node("Softmax", [self._channels(step.source)], axis=1)
            self._widths[out.name] = out.channels
        self._names[out.name] = name

    def _convolution(self, source: Map, kernel: np.ndarray, bias: Optional[np.ndarray], spacing: Sequence[int],
                     offset: Tuple[int, int], out: Map) -> str:
        outputs, inputs = kernel.shape[:2]
        filled = np.zeros((self._filled(outputs), self._widths[source.name]) + kernel.shape[2:], np.float32)
        filled[:outputs, :inputs] = kernel
        before = [source.start[axis] - offset[axis] - out.start[axis] for axis in (0, 1)]
        after = [out.reach[axis] + offset[axis] + spacing[axis] * (kernel.shape[2 + axis] - 1) - source.reach[axis]
                 for axis in (0, 1)]
        name = self._names[source.name]
        if min(before + after) < 0:
            cut = Map("", source.channels, pair(max(0, -b) + s for b, s in zip(before, source.start)),
                      pair(r + min(0, a) for a, r in zip(after, source.reach)))
            name = self._read(Operand(source), cut)
        inputs_of_node = [name, self._constant(filled)]
        if bias is not None:
            padded = np.zeros(filled.shape[0], np.float32)
            padded[:outputs] = bias
            inputs_of_node.append(self._constant(padded))
        return self._node("Conv", inputs_of_node, kernel_shape=kernel.shape[2:], dilations=spacing,
                          pads=[max(0, pad) for pad in before + after])

    def _pool(self, step: Pool) -> str:
        beyond = [step.out.reach[axis] + step.spacing[axis] * (step.window[axis] - 1) - step.source.reach[axis]
                  for axis in (0, 1)]
        channels, name = self._widths[step.source.name], self._names[step.source.name]
        if min(beyond) < 0:
            # A pooling that rounds down leaves the last rows or columns of its input unread.
            needed = step.source._replace(reach=pair(min(each, each + more) for each, more
                                                     in zip(step.source.reach, beyond)))
            name, beyond = self._read(Operand(step.source), needed), [max(0, each) for each in beyond]
        if step.kind == "SUM":
            return self._node("Conv", [name, self._constant(
                np.full((channels, 1) + step.window, step.scale, np.float32))], kernel_shape=step.window,
                dilations=step.spacing, pads=[0, 0] + beyond, group=channels)
        if any(pad >= window for pad, window in zip(beyond, step.window)):
            # Runtimes refuse a pooling that is padded by its window or more.
            name = self._node("Conv", [name, self._constant(np.ones((channels, 1, 1, 1), np.float32))],
                              kernel_shape=[1, 1], pads=[0, 0] + beyond, group=channels)
            beyond = [0, 0]
        return self._node("MaxPool", [name], kernel_shape=step.window, dilations=step.spacing, pads=[0, 0] + beyond)

    def _sum(self, step: Combine) -> str:
        """Operands that need work on the way go through a depthwise convolution, each with the sum so far added."""
        plain = [operand for operand in step.operands if self._is_plain(operand, step.out)]
        others = [operand for operand in step.operands if operand not in plain]
        first, *rest = plain + others
        total = self._read(first, step.out)
        for operand in rest:
            total = self._node("Add", [self._read(operand, step.out), total])
        return total

    def _maximum(self, step: Combine) -> str:
        first, second = step.operands if len(step.operands) == 2 else (step.operands[0], step.operands[0])
        if len(step.operands) == 1:
            return self._read(first, step.out)
        if self._is_plain(first, step.out):
            first, second = second, first
        # first may need cutting, second hopefully not: max = second + ReLU(first - second).
        negative = self._read(second._replace(coefficient=-1.0), step.out)
        excess = self._node("Relu", [self._node("Add", [self._read(first, step.out), negative])])
        return self._node("Add", [self._read(second, step.out), excess])

    # -- pieces ----------------------------------------------------------------------------------------------

    def _is_plain(self, operand: Operand, out: Map) -> bool:
        return operand.coefficient == 1 and not any(sum(self._cut(operand, out), ()))

    @staticmethod
    def _cut(operand: Operand, out: Map) -> Tuple[Pair, Pair]:
        """Rows and columns to cut off before and after, to have the operand at the positions of ``out``."""
        before = pair(out.start[axis] + operand.offset[axis] - operand.source.start[axis] for axis in (0, 1))
        after = pair(operand.source.reach[axis] - operand.offset[axis] - out.reach[axis] for axis in (0, 1))
        return before, after

    def _read(self, operand: Operand, out: Map) -> str:
        """The tensor of an operand at the positions of ``out``, times its coefficient."""
        name = self._names[operand.source.name]
        if self._is_plain(operand, out):
            return name
        channels = self._widths[operand.source.name]
        before, after = self._cut(operand, out)
        shape, dilations, tap = [], [], []
        for axis in (0, 1):
            dilation = math.gcd(before[axis], after[axis]) or 1
            shape.append((before[axis] + after[axis]) // dilation + 1)
            dilations.append(dilation)
            tap.append(before[axis] // dilation)
        kernel = np.zeros((channels, 1, shape[0], shape[1]), np.float32)
        kernel[:, 0, tap[0], tap[1]] = operand.coefficient
        return self._node("Conv", [name, self._constant(kernel)], kernel_shape=shape, dilations=dilations,
                          group=channels)

    def _probability(self, logits: Map) -> str:
        """Probability of membrane: for two classes the logistic function of the difference, which needs no softmax."""
        if logits.channels != 2:
            softmax = self._node("Softmax", [self._channels(logits)], axis=1)
            return self._node("Slice", [softmax] + [self._constant(np.array([at], np.int64))
                                                    for at in (MEMBRANE, MEMBRANE + 1, 1)])
        kernel = np.zeros((1, self._widths[logits.name], 1, 1), np.float32)
        kernel[0, MEMBRANE], kernel[0, 1 - MEMBRANE] = 1, -1
        difference = self._node("Conv", [self._names[logits.name], self._constant(kernel)], kernel_shape=[1, 1])
        return self._node("Sigmoid", [difference])

    def _channels(self, source: Map) -> str:
        return self._node("Slice", [self._names[source.name]] + [
            self._constant(np.array([at], np.int64)) for at in (0, source.channels, 1)])

    @staticmethod
    def _filled(channels: int) -> int:
        return -(-channels // BLOCK) * BLOCK

    def _constant(self, array: np.ndarray) -> str:
        self._constants[f"constant_{len(self._constants)}"] = np.ascontiguousarray(array)
        return f"constant_{len(self._constants) - 1}"

    def _node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        self._count += 1
        out = f"{kind.lower()}_{self._count}"
        attributes = {key: [int(number) for number in value] if isinstance(value, (tuple, list)) else value
                      for key, value in attributes.items()}
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

"""The exact dense plan of a patch net.

A net that classifies the centre of an n x n patch can be evaluated for a whole
tile at once: neighbouring patches share nearly all of their maps.  A map
element with index i in the patch that starts at position x lies at the dense
position x + s i, where s is the product of the pooling strides before it, so
one dense map (windows spread out by s) holds that element for every patch.

That is exact only where an element has the same value in every patch.  Caffe
rounds the number of pooling windows *up* and clips the last one at the patch's
border, so the last element along an axis may differ: it is an *edge* variant.
Convolutions and poolings hand the difference on, always to their last element
alone.  So a map has up to four variants, told apart by a flag per axis
(0 interior, 1 edge), and this module follows them:

- *Convolution* is linear, so it acts on differences.  With interior i, right
  edge r, bottom edge b, corner c, a k x k kernel is applied whole to i, its
  last column to r - i, its last row to b - i and its last tap to the mixed
  difference c - b - r + i; sums of the four give the four variants.  That takes
  (k + 1)^2 taps, where four separate convolutions would take 4 k^2.
- *Pooling* along one axis at a time: a window that holds the last element takes
  it from the edge variant and the others from the interior.

The result is a :class:`pycaffe_tools.dense_plan.steps.DensePlan`: steps without loops or
conditions that know nothing of an engine; printers beside this module write it
for ONNX Runtime and for stock Caffe.

Dense evaluation without clipped windows: A. Giusti et al., ICIP 2013; H. Li et
al., arXiv:1412.4526; F. Tschopp, arXiv:1509.03371.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Type, Union

from ..base.errors import UserError
from ..base.ranges import Pair, pair
from ..nets.classifier import lacks_softmax
from ..nets.layers import Geometry, Layer
from ..nets.netgraph import NetGraph
from ..nets.shapes import pooled_size
from .steps import Combine, Convolve, DensePlan, Map, Operand, Pool, Rectify, Softmax, Step, sources

Variant = Tuple[int, int]

_INTERIOR: Variant = (0, 0)
_SUFFIX = {(0, 0): "", (0, 1): "_right", (1, 0): "_bottom", (1, 1): "_corner"}


def make_plan(graph: NetGraph, exact: bool = True) -> DensePlan:
    """The exact dense plan of a chain net.

    Parameters
    ----------
    graph : convolutions (stride 1, no padding), ReLU, maximum and average
        pooling (no padding), inner products, a Softmax, and Dropout, which does
        nothing; its output is one pixel for a patch.  If it ends in scores, the
        plan ends in a Softmax all the same.
    exact : False gives the usual dense net, which takes clipped windows for
        whole ones and so has wrong values; a yardstick for what exactness costs.

    Raises
    ------
    UserError : names the layer that is not of that kind.
    """
    chain = graph.chain()
    shape = graph.input_shape(chain[0])
    if len(shape) != 4:
        raise UserError(f"layer {chain[0].name}: the net's input has {len(shape)} axes, where dense evaluation needs "
                        f"batch, channels, rows and columns; use --mode patch")
    planner = _Planner(shape[1], (shape[2], shape[3]), exact)
    for layer in chain:
        planner.add(layer)
    if planner.size != (1, 1):
        raise UserError(f"layer {chain[-1].name}: the net ends in {planner.size[0]}x{planner.size[1]} values for a "
                        f"patch, where dense evaluation needs one; use --mode patch")
    if lacks_softmax(graph):
        planner.add_softmax()
    output = planner.variants[_INTERIOR]
    return DensePlan(graph.name, (shape[2], shape[3]), planner.input, output, tuple(_needed(planner.steps, output)),
                     planner.spacing, planner.first_stride)


class _Planner:
    """Follows the variants of one map after the other along the chain.

    Attributes
    ----------
    size : elements of the current map in a patch, along each axis.
    spacing : distance of neighbouring elements in dense positions.
    edge : whether the last element along each axis is an edge variant.
    variants : the dense map of each variant; along an axis without edge only 0.
    """

    def __init__(self, channels: int, patch: Pair, exact: bool = True):
        self.size = patch
        self._exact = exact
        self.spacing: Pair = (1, 1)
        self.first_stride: Pair = (1, 1)
        self.edge = (False, False)
        self.channels = channels
        self.steps: List[Step] = []
        self._pooled = False
        self.input = Map("data", channels, (0, 0), self.reach)
        self.variants: Dict[Variant, Map] = {_INTERIOR: self.input}

    @property
    def reach(self) -> Pair:
        """How far all variants of the current map reach beyond the tile."""
        return pair(spacing * (size - 1) for spacing, size in zip(self.spacing, self.size))

    def add(self, layer: Layer) -> None:
        """Plan one more layer."""
        if layer.type == "Convolution":
            self._convolve(layer, *_convolution(layer))
        elif layer.type == "InnerProduct":
            _check_inner_product(layer)
            self._convolve(layer, self.size, (1, 1))
        elif layer.type == "Pooling":
            self._pool(layer)
        elif layer.type == "ReLU":
            if layer.proto.relu_param.negative_slope:
                raise UserError(f"layer {layer.name}: a ReLU with a negative slope is not supported by dense "
                                f"evaluation; use --mode patch")
            self._each(layer.name, Rectify)
        elif layer.type == "Softmax":
            self._each(layer.name, Softmax)
        elif layer.type != "Dropout":
            raise UserError(f"layer {layer.name}: layers of type {layer.type} are not supported by dense evaluation; "
                            f"use --mode patch")
        self._forget_interiors()

    def _forget_interiors(self) -> None:
        # The only element along an axis is the last one: nothing but its edge variant is left.
        for axis in (0, 1):
            if self.size[axis] == 1 and self.edge[axis]:
                kept = {variant: each for variant, each in self.variants.items() if variant[axis]}
                self.variants = {(variant[0] * axis, variant[1] * (1 - axis)): each for variant, each in kept.items()}
                self.edge = (self.edge[0] and axis != 0, self.edge[1] and axis != 1)

    def _map(self, name: str, channels: int, start: Pair = (0, 0), reach: Optional[Pair] = None) -> Map:
        return Map(name, channels, start, self.reach if reach is None else reach)

    def add_softmax(self) -> None:
        """Plan a Softmax that is no layer of the net."""
        self._each("added_softmax", Softmax)

    def _each(self, name: str, kind: Union[Type[Rectify], Type[Softmax]]) -> None:
        made = {}
        for variant, source in self.variants.items():
            made[variant] = self._map(name + _SUFFIX[variant], self.channels)
            self.steps.append(kind(made[variant], source))
        self.variants = made

    # -- convolution -----------------------------------------------------------------------------------------

    def _convolve(self, layer: Layer, kernel: Pair, dilation: Pair) -> None:
        """Apply a kernel to interior and differences, then add up what makes each variant.

        Along an axis where the kernel has one element nothing is shared, and the variants are convolved as they are.
        """
        spacing = (self.spacing[0] * dilation[0], self.spacing[1] * dilation[1])
        differ = [self.edge[axis] and kernel[axis] > 1 for axis in (0, 1)]
        parts = self._differences(layer, differ, tuple(spacing[axis] * (kernel[axis] - 1) for axis in (0, 1)))
        self.size = pair(self.size[axis] - dilation[axis] * (kernel[axis] - 1) for axis in (0, 1))
        self.channels = layer.num_output
        made: Dict[Variant, Map] = {}
        for variant, source in sorted(parts.items()):
            partial = any(differ[axis] and variant[axis] for axis in (0, 1))
            taps = [(kernel[axis] - 1 if differ[axis] and variant[axis] else 0, kernel[axis]) for axis in (0, 1)]
            made[variant] = self._map(layer.name + _SUFFIX[variant] + ("_part" if partial else ""), self.channels)
            self.steps.append(Convolve(made[variant], source, layer.name, taps[0], taps[1], spacing, not partial))
        self.variants = self._sums(layer, differ, made)

    def _differences(self, layer: Layer, differ: Sequence[bool], skip: Tuple[int, ...]) -> Dict[Variant, Map]:
        """Interior, and for each edge its difference from it; ``skip`` positions at the start are not needed."""
        result = dict(self.variants)
        for (row, column), edge in sorted(self.variants.items()):
            across, down = differ[1] and column == 1, differ[0] and row == 1
            operands = [Operand(edge)]
            if across:
                operands.append(Operand(self.variants[row, 0], coefficient=-1.0))
            if down:
                # Its counterpart one row variant up is a difference already if it is one along the columns.
                operands.append(Operand(result[0, column], coefficient=-1.0))
            if len(operands) > 1:
                start = (skip[0] if down else 0, skip[1] if across else 0)
                result[row, column] = self._map(f"{layer.name}{_SUFFIX[row, column]}_difference", edge.channels, start)
                self.steps.append(Combine(result[row, column], tuple(operands), "SUM"))
        return result

    def _sums(self, layer: Layer, differ: Sequence[bool], parts: Dict[Variant, Map]) -> Dict[Variant, Map]:
        result = dict(parts)
        for (row, column), part in sorted(parts.items()):
            across, down = differ[1] and column == 1, differ[0] and row == 1
            operands = [Operand(part)]
            if across:
                operands.append(Operand((parts if down else result)[row, 0]))
            if down:
                operands.append(Operand(result[0, column]))
            if len(operands) > 1:
                result[row, column] = self._map(layer.name + _SUFFIX[row, column], self.channels)
                self.steps.append(Combine(result[row, column], tuple(operands), "SUM"))
        return result

    # -- pooling ---------------------------------------------------------------------------------------------

    def _pool(self, layer: Layer) -> None:
        """Reduce along the columns, then along the rows; windows without edge elements in one step."""
        geometry = _pooling(layer)
        window, stride = geometry.kernel, geometry.stride
        counts = pooled_size(self.size, geometry)
        if min(counts) < 1:
            raise UserError(f"layer {layer.name}: its pooling window is larger than its input by so much that "
                            f"Caffe refuses it; correct the prototxt")
        # What is left for the last window, from its first element to the end of the input.
        left = [self.size[axis] - stride[axis] * (counts[axis] - 1) for axis in (0, 1)]
        if min(left) < 1:
            raise UserError(f"layer {layer.name}: its last pooling window starts outside its input, which dense "
                            f"evaluation does not support; use --mode patch")
        clipped = [min(window[axis], left[axis]) for axis in (0, 1)]
        # Where windows are rounded down, the last one may end before the edge element: then the edge is gone.
        old_edge = [self.edge[axis] and window[axis] >= left[axis] for axis in (0, 1)]
        old_spacing = self.spacing
        down, across = (self._exact and (old_edge[axis] or clipped[axis] < window[axis]) for axis in (0, 1))
        self.edge = (down, across)
        self.spacing = pair(self.spacing[axis] * stride[axis] for axis in (0, 1))
        self.size = pair(counts)
        if not self._pooled:
            self.first_stride, self._pooled = stride, True
        kind = "MAX" if layer.pool == "MAX" else "SUM"
        pieces = _Pieces(self, layer.name, old_spacing, kind)
        made = {}
        # The edges' windows are smaller; made first, they can be gone on with.
        for row in reversed(range(1 + self.edge[0])):
            for column in reversed(range(1 + self.edge[1])):
                variant = (row, column)
                taps = [clipped[axis] if variant[axis] else window[axis] for axis in (0, 1)]
                scale = 1.0 if kind == "MAX" else 1.0 / (taps[0] * taps[1])
                made[variant] = pieces.make(variant, taps, (old_edge[0] and row == 1, old_edge[1] and column == 1),
                                            scale, self.variants)
        self.variants = made


class _Pieces:
    """The poolings of one layer, each made once."""

    def __init__(self, planner: _Planner, layer: str, spacing: Pair, kind: str):
        self._planner, self._layer, self._spacing, self._kind = planner, layer, spacing, kind
        self._across: Dict[Tuple[int, int], Map] = {}

    def make(self, variant: Variant, taps: Sequence[int], last_is_edge: Tuple[bool, bool], scale: float,
             source: Mapping[Variant, Map]) -> Map:
        """The window of one variant: ``taps`` elements, of which the last along each axis may be an edge variant."""
        name = self._layer + _SUFFIX[variant]
        if not last_is_edge[0]:
            rows, columns = self._columns(0, taps[1], last_is_edge[1], source)
            return self._pool(name, rows, (taps[0], columns), scale, self._planner.reach)
        below, columns = self._columns(1, taps[1], last_is_edge[1], source)
        last = self._pool(name + "_last", below, (1, columns), 1.0) if columns > 1 else below
        operands = [Operand(last, (self._spacing[0] * (taps[0] - 1), 0), scale)]
        if taps[0] > 1:
            above, columns = self._columns(0, taps[1], last_is_edge[1], source)
            operands.insert(0, Operand(self._pool(name + "_others", above, (taps[0] - 1, columns), 1.0), (0, 0), scale))
        return self._combine(name, operands, self._planner.reach)

    def _columns(self, row: int, taps: int, last_is_edge: bool, source: Mapping[Variant, Map]) -> Tuple[Map, int]:
        """A map and the number of its columns that are still to be pooled to have ``taps`` columns of row variant."""
        if not last_is_edge:
            return source[row, 0], taps
        if (row, taps) not in self._across:
            name = f"{self._layer}{_SUFFIX[row, 1]}_across"
            edge = source[row, 1]
            operands = [Operand(edge, (0, self._spacing[1] * (taps - 1)))]
            if taps > 1:
                operands.insert(0, Operand(self._pool(name + "_others", source[row, 0], (1, taps - 1), 1.0)))
            self._across[row, taps] = self._combine(name, operands, (edge.reach[0], self._planner.reach[1]))
        return self._across[row, taps], 1

    def _pool(self, name: str, source: Map, window: Pair, scale: float, reach: Optional[Pair] = None) -> Map:
        if reach is None:
            if window == (1, 1):
                return source
            # As far as whole windows go; along the columns, where a clipped window may come last, to the end.
            reach = pair(source.reach[axis] - self._spacing[axis] * (window[axis] - 1) for axis in (0, 1))
            reach = reach[0], max(reach[1], self._planner.reach[1])
        out = Map(name, source.channels, source.start, reach)
        self._planner.steps.append(Pool(out, source, window, self._spacing, self._kind, scale))
        return out

    def _combine(self, name: str, operands: Sequence[Operand], reach: Pair) -> Map:
        out = Map(name, operands[0].source.channels, (0, 0), reach)
        self._planner.steps.append(Combine(out, tuple(operands), self._kind))
        return out


def _needed(steps: Sequence[Step], output: Map) -> List[Step]:
    """The steps that the output depends on, in their order."""
    needed, kept = {output.name}, []
    for step in reversed(steps):
        if step.out.name in needed:
            needed.update(source.name for source in sources(step))
            kept.append(step)
    return kept[::-1]


def _convolution(layer: Layer) -> Tuple[Pair, Pair]:
    geometry = layer.geometry
    if geometry.stride != (1, 1) or geometry.pad != (0, 0):
        what = "a stride" if geometry.stride != (1, 1) else "padding"
        raise UserError(f"layer {layer.name}: a convolution with {what} is not supported by dense evaluation; "
                        f"use --mode patch")
    return geometry.kernel, geometry.dilation


def _pooling(layer: Layer) -> Geometry:
    geometry = layer.geometry
    if geometry.pad != (0, 0) or layer.pool == "STOCHASTIC":
        what = "with padding" if geometry.pad != (0, 0) else "at random"
        raise UserError(f"layer {layer.name}: pooling {what} is not supported by dense evaluation; use --mode patch")
    return geometry


def _check_inner_product(layer: Layer) -> None:
    options = layer.proto.inner_product_param
    if options.transpose or options.axis != 1:
        raise UserError(f"layer {layer.name}: an inner product with a transposed weight or another axis is not "
                        f"supported by dense evaluation; use --mode patch")

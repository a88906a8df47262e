"""The dense plan as a prototxt that stock Caffe 1.0 runs, with its blobs cut from the trained ones.

Caffe has no dilated pooling, so the first pooling's offsets go to the batch
axis: with stride 2 the net sees the tile four times, shifted by 0 or 1 row and
column, and each of these *fragments* is pooled with the stride.  From there on
a fragment's neighbours are as far apart as the pooling has made them, and the
second pooling needs no dilation; those behind it are maxima of shifted maps.
The first convolution is computed once for each fragment, which is cheap for a
net whose input has one channel.

The net's input and output are those of a plain dense net nevertheless: Crop and
Concat make the fragments, and a Deconvolution with kernels of one element puts
their pixels back between each other.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..caffe_schema import schema
from ..dense import Combine, Convolve, Map, Operand, Pair, Plan, Pool, Rectify, Softmax, sources
from . import MEMBRANE

Kernels = Mapping[str, Tuple[np.ndarray, np.ndarray]]

OUTPUT = "membrane"
"""Name of the net's output blob."""


def dense_net(plan: Plan, tile: Pair) -> Any:
    """The plan as a NetParameter for tiles of one size.

    Parameters
    ----------
    plan : from :func:`pycaffe_tools.dense.make_plan`.
    tile : rows and columns of output, multiples of ``plan.first_stride``.

    Returns
    -------
    NetParameter with input ``data``, 1 x channels x (h + n - 1) x (w + n - 1) for patches of
    n x n, and output ``membrane``, 1 x 1 x h x w.
    """
    return _Printer(plan, tile).proto


def dense_weights(plan: Plan, kernels: Kernels) -> Dict[str, List[np.ndarray]]:
    """Blobs of :func:`dense_net` by layer name, cut from the patch net's ``kernels``."""
    blobs = {}
    for step in plan.steps:
        if isinstance(step, Convolve):
            kernel, bias = kernels[step.layer]
            piece = np.ascontiguousarray(kernel[:, :, slice(*step.rows), slice(*step.columns)])
            blobs[step.out.name] = [piece] + ([bias] if step.bias else [])
    rows, columns = plan.first_stride
    blobs[OUTPUT] = [np.eye(rows * columns, dtype=np.float32).reshape(-1, 1, rows, columns)]
    return blobs


class _Printer:
    """Writes layers step by step.

    ``_blobs`` holds the blob of each map; ``_owed`` what a map still has to be
    multiplied by (Caffe's average pooling divides where the plan only adds up).
    """

    def __init__(self, plan: Plan, tile: Pair):
        self._plan, self._tile, self._stride = plan, tile, plan.first_stride
        self.proto = schema().NetParameter(name=f"{plan.net}_dense")
        self._blobs: Dict[str, str] = {}
        self._owed: Dict[str, float] = {}
        self._pooled = {plan.input.name: False}
        self._sizes: Dict[Pair, str] = {}
        self._readers: Dict[str, int] = {}
        self._fresh = 0
        for step in plan.steps:
            for source in sources(step):
                self._readers[source.name] = self._readers.get(source.name, 0) + 1
        self._fragments()
        for step in plan.steps:
            self._step(step)
        self._interleave()

    def _fragments(self) -> None:
        source = self._plan.input
        rows, columns = (side + reach for side, reach in zip(self._tile, source.reach))
        self._layer("data", "Input", [], "data").input_param.shape.add(dim=[1, source.channels, rows, columns])
        pieces = [self._crop("data", (row, column), self._size(source))
                  for row in range(self._stride[0]) for column in range(self._stride[1])]
        if len(pieces) > 1:
            self._layer("fragments", "Concat", pieces, "fragments").concat_param.axis = 0
            self._blobs[source.name] = "fragments"
        else:
            self._blobs[source.name] = pieces[0]

    def _interleave(self) -> None:
        """From fragments x classes x rows x columns to one map of the tile."""
        output = self._plan.output
        tops = [f"class_{number}" for number in range(output.channels)]
        self._layer("classes", "Slice", [self._blobs[output.name]], tops).slice_param.axis = 1
        fragments = self._stride[0] * self._stride[1]
        rows, columns = self._size(output)
        self._layer("side_by_side", "Reshape", [tops[MEMBRANE]], "side_by_side").reshape_param.shape.dim.extend(
            [1, fragments, rows, columns])
        options = self._layer(OUTPUT, "Deconvolution", ["side_by_side"], OUTPUT).convolution_param
        options.num_output, options.bias_term = 1, False
        options.kernel_h, options.kernel_w = options.stride_h, options.stride_w = self._stride

    # -- steps -----------------------------------------------------------------------------------------------

    def _step(self, step: Any) -> None:
        out = step.out
        self._pooled[out.name] = self._pooled[sources(step)[0].name] or isinstance(step, Pool)
        self._blobs[out.name] = out.name
        if isinstance(step, Convolve):
            self._convolve(step)
        elif isinstance(step, Pool):
            self._pool(step)
        elif isinstance(step, Combine):
            self._combine(out.name, [self._read(operand, out) for operand in step.operands],
                          [operand.coefficient * self._owed.get(operand.source.name, 1.0)
                           for operand in step.operands], step.kind)
        elif isinstance(step, Rectify):
            # In place where nobody else reads what came before.
            if self._readers[step.source.name] == 1:
                self._blobs[out.name] = self._blobs[step.source.name]
            self._layer(out.name, "ReLU", [self._blobs[step.source.name]], self._blobs[out.name])
        else:
            assert isinstance(step, Softmax)
            self._layer(out.name, "Softmax", [self._blobs[step.source.name]], out.name)

    def _convolve(self, step: Convolve) -> None:
        spacing = self._scaled(step.spacing, step.source)
        window = (step.rows[1] - step.rows[0], step.columns[1] - step.columns[0])
        offset = (step.rows[0] * step.spacing[0], step.columns[0] * step.spacing[1])
        reach = tuple(step.out.reach[axis] + step.spacing[axis] * (window[axis] - 1) for axis in (0, 1))
        source = self._read(Operand(step.source, offset), step.out._replace(reach=reach))  # type: ignore
        options = self._layer(step.out.name, "Convolution", [source], step.out.name).convolution_param
        options.num_output, options.bias_term = step.out.channels, step.bias
        options.kernel_h, options.kernel_w = window
        if spacing != (1, 1):
            options.dilation.extend(spacing)

    def _pool(self, step: Pool) -> None:
        spacing = self._scaled(step.spacing, step.source)
        first = not self._pooled[step.source.name]
        if not first and spacing != (1, 1):
            self._pool_spread_out(step, spacing)
            return
        source = self._blobs[step.source.name]
        if not first:
            have, want = self._size(step.source), self._size(step.out)
            source = self._extend(source, have, (want[0] + step.window[0] - 1, want[1] + step.window[1] - 1))
        options = self._layer(step.out.name, "Pooling", [source], step.out.name).pooling_param
        options.kernel_h, options.kernel_w = step.window
        if first:
            options.stride_h, options.stride_w = self._stride
        if step.kind == "SUM":
            options.pool = 1
            self._owed[step.out.name] = step.scale * step.window[0] * step.window[1]
            self._settle(step.out)

    def _pool_spread_out(self, step: Pool, spacing: Pair) -> None:
        """A pooling whose elements are apart: along one axis after the other, of shifted maps."""
        blob, size = self._blobs[step.source.name], self._size(step.source)
        want = self._size(step.out)
        for axis in (0, 1):
            count = step.window[axis]
            if count == 1:
                continue
            length = list(size)
            length[axis] = want[axis] + spacing[axis] * (count - 1)
            blob = self._extend(blob, size, tuple(length))  # type: ignore
            size = tuple(want[axis] if each == axis else size[each] for each in (0, 1))  # type: ignore
            shifted = []
            for number in range(count):
                offset = [0, 0]
                offset[axis] = number * spacing[axis]
                shifted.append(self._crop(blob, tuple(offset), size))  # type: ignore
            name = step.out.name if axis == 1 or step.window[1] == 1 else step.out.name + "_down"
            self._combine(name, shifted, [step.scale if name == step.out.name else 1.0] * count, step.kind)
            blob = name

    def _settle(self, out: Map) -> None:
        """Pay what is owed at once where the reader is no sum that can do it."""
        readers = [step for step in self._plan.steps if out in sources(step)]
        if self._owed[out.name] != 1.0 and not all(isinstance(step, Combine) for step in readers):
            name = out.name + "_scaled"
            self._layer(name, "Power", [self._blobs[out.name]], name).power_param.scale = self._owed.pop(out.name)
            self._blobs[out.name] = name

    # -- pieces ----------------------------------------------------------------------------------------------

    def _scaled(self, distance: Pair, source: Map) -> Pair:
        """A distance of dense positions in elements of the fragment."""
        if not self._pooled[source.name]:
            return distance
        return distance[0] // self._stride[0], distance[1] // self._stride[1]

    def _size(self, each: Map) -> Pair:
        """Rows and columns of a map in one fragment."""
        whole = [self._tile[axis] + each.reach[axis] - each.start[axis] for axis in (0, 1)]
        if self._pooled[each.name]:
            return whole[0] // self._stride[0], whole[1] // self._stride[1]
        # The last fragment starts a stride less one further on, and all are of one size.  So the first pooling's
        # last window is clipped just as the patch's is, and no used window.
        return whole[0] - self._stride[0] + 1, whole[1] - self._stride[1] + 1

    def _read(self, operand: Operand, out: Map) -> str:
        """The blob of an operand at the positions of ``out``."""
        source = operand.source
        skip = (out.start[0] + operand.offset[0] - source.start[0], out.start[1] + operand.offset[1] - source.start[1])
        size = self._size(out._replace(name=source.name))
        if skip == (0, 0) and size == self._size(source):
            return self._blobs[source.name]
        return self._crop(self._blobs[source.name], self._scaled(skip, source), size)

    def _crop(self, blob: str, offset: Pair, size: Pair) -> str:
        if size not in self._sizes:
            self._sizes[size] = f"size_{size[0]}x{size[1]}"
            self._layer(self._sizes[size], "Input", [], self._sizes[size]).input_param.shape.add(
                dim=[1, 1, size[0], size[1]])
        self._fresh += 1
        name = f"crop_{self._fresh}"
        options = self._layer(name, "Crop", [blob, self._sizes[size]], name).crop_param
        options.axis = 2
        options.offset.extend(offset)
        return name

    def _extend(self, blob: str, have: Pair, want: Pair) -> str:
        """Repeat rows and columns at the end, for windows whose values are not used, until there are enough."""
        have = tuple(have)  # type: ignore
        for axis in (0, 1):
            while have[axis] < want[axis]:
                length = min(have[axis], want[axis] - have[axis])
                piece = tuple(length if each == axis else have[each] for each in (0, 1))
                end = self._crop(blob, (0, 0), piece)  # type: ignore
                self._fresh += 1
                name = f"longer_{self._fresh}"
                self._layer(name, "Concat", [blob, end], name).concat_param.axis = 2 + axis
                blob = name
                have = tuple(have[each] + (length if each == axis else 0) for each in (0, 1))  # type: ignore
        return blob

    def _combine(self, name: str, blobs: Sequence[str], coefficients: Sequence[float], kind: str) -> None:
        if len(blobs) == 1:
            self._layer(name, "Power", blobs, name).power_param.scale = coefficients[0]
            return
        options = self._layer(name, "Eltwise", blobs, name).eltwise_param
        options.operation = 2 if kind == "MAX" else 1
        if kind != "MAX" and any(coefficient != 1 for coefficient in coefficients):
            options.coeff.extend(coefficients)

    def _layer(self, name: str, kind: str, bottoms: Sequence[str], tops: Any) -> Any:
        return self.proto.layer.add(name=name, type=kind, bottom=list(bottoms),
                                    top=[tops] if isinstance(tops, str) else list(tops))

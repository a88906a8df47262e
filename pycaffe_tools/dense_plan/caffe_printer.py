"""The dense plan as a prototxt that stock Caffe 1.0 runs, with its blobs cut from the trained ones.

Caffe has no dilated pooling, so the first pooling's offsets go to the batch
axis: with stride 2 there are four *fragments*, the pooled maps of the tile
shifted by 0 or 1 row and column.  From there on a fragment's neighbours are
next to each other, and later poolings are maxima of shifted maps.

Caffe's own Pooling is slow (a third of the time), its Eltwise is not.  So the
first pooling is made of Eltwise layers as well: the convolution before it runs
with the pooling's stride on the input shifted by 0, 1, 2, ... pixels, and each
fragment is the maximum of some of these *phases*.

The net's input and output are those of a plain dense net nevertheless: a
Deconvolution with kernels of one element puts the fragments' pixels back
between each other.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..base.ranges import Pair, pair
from ..nets.files.schema import schema
from ..nets.paper import MEMBRANE
from .caffe_phases import FirstPooling, moved, needed_positions, phase_name
from .steps import Combine, Convolve, DensePlan, Map, Operand, Pool, Rectify, Softmax, sources

Kernels = Mapping[str, Tuple[np.ndarray, np.ndarray]]

OUTPUT = "membrane"
"""Name of the net's output blob."""


def dense_net(plan: DensePlan, tile: Pair) -> Any:
    """The plan as a NetParameter for tiles of one size.

    Parameters
    ----------
    plan : from :func:`pycaffe_tools.dense_plan.plan.make_plan`.
    tile : rows and columns of output, multiples of ``plan.first_stride``.

    Returns
    -------
    NetParameter with input ``data``, 1 x channels x (h + n - 1) x (w + n - 1) for patches of
    n x n, and output ``membrane``, 1 x 1 x h x w.
    """
    return _Printer(plan, tile).proto


def dense_weights(plan: DensePlan, kernels: Kernels) -> Dict[str, List[np.ndarray]]:
    """Blobs of :func:`dense_net` by layer name, cut from the patch net's ``kernels``."""
    first = FirstPooling(plan)
    blobs = {}
    for step in plan.steps:
        if isinstance(step, Convolve):
            kernel, bias = kernels[step.layer]
            piece = np.ascontiguousarray(kernel[:, :, slice(*step.rows), slice(*step.columns)])
            names = ([phase_name(step.out, phase) for phase in first.phases] if step.out.name in first.made_as_phases
                     else [step.out.name])
            blobs.update({name: [piece] + ([bias] if step.bias else []) for name in names})
    rows, columns = first.stride
    blobs[OUTPUT] = [np.eye(rows * columns, dtype=np.float32).reshape(-1, 1, rows, columns)]
    return blobs


class _Printer:
    """Writes layers step by step.

    ``_blobs`` holds the blob of each map and ``_frames`` the positions it has;
    ``_phases`` the blobs of the maps that are made as phases.
    """

    def __init__(self, plan: DensePlan, tile: Pair):
        self._plan, self._tile, self._stride = plan, tile, plan.first_stride
        self._first = FirstPooling(plan)
        self.proto = schema().NetParameter(name=f"{plan.net}_dense")
        self._blobs: Dict[str, str] = {}
        self._frames = needed_positions(plan, self._first)
        self._phases: Dict[str, Dict[Pair, str]] = {}
        self._windows: Dict[Tuple[Pair, Pair, float], str] = {}
        self._shifted: Dict[Tuple[str, int, Pair, Pair], List[Tuple[int, str]]] = {}
        self._is_fragments = {plan.input.name: self._stride == (1, 1)}
        self._is_fragments.update({step.out.name: True for step in self._first.pools})
        self._sizes: Dict[Pair, str] = {}
        self._crops: Dict[Tuple[str, Pair, Pair], str] = {}
        self._readers: Dict[str, int] = {}
        self._fresh = 0
        for step in plan.steps:
            for source in sources(step):
                self._readers[source.name] = self._readers.get(source.name, 0) + 1
        rows, columns = (side + reach for side, reach in zip(tile, plan.input.reach))
        self._layer("data", "Input", [], "data").input_param.shape.add(dim=[1, plan.input.channels, rows, columns])
        self._blobs[plan.input.name] = self._extend("data", (rows, columns), self._size(plan.input))
        for step in plan.steps:
            self._step(step)
        self._interleave()

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
        self._is_fragments.setdefault(out.name, self._is_fragments[sources(step)[0].name])
        self._blobs[out.name] = out.name
        if isinstance(step, Convolve):
            self._convolve(step)
        elif isinstance(step, Pool):
            (self._pool_first if step in self._first.pools else self._pool)(step)
        elif isinstance(step, Combine):
            # What has the same positions is combined first and cut afterwards, once.
            frames = {self._frames[operand.source.name][2:] for operand in step.operands}
            if len(frames) == 1 and not any(sum((operand.offset for operand in step.operands), ())):
                start, reach = frames.pop()
                self._frames[out.name] = out._replace(start=start, reach=reach)
            self._blobs[out.name] = self._combine(
                out.name, [self._read(operand, self._frames[out.name]) for operand in step.operands],
                [operand.coefficient for operand in step.operands], step.kind)
        elif isinstance(step, Rectify):
            self._rectify(step)
        else:
            assert isinstance(step, Softmax)
            self._layer(out.name, "Softmax", [self._blobs[step.source.name]], out.name)

    def _convolve(self, step: Convolve) -> None:
        window = (step.rows[1] - step.rows[0], step.columns[1] - step.columns[0])
        if step.out.name in self._first.made_as_phases:
            count = self._size(self._first.pools[0].out)
            size = pair(self._stride[axis] * (count[axis] - 1) + step.spacing[axis] * (window[axis] - 1) + 1
                        for axis in (0, 1))
            self._phases[step.out.name] = {}
            for phase in self._first.phases:
                name = self._phases[step.out.name][phase] = phase_name(step.out, phase)
                source = self._crop(self._blobs[step.source.name], phase, size)
                self._convolution(name, source, step, window, step.spacing, self._stride)
            return
        offset = (step.rows[0] * step.spacing[0], step.columns[0] * step.spacing[1])
        reach = pair(step.out.reach[axis] + step.spacing[axis] * (window[axis] - 1) for axis in (0, 1))
        source = self._read(Operand(step.source, offset), step.out._replace(reach=reach))
        self._convolution(step.out.name, source, step, window, self._scaled(step.spacing, step.source), (1, 1))

    def _convolution(self, name: str, source: str, step: Convolve, window: Pair, dilation: Pair, stride: Pair) -> None:
        options = self._layer(name, "Convolution", [source], name).convolution_param
        options.num_output, options.bias_term = step.out.channels, step.bias
        options.kernel_h, options.kernel_w = window
        if dilation != (1, 1):
            options.dilation.extend(dilation)
        if stride != (1, 1):
            options.stride_h, options.stride_w = stride

    def _rectify(self, step: Rectify) -> None:
        if step.source.name in self._phases:
            # Nobody but the first pooling reads phases, so they are changed in place.
            self._phases[step.out.name] = self._phases[step.source.name]
            for phase, blob in self._phases[step.out.name].items():
                self._layer(phase_name(step.out, phase), "ReLU", [blob], blob)
            return
        if self._readers[step.source.name] == 1:
            self._blobs[step.out.name] = self._blobs[step.source.name]
        self._layer(step.out.name, "ReLU", [self._blobs[step.source.name]], self._blobs[step.out.name])

    def _pool_first(self, step: Pool) -> None:
        """The fragments of one window: first down the rows, shared with windows as high, then along the columns."""
        source, count = step.source, self._size(step.out)
        if source.name not in self._phases:
            size = pair(self._stride[axis] * (count[axis] - 1) + 1 for axis in (0, 1))
            self._phases[source.name] = {}
            for phase in self._first.phases:
                name = self._phases[source.name][phase] = phase_name(source, phase)
                crop = self._crop(self._blobs[source.name], phase, size)
                options = self._layer(name, "Pooling", [crop], name).pooling_param
                options.kernel_size = 1
                options.stride_h, options.stride_w = self._stride
        fragments = [self._window_of_phases(step, (row, column), step.window, step.scale)
                     for row in range(self._stride[0]) for column in range(self._stride[1])]
        self._layer(step.out.name, "Concat", fragments, step.out.name).concat_param.axis = 0

    def _window_of_phases(self, step: Pool, corner: Pair, window: Pair, scale: float = 1.0) -> str:
        """Maximum or sum of the phases in a window that begins at ``corner``, made from smaller windows."""
        if window == (1, 1) and scale == 1:
            return self._phases[step.source.name][corner]
        key = (corner, window, scale)
        if key not in self._windows:
            axis = 1 if window[1] > 1 else 0
            # Other variants' windows are a row or a column smaller: they are made first and gone on with.
            smaller = [each.window[axis] for each in self._first.pools if each.window[axis] < window[axis]]
            whole = max(smaller, default=1)
            pieces = [(0, whole)] + [(number, 1) for number in range(whole, window[axis])]
            blobs = [self._window_of_phases(step, moved(corner, axis, start), moved((1, 1), axis, length - 1)
                                            if axis == 0 else (window[0], length)) for start, length in pieces]
            name = "_".join(str(each) for each in (step.source.name, "window", *window, "at", *corner))
            self._windows[key] = self._combine(name + ("" if scale == 1 else "_scaled"), blobs, [scale] * len(blobs),
                                               step.kind)
        return self._windows[key]

    def _pool(self, step: Pool) -> None:
        """A later pooling: along one axis after the other, of shifted maps."""
        spacing = self._scaled(step.spacing, step.source)
        source, out = self._frames[step.source.name], self._frames[step.out.name]
        blob, size, want = self._blobs[source.name], self._size(source), self._size(out)
        skip = self._scaled((out.start[0] - source.start[0], out.start[1] - source.start[1]), source)
        blob = self._extend(blob, size, pair(
            max(size[axis], skip[axis] + want[axis] + spacing[axis] * (step.window[axis] - 1)) for axis in (0, 1)))
        # Rows that only the second reduction needs are kept in the first.
        size = (want[0] + spacing[0] * (step.window[0] - 1), want[1])
        name = step.out.name
        if step.window[1] > 1 or step.window[0] == 1:
            blob = self._shifted_maps(name + "_columns", blob, skip, size, 1, spacing[1], step.window[1], step.kind)
            skip = (0, 0)
        if step.window[0] > 1:
            blob = self._shifted_maps(name, blob, skip, want, 0, spacing[0], step.window[0], step.kind)
        self._blobs[name] = self._combine(name + "_scaled", [blob], [step.scale], step.kind)

    def _shifted_maps(self, name: str, blob: str, offset: Pair, size: Pair, axis: int, spacing: int, count: int,
                      kind: str) -> str:
        """Maximum or sum of ``count`` cut-outs of a blob, one ``spacing`` after the other; shorter ones are reused."""
        made = self._shifted.setdefault((blob, axis, offset, size), [])
        done, start = max([each for each in made if each[0] <= count], default=(0, ""))
        blobs = ([start] if done else []) + [self._crop(blob, moved(offset, axis, number * spacing), size)
                                             for number in range(done, count)]
        result = self._combine(name, blobs, [1.0] * len(blobs), kind)
        made.append((count, result))
        return result

    # -- pieces ----------------------------------------------------------------------------------------------

    def _scaled(self, distance: Pair, source: Map) -> Pair:
        """A distance of dense positions in elements of the fragment."""
        if not self._is_fragments[source.name]:
            return distance
        return distance[0] // self._stride[0], distance[1] // self._stride[1]

    def _size(self, each: Map) -> Pair:
        """Rows and columns of a map in one fragment."""
        whole = [self._tile[axis] + each.reach[axis] - each.start[axis] for axis in (0, 1)]
        if self._is_fragments[each.name]:
            return whole[0] // self._stride[0], whole[1] // self._stride[1]
        return whole[0] + self._first.overhang[0], whole[1] + self._first.overhang[1]

    def _read(self, operand: Operand, out: Map) -> str:
        """The blob of an operand at the positions of ``out``."""
        source = self._frames[operand.source.name]
        skip = (out.start[0] + operand.offset[0] - source.start[0], out.start[1] + operand.offset[1] - source.start[1])
        return self._crop(self._blobs[source.name], self._scaled(skip, source),
                          self._size(out._replace(name=source.name)), self._size(source))

    def _crop(self, blob: str, offset: Pair, size: Pair, whole: Optional[Pair] = None) -> str:
        """Cut rows and columns off a blob whose size is ``whole``, if that is known."""
        if size == whole:
            return blob
        if (blob, offset, size) in self._crops:
            return self._crops[blob, offset, size]
        if size not in self._sizes:
            self._sizes[size] = f"size_{size[0]}x{size[1]}"
            self._layer(self._sizes[size], "Input", [], self._sizes[size]).input_param.shape.add(
                dim=[1, 1, size[0], size[1]])
        self._fresh += 1
        name = self._crops[blob, offset, size] = f"crop_{self._fresh}"
        options = self._layer(name, "Crop", [blob, self._sizes[size]], name).crop_param
        options.axis = 2
        options.offset.extend(offset)
        return name

    def _extend(self, blob: str, have: Pair, want: Pair) -> str:
        """Repeat rows and columns at the end, for windows whose values are not used, until there are enough."""
        for axis in (0, 1):
            while have[axis] < want[axis]:
                length = min(have[axis], want[axis] - have[axis])
                piece = pair(length if each == axis else have[each] for each in (0, 1))
                end = self._crop(blob, (0, 0), piece)
                self._fresh += 1
                name = f"longer_{self._fresh}"
                self._layer(name, "Concat", [blob, end], name).concat_param.axis = 2 + axis
                blob = name
                have = moved(have, axis, length)
        return blob

    def _combine(self, name: str, blobs: Sequence[str], coefficients: Sequence[float], kind: str) -> str:
        """A layer for the maximum or the sum of blobs; returns its blob, which is the first one if that is all."""
        if len(blobs) == 1 and coefficients[0] == 1:
            return blobs[0]
        if len(blobs) == 1:
            self._layer(name, "Power", blobs, name).power_param.scale = coefficients[0]
            return name
        options = self._layer(name, "Eltwise", blobs, name).eltwise_param
        options.operation = 2 if kind == "MAX" else 1
        if kind != "MAX" and any(coefficient != 1 for coefficient in coefficients):
            options.coeff.extend(coefficients)
        return name

    def _layer(self, name: str, kind: str, bottoms: Sequence[str], tops: Any) -> Any:
        return self.proto.layer.add(name=name, type=kind, bottom=list(bottoms),
                                    top=[tops] if isinstance(tops, str) else list(tops))

"""A NetParameter as a graph: who feeds whom, shapes, costs, and cutting out a part.

This is the one place that understands prototxts.  Surgery, the pruning oracle,
dense evaluation, export and the memory figures of Table 2 all ask it.

    >>> net = read_net("prototxt/N/deploy.prototxt")          # doctest: +SKIP
    >>> net.layer("c2").geometry.kernel, net.output_shape(net.layer("c2"))  # doctest: +SKIP
    ((5, 5), (1, 75, 9, 9))

In-place layers (``bottom == top``) are resolved: the graph connects *values*,
and a blob name may stand for several values in turn.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .caffe_schema import read_caffemodel, read_prototxt, schema, to_text
from .errors import UserError
from .files import PathLike, atomic_file

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


class NetGraph:
    """The layers of a net that run in one phase, connected.

    Parameters
    ----------
    proto : NetParameter; old ``layers`` are translated.
    phase : ``TRAIN`` or ``TEST``.
    input_shapes : shapes of the tops of data layers that do not state them
        (HDF5Data), such as ``{"data": (1, 1, 32, 32), "label": (1,)}``.

    Attributes
    ----------
    layers : every layer but Input layers, in the order of execution.
    inputs : the values that come from outside (net inputs and data layers), with their shapes where known.

    Raises
    ------
    UserError : a layer reads a blob that nothing makes.
    """

    def __init__(self, proto: Any, phase: str = "TEST", input_shapes: Optional[Mapping[str, Shape]] = None):
        self.proto = upgraded(proto)
        self.name = self.proto.name
        self.phase = phase
        self.layers: List[Layer] = []
        self.inputs: Dict[Value, Optional[Shape]] = {}
        self._readers: Dict[Value, List[Layer]] = {}
        self._shapes: Dict[Value, Shape] = {}
        self._not_derived: Optional[UserError] = None
        self._connect(dict(input_shapes or {}))

    def _connect(self, given: Dict[str, Shape]) -> None:
        current: Dict[str, Value] = {}
        for blob, shape in _net_inputs(self.proto).items():
            current[blob] = Value(-1, 0, blob)
            self.inputs[current[blob]] = given.get(blob, shape)
        for proto in self.proto.layer:
            if not _runs_in(proto, self.phase):
                continue
            if proto.type in DATA_TYPES:
                for blob, shape in zip(proto.top, _data_shapes(proto)):
                    current[blob] = Value(-1, 0, blob)
                    self.inputs[current[blob]] = given.get(blob, shape)
                continue
            for blob in proto.bottom:
                if blob not in current:
                    raise UserError(f"layer {proto.name}: reads the blob {blob!r} that no layer before it makes; "
                                    f"correct the prototxt")
            index = len(self.layers)
            outputs = [Value(index, number, blob) for number, blob in enumerate(proto.top)]
            layer = Layer(proto, index, [current[blob] for blob in proto.bottom], outputs)
            for value in layer.inputs:
                self._readers.setdefault(value, []).append(layer)
            current.update({value.blob: value for value in outputs})
            self.layers.append(layer)

    # -- who feeds whom --------------------------------------------------------------------------------------

    def layer(self, name: str) -> Layer:
        """The layer of that name.

        Raises
        ------
        UserError : there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UserError(f"net {self.name}: has no layer {name!r}; its layers are "
                        f"{', '.join(layer.name for layer in self.layers)}")

    def readers(self, value: Value) -> List[Layer]:
        """The layers that read a value."""
        return list(self._readers.get(value, []))

    def consumers(self, layer: Layer) -> List[Layer]:
        """The layers that read any output of ``layer``."""
        found = {reader.index: reader for value in layer.outputs for reader in self.readers(value)}
        return [found[index] for index in sorted(found)]

    def producer(self, value: Value) -> Optional[Layer]:
        """The layer that makes a value; None for an input of the net."""
        return self.layers[value.layer] if value.layer >= 0 else None

    @property
    def outputs(self) -> List[Value]:
        """Values that no layer reads."""
        return [value for layer in self.layers for value in layer.outputs if not self.readers(value)]

    def chain(self) -> List[Layer]:
        """The layers, if the net is one chain from its one input to its one output.

        Raises
        ------
        UserError : names the layer at which it is not.
        """
        data = [value for value in self.inputs if self.readers(value)]
        if len(data) != 1:
            raise UserError(f"net {self.name}: has {len(data)} inputs that are read, where a chain has one")
        value = data[0]
        for layer in self.layers:
            if layer.inputs != (value,) or len(layer.outputs) != 1 or len(self.readers(value)) != 1:
                raise UserError(f"layer {layer.name}: the net is not a single chain of layers there")
            value = layer.outputs[0]
        return list(self.layers)

    # -- shapes and costs ------------------------------------------------------------------------------------

    def shape(self, value: Value) -> Shape:
        """Shape of a value, by Caffe's own arithmetic.

        Raises
        ------
        UserError : the input's shape is not known, or the layer's type is not.
        """
        if not self._shapes:
            for known, shape in self.inputs.items():
                if shape is not None:
                    self._shapes[known] = tuple(shape)
            for layer in self.layers:
                if all(blob in self._shapes for blob in layer.inputs):
                    try:
                        shapes = _output_shapes(layer, [self._shapes[blob] for blob in layer.inputs])
                    except UserError as error:
                        self._not_derived = self._not_derived or error
                        continue
                    self._shapes.update(zip(layer.outputs, shapes))
        if value not in self._shapes:
            raise self._not_derived or UserError(
                f"net {self.name}: the shape of blob {value.blob!r} cannot be derived from the prototxt; "
                f"use a deploy prototxt, which states its input's shape")
        return self._shapes[value]

    def input_shape(self, layer: Layer) -> Shape:
        """Shape of a layer's first bottom."""
        return self.shape(layer.inputs[0])

    def output_shape(self, layer: Layer) -> Shape:
        """Shape of a layer's first top."""
        return self.shape(layer.outputs[0])

    def parameter_shapes(self, layer: Layer) -> List[Shape]:
        """Shapes of the weight (and bias) of a convolution, a deconvolution or an inner product; else empty."""
        if not layer.is_parametric and layer.type != "Deconvolution":
            return []
        incoming = self.input_shape(layer)
        if layer.type != "InnerProduct":
            geometry = layer.geometry
            first, second = layer.num_output, incoming[1]
            if layer.type == "Deconvolution":
                first, second = second, first
            weight: Shape = (first, second // geometry.group) + geometry.kernel
        else:
            axis = layer.proto.inner_product_param.axis % len(incoming)
            weight = (layer.num_output, _product(incoming[axis:]))
            if layer.proto.inner_product_param.transpose:
                weight = weight[::-1]
        return [weight] + ([(layer.num_output,)] if layer.bias_term else [])

    def parameter_count(self) -> int:
        """Number of weights and biases of all convolutions and inner products (Table 2's basis)."""
        return sum(_product(shape) for layer in self.layers for shape in self.parameter_shapes(layer))

    def memory_bytes(self) -> int:
        """What Caffe 1.0 logs as "Memory required for data", M of Table 2 (there in units of 1024 bytes).

        Four bytes for each element of each layer's tops, where the top of an
        in-place layer counts again, and so do the copies that Caffe's inserted
        Split layers make where several layers read one value.
        """
        tops = list(self.inputs) + [value for layer in self.layers for value in layer.outputs]
        elements = 0
        for value in tops:
            readers = len(self.readers(value))
            elements += _product(self.shape(value)) * (1 + (readers if readers > 1 else 0))
        return 4 * elements

    def multiply_accumulates(self) -> int:
        """Multiply-accumulate operations of one forward pass over the input shape, convolutions and inner products."""
        total = 0
        for layer in self.layers:
            if layer.is_parametric:
                outgoing = _product(self.output_shape(layer))
                total += outgoing * _product(self.parameter_shapes(layer)[0]) // layer.num_output
        return total

    # -- cutting ---------------------------------------------------------------------------------------------

    def cut(self, first: str, last: str, batch: Optional[int] = None) -> Any:
        """The layers from ``first`` to ``last`` as a net of its own, fed by Input layers.

        Parameters
        ----------
        first, last : names of layers.
        batch : length of the batch axis; the net's own by default.

        Returns
        -------
        NetParameter; its inputs have the names of the blobs that the part reads from outside.
        """
        start, stop = self.layer(first).index, self.layer(last).index
        if stop < start:
            raise UserError(f"net {self.name}: layer {last} comes before layer {first}")
        part = schema().NetParameter(name=f"{self.name}_{first}_to_{last}")
        fed: Dict[str, Value] = {}
        for layer in self.layers[start:stop + 1]:
            for value in layer.inputs:
                if value.layer >= start or value in fed.values():
                    continue
                if value.blob in fed:
                    raise UserError(f"net {self.name}: blob {value.blob!r} is rewritten in place between the layers "
                                    f"that read it, so layers {first} to {last} cannot be cut out")
                fed[value.blob] = value
        for blob, value in fed.items():
            shape = self.shape(value)
            part.layer.add(name=f"input_{blob}", type="Input", top=[blob]).input_param.shape.add(
                dim=(batch or shape[0],) + shape[1:])
        for layer in self.layers[start:stop + 1]:
            copy = part.layer.add()
            copy.CopyFrom(layer.proto)
            del copy.blobs[:], copy.include[:], copy.exclude[:]
        return part

    def with_batch(self, batch: int) -> Any:
        """The whole net (without data and loss layers) for another batch size, as a NetParameter."""
        body = [layer.name for layer in self.layers if layer.type not in LOSS_TYPES]
        return self.cut(body[0], body[-1], batch)


def read_net(path: PathLike, phase: str = "TEST", input_shapes: Optional[Mapping[str, Shape]] = None) -> NetGraph:
    """Read a prototxt as a :class:`NetGraph`; its messages name the file."""
    try:
        return NetGraph(read_prototxt(path), phase, input_shapes)
    except UserError as error:
        raise UserError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def read_weights(path: PathLike) -> Dict[str, List[np.ndarray]]:
    """Read a caffemodel.

    Returns
    -------
    For each layer with blobs, its name and its float32 arrays: convolution
    weights O x I/group x kh x kw, inner-product weights O x I, biases O.
    Legacy 4-D blobs (``num``, ``channels``, ``height``, ``width``) lose the
    leading axes of length 1 that Caffe 1.0 no longer writes.

    Raises
    ------
    UserError : missing, truncated, not a caffemodel, or without any weights.
    """
    net = upgraded(read_caffemodel(path))
    weights = {}
    for layer in net.layer:
        try:
            arrays = [_array(blob, layer.type, number) for number, blob in enumerate(layer.blobs)]
        except UserError as error:
            raise UserError(f"{path}: is damaged, layer {layer.name}: {error}; copy or train it again") from None
        if arrays:
            weights[layer.name] = arrays
    if not weights:
        raise UserError(f"{path}: holds no weights; give a trained caffemodel")
    return weights


def write_weights(path: PathLike, net: NetGraph, weights: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write a caffemodel that any Caffe 1.0 reads: float32 blobs by layer name, atomically."""
    model = schema().NetParameter(name=net.name)
    for layer in net.layers:
        proto = model.layer.add(name=layer.name, type=layer.type, bottom=layer.bottoms, top=layer.tops)
        for array in weights.get(layer.name, ()):
            blob = proto.blobs.add()
            blob.shape.dim.extend(array.shape)
            _append_data(blob, array)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def write_net(path: PathLike, proto: Any, comment: str = "") -> None:
    """Write a NetParameter as prototxt, with ``comment`` lines at its head, atomically."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    with atomic_file(path) as temporary:
        temporary.write_text(head + to_text(proto), encoding="utf-8")


# -- the older format ------------------------------------------------------------------------------------------

# V1 enumeration names that are not simply their modern type in capitals.
_V1_NAMES = {name.upper(): name for name in (
    "AbsVal Accuracy ArgMax BNLL Concat ContrastiveLoss Convolution Data Deconvolution Dropout DummyData Eltwise "
    "EuclideanLoss Exp Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct LRN "
    "MemoryData MultinomialLogisticLoss MVN Pooling Power ReLU Sigmoid SigmoidCrossEntropyLoss Silence Slice "
    "Softmax Split TanH Threshold WindowData").split()}
_V1_NAMES["SOFTMAXLOSS"] = "SoftmaxWithLoss"


def upgraded(net: Any) -> Any:
    """A NetParameter with old ``layers`` (V1LayerParameter) translated to ``layer``; the same object if there are none.

    Raises
    ------
    UserError : both forms at once, or the still older form of before 2014.
    """
    old_layers = getattr(net, "layers", ())
    if not old_layers:
        return net
    if net.layer:
        raise UserError(f"net {net.name}: mixes old 'layers' and new 'layer'; use one of them")
    result = schema().NetParameter()
    result.CopyFrom(net)
    del result.layers[:]
    for old in old_layers:
        if old.HasField("layer"):
            raise UserError(f"net {net.name}: is of the form that Caffe used before 2014; "
                            f"convert it with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary first")
        new = result.layer.add()
        for field, content in old.ListFields():
            if field.name == "type":
                name = old.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[content].name
                if name == "NONE":
                    raise UserError(f"layer {old.name}: has no type; correct the file")
                new.type = _V1_NAMES[name.replace("_", "")]
            elif field.name in ("blobs_lr", "weight_decay"):
                _spread(new, "lr_mult" if field.name == "blobs_lr" else "decay_mult", content)
            elif field.name not in new.DESCRIPTOR.fields_by_name or field.name in ("param", "blob_share_mode"):
                raise UserError(f"layer {old.name}: its option {field.name!r} of the old format is not supported; "
                                f"convert the file with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary")
            elif field.label == field.LABEL_REPEATED:
                for item in content:
                    (getattr(new, field.name).add().CopyFrom(item) if field.message_type
                     else getattr(new, field.name).append(item))
            elif field.message_type:
                getattr(new, field.name).CopyFrom(content)
            else:
                setattr(new, field.name, content)
    return result


def _spread(layer: Any, name: str, values: Sequence[float]) -> None:
    for number, value in enumerate(values):
        while len(layer.param) <= number:
            layer.param.add()
        setattr(layer.param[number], name, value)


# A network has millions of weights: these two pass them as bytes, since a Python object for each takes minutes.

def _append_data(blob: Any, array: np.ndarray) -> None:
    """Append to a BlobProto's ``data``, which is field 5, packed: tag 0x2A, length in bytes as varint, bytes."""
    content = np.ascontiguousarray(array, "<f4").tobytes()
    length, varint = len(content), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    blob.MergeFromString(b"\x2a" + bytes(varint) + content)


def _data(blob: Any) -> np.ndarray:
    """A BlobProto's ``data``, or else its ``double_data``, as float32."""
    name, kind = ("data", "<f4") if len(blob.data) else ("double_data", "<f8")
    alone = type(blob)()
    alone.CopyFrom(blob)
    for field, _ in blob.ListFields():
        if field.name != name:
            alone.ClearField(field.name)
    alone.DiscardUnknownFields()
    content = alone.SerializeToString()
    size = np.dtype(kind).itemsize * len(getattr(blob, name))
    return np.frombuffer(content, kind, offset=len(content) - size).astype(np.float32)


def _array(blob: Any, layer_type: str, number: int) -> np.ndarray:
    array = _data(blob)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    if _product(shape) != array.size:
        raise UserError(f"blob {number} states the shape {shape} but holds {array.size} numbers")
    if blob.HasField("shape"):
        return array.reshape(shape)
    legacy = array.reshape(shape)
    if number == 0 and layer_type in ("Convolution", "Deconvolution"):
        return legacy
    if number == 0 and layer_type == "InnerProduct":
        return legacy.reshape(legacy.shape[2:])
    return legacy.reshape(-1)


# -- Caffe's rules ---------------------------------------------------------------------------------------------

def _runs_in(proto: Any, phase: str) -> bool:
    """Caffe's include and exclude rules for a net state of level 0 without stages."""
    number = {"TRAIN": 0, "TEST": 1}[phase]

    def met(rule: Any) -> bool:
        return ((not rule.HasField("phase") or rule.phase == number) and not rule.stage
                and rule.min_level <= 0 <= (rule.max_level if rule.HasField("max_level") else 0))

    if proto.include:
        return any(met(rule) for rule in proto.include)
    return not any(met(rule) for rule in proto.exclude)


def _net_inputs(proto: Any) -> Dict[str, Shape]:
    """Inputs stated in the old way, as ``input:`` with ``input_dim:`` or ``input_shape``."""
    shapes = [tuple(shape.dim) for shape in proto.input_shape]
    dims = list(proto.input_dim)
    shapes += [tuple(dims[at:at + 4]) for at in range(0, len(dims), 4)]
    return dict(zip(proto.input, shapes))


def _data_shapes(proto: Any) -> List[Optional[Shape]]:
    stated = (proto.input_param.shape if proto.type == "Input"
              else proto.dummy_data_param.shape if proto.type == "DummyData" else ())
    shapes: List[Optional[Shape]] = [tuple(shape.dim) for shape in stated]
    if len(shapes) == 1:
        shapes *= len(proto.top)
    return shapes + [None] * (len(proto.top) - len(shapes))


def pooled_length(length: int, kernel: int, stride: int, pad: int = 0) -> int:
    """Number of pooling windows along an axis in Caffe 1.0: rounded up, the last one clipped at the border."""
    windows = math.ceil((length + 2 * pad - kernel) / stride) + 1
    if pad and (windows - 1) * stride >= length + pad:
        windows -= 1
    return windows


def _output_shapes(layer: Layer, shapes: List[Shape]) -> List[Shape]:
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
        return [first[:start] + (_product(first[start:stop + 1]),) + first[stop + 1:]]
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
    raise UserError(f"layer {layer.name}: layers of type {layer.type} are not understood here")


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
        known = _product([length for length in middle if length != -1])
        middle[middle.index(-1)] = _product(shape[start:stop]) // known
    return shape[:start] + tuple(middle) + shape[stop:]


def concat_axis(layer: Layer) -> int:
    """Axis of a Concat layer."""
    options = layer.proto.concat_param
    return options.concat_dim if options.HasField("concat_dim") else options.axis


def _product(numbers: Sequence[int]) -> int:
    return int(np.prod(numbers, dtype=np.int64)) if len(numbers) else 1

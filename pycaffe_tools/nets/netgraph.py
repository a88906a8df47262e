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

from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..base.errors import UserError, naming
from ..base.fields import shown
from ..base.files import PathLike, atomic_file
from .files.schema import read_prototxt, schema, to_text
from .files.upgrade import upgraded
from .layers import DATA_TYPES, LOSS_TYPES, Layer, Shape, Value, product
from .rules import check_layer, data_shapes, net_inputs, runs_in
from .shapes import MOST_ELEMENTS, output_shapes


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
    UserError : a layer reads a blob that nothing makes, two layers have one name, or the net is otherwise not whole.
    """

    def __init__(self, proto: Any, phase: str = "TEST", input_shapes: Optional[Mapping[str, Shape]] = None):
        self.proto = upgraded(proto)
        self.name = self.proto.name
        self.where: Optional[str] = None
        self.phase = phase
        self.layers: List[Layer] = []
        self.inputs: Dict[Value, Optional[Shape]] = {}
        self._readers: Dict[Value, List[Layer]] = {}
        self._shapes: Dict[Value, Shape] = {}
        self._not_derived: Optional[UserError] = None
        self._connect(dict(input_shapes or {}))

    def _connect(self, given: Dict[str, Shape]) -> None:
        current: Dict[str, Value] = {}

        def put_in(blob: str, shape: Optional[Shape]) -> None:
            shape = given.get(blob, shape)
            if shape is not None and (min(shape, default=0) < 1 or product(shape) > MOST_ELEMENTS):
                raise UserError(f"net {self.name}: its input {blob!r} has the shape {tuple(shape)}; give every axis a "
                                f"length from 1 on, and not more than Caffe's {MOST_ELEMENTS:,} elements in all")
            current[blob] = Value(-1, 0, blob)
            self.inputs[current[blob]] = shape

        for blob, shape in net_inputs(self.proto).items():
            put_in(blob, shape)
        stages = set(self.proto.state.stage)
        for proto in self.proto.layer:
            if not runs_in(proto, self.phase, stages):
                continue
            check_layer(proto, current, [layer.name for layer in self.layers], self.name, self.phase)
            if proto.type in DATA_TYPES:
                for blob, known in zip(proto.top, data_shapes(proto)):
                    put_in(blob, known)
                continue
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
        raise UserError(f"net {self.name}: has no layer {shown(name)}; its layers are "
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
                        shapes = output_shapes(layer, [self._shapes[blob] for blob in layer.inputs])
                    except UserError as error:
                        self._not_derived = self._not_derived or error
                        continue
                    self._shapes.update(zip(layer.outputs, shapes))
        if value not in self._shapes:
            reason = self._not_derived or UserError(
                f"net {self.name}: the shape of blob {value.blob!r} cannot be derived from the prototxt; "
                f"use a deploy prototxt, which states its input's shape")
            raise UserError(f"{self.where}: {reason}") if self.where else reason
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
            axis = layer.axis(layer.proto.inner_product_param.axis, len(incoming))
            weight = (layer.num_output, product(incoming[axis:]))
            if layer.proto.inner_product_param.transpose:
                weight = weight[::-1]
        return [weight] + ([(layer.num_output,)] if layer.bias_term else [])

    def shared_parameters(self) -> List[Tuple[Tuple[str, int], Tuple[str, int]]]:
        """Parameters that are one array in Caffe (``param { name: ... }``): layer and blob number of two users each."""
        owners: Dict[str, Tuple[str, int]] = {}
        shared = []
        for layer in self.layers:
            for number, spec in enumerate(layer.proto.param):
                if spec.name and number < len(self.parameter_shapes(layer)):
                    owner = owners.setdefault(spec.name, (layer.name, number))
                    if owner != (layer.name, number):
                        shared.append((owner, (layer.name, number)))
        return shared

    def parameter_count(self) -> int:
        """Number of weights and biases of all convolutions and inner products (Table 2's basis)."""
        return sum(product(shape) for layer in self.layers for shape in self.parameter_shapes(layer))

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
            elements += product(self.shape(value)) * (1 + (readers if readers > 1 else 0))
        return 4 * elements

    def multiply_accumulates(self) -> int:
        """Multiply-accumulate operations of one forward pass over the input shape, convolutions and inner products."""
        total = 0
        for layer in self.layers:
            if layer.is_parametric:
                outgoing = product(self.output_shape(layer))
                total += outgoing * product(self.parameter_shapes(layer)[0]) // layer.num_output
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
    with naming(path):
        net = NetGraph(read_prototxt(path), phase, input_shapes)
    net.where = str(path)
    return net


def write_net(path: PathLike, proto: Any, comment: str = "") -> None:
    """Write a NetParameter as prototxt, with ``comment`` lines at its head, atomically."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    with atomic_file(path) as temporary:
        temporary.write_text(head + to_text(proto), encoding="utf-8")

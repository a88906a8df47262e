"""Weights in and out of a ``.caffemodel``, and nets of the format that Caffe used before 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

import numpy as np

from .base.errors import UserError
from .base.files import PathLike, atomic_file
from .caffe_schema import read_caffemodel, schema
from .layers import product

if TYPE_CHECKING:
    from .netgraph import NetGraph


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
    if product(shape) != array.size:
        raise UserError(f"blob {number} states the shape {shape} but holds {array.size} numbers")
    if blob.HasField("shape"):
        return array.reshape(shape)
    legacy = array.reshape(shape)
    if number == 0 and layer_type in ("Convolution", "Deconvolution"):
        return legacy
    if number == 0 and layer_type == "InnerProduct":
        return legacy.reshape(legacy.shape[2:])
    return legacy.reshape(-1)

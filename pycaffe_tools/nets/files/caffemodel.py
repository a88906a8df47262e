"""Weights in and out of a ``.caffemodel``, also of the format that Caffe used before 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

import numpy as np

from ...base.errors import UserError, naming
from ...base.files import PathLike, atomic_file
from ..layers import product
from .schema import read_caffemodel, schema
from .upgrade import upgraded

if TYPE_CHECKING:
    from ..netgraph import NetGraph


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
    with naming(path):
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
    numbers: np.ndarray = np.frombuffer(content, kind, offset=len(content) - size).astype(np.float32)
    return numbers


def _array(blob: Any, layer_type: str, number: int) -> np.ndarray:
    array = _data(blob)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    if min(shape, default=1) < 0 or product(shape) != array.size:
        raise UserError(f"blob {number} states the shape {shape} but holds {array.size} numbers")
    shaped: np.ndarray = array.reshape(shape)
    if blob.HasField("shape"):
        return shaped
    legacy = shaped
    if number == 0 and layer_type in ("Convolution", "Deconvolution"):
        return legacy
    if number == 0 and layer_type == "InnerProduct":
        if legacy.shape[:2] != (1, 1):
            raise UserError(f"blob {number} has the shape {shape}, which is none of an inner product's weights")
        return legacy.reshape(legacy.shape[2:])
    return legacy.reshape(-1)

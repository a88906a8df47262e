"""A patch net as an ONNX graph, layer by layer: for runtimes that know nothing of Caffe.

Caffe's rounding up of pooling sizes is written as padding at the end, which
every runtime reads alike: a maximum ignores it, and an average leaves it out
of its count, as Caffe does at its border.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from ..base.errors import UserError
from ..dense_plan.onnx_printer import IR_VERSION, OPSET
from ..nets.classifier import lacks_softmax
from ..nets.layers import Layer
from ..nets.netgraph import NetGraph


def patch_model(graph: NetGraph, weights: Mapping[str, Sequence[np.ndarray]], name: str) -> Any:
    """A chain net as an ONNX model.

    Returns
    -------
    ModelProto.  Input ``patches``: batch x channels x n x n, batch free;
    output with the last blob's name: batch x the blob's other axes.  If the net ends in scores, a Softmax is
    added, and the output is called ``added_softmax``.

    Raises
    ------
    UserError : names the layer that is not a convolution, pooling without padding, ReLU, inner product, Softmax or
        Dropout.
    """
    import onnx
    helper, tensor_type = onnx.helper, onnx.TensorProto.FLOAT
    nodes: List[Any] = []
    constants: Dict[str, np.ndarray] = {}
    current = "patches"
    chain = graph.chain()
    for layer in chain:
        if layer.type == "Dropout":
            continue
        for kind, inputs, attributes in _nodes(layer, graph, weights):
            for number, array in enumerate(inputs):
                constants[f"{layer.name}_{kind}_{number}"] = array
            out = f"{layer.name}_{kind}"
            nodes.append(helper.make_node(kind, [current] + [f"{out}_{number}" for number in range(len(inputs))], [out],
                                          name=out, **attributes))
            current = out
    output = chain[-1].tops[0]
    if lacks_softmax(graph):
        output = "added_softmax"
        nodes.append(helper.make_node("Softmax", [current], ["probability"], name="probability", axis=1))
        current = "probability"
    nodes.append(helper.make_node("Identity", [current], [output]))
    made = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("patches", tensor_type, ["batch", *graph.input_shape(chain[0])[1:]])],
        [helper.make_tensor_value_info(output, tensor_type, ["batch", *graph.output_shape(chain[-1])[1:]])],
        [onnx.numpy_helper.from_array(array, key) for key, array in constants.items()])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                             producer_name="pycaffe_tools")


def _nodes(layer: Layer, graph: NetGraph, weights: Mapping[str, Sequence[np.ndarray]]
           ) -> List[Tuple[str, List[np.ndarray], Dict[str, Any]]]:
    """Operator, constant inputs and attributes of the nodes that make up a layer."""
    blobs = [np.ascontiguousarray(array, np.float32) for array in weights.get(layer.name, ())]
    if layer.type == "Convolution":
        geometry = layer.geometry
        return [("Conv", blobs, {"kernel_shape": geometry.kernel, "strides": geometry.stride,
                                 "pads": geometry.pad * 2, "dilations": geometry.dilation, "group": geometry.group})]
    if layer.type == "InnerProduct":
        options = layer.proto.inner_product_param
        if options.axis != 1:
            raise UserError(f"layer {layer.name}: an inner product along another axis than 1 cannot be exported")
        return [("Flatten", [], {"axis": 1}), ("Gemm", blobs, {"transB": 0 if options.transpose else 1})]
    if layer.type == "Pooling" and layer.geometry.pad == (0, 0) and layer.pool in ("MAX", "AVE"):
        geometry = layer.geometry
        sizes, counts = graph.input_shape(layer)[2:], graph.output_shape(layer)[2:]
        beyond = [max(0, (count - 1) * stride + kernel - size) for size, count, stride, kernel
                  in zip(sizes, counts, geometry.stride, geometry.kernel)]
        return [("MaxPool" if layer.pool == "MAX" else "AveragePool", [],
                 {"kernel_shape": geometry.kernel, "strides": geometry.stride, "pads": [0, 0, *beyond]})]
    if layer.type == "ReLU":
        slope = layer.proto.relu_param.negative_slope
        return [("LeakyRelu", [], {"alpha": slope})] if slope else [("Relu", [], {})]
    if layer.type == "Softmax":
        return [("Softmax", [], {"axis": layer.proto.softmax_param.axis})]
    raise UserError(f"layer {layer.name}: layers of type {layer.type} with these options cannot be exported to ONNX")

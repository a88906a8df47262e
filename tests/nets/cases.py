"""Nets to ask Caffe about: LeNet, one of oddities, and others drawn at random."""


import numpy as np

from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.netgraph import NetGraph, read_net

from ..conftest import ROOT

LENET = """
name: "lenet"
input: "data" input_dim: 3 input_dim: 1 input_dim: 28 input_dim: 28
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 20 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param { num_output: 50 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param { num_output: 500 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }
"""

ODDITIES = """
name: "oddities"
layer { name: "data" type: "Input" top: "data" top: "other" input_param { shape { dim: 2 dim: 6 dim: 15 dim: 11 } } }
layer { name: "grouped" type: "Convolution" bottom: "data" top: "grouped"
  convolution_param { num_output: 9 group: 3 kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2 stride_h: 2 stride_w: 1 } }
layer { name: "twice" type: "Convolution" bottom: "data" bottom: "other" top: "t1" top: "t2"
  convolution_param { num_output: 4 kernel_size: 3 dilation: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "t1" top: "up"
  convolution_param { num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2 } }
layer { name: "size" type: "Crop" bottom: "up" bottom: "t2" top: "crop" crop_param { axis: 2 offset: 1 } }
layer { name: "norm" type: "LRN" bottom: "crop" top: "norm" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 } }
layer { name: "cut" type: "Slice" bottom: "grouped" top: "s1" top: "s2" top: "s3" slice_param { axis: 1 slice_point: 2 slice_point: 6 } }
layer { name: "third" type: "Slice" bottom: "t2" top: "u1" top: "u2" }
layer { name: "sum" type: "Eltwise" bottom: "u1" bottom: "u2" top: "sum" }
layer { name: "all" type: "Pooling" bottom: "s2" top: "all" pooling_param { pool: AVE global_pooling: true } }
layer { name: "flat" type: "Flatten" bottom: "s3" top: "flat" flatten_param { axis: -2 } }
layer { name: "shape" type: "Reshape" bottom: "s1" top: "shape" reshape_param { shape { dim: 0 dim: -1 dim: 4 } } }
layer { name: "gone" type: "Silence" bottom: "sum" }
layer { name: "ip" type: "InnerProduct" bottom: "all" top: "ip" inner_product_param { num_output: 3 axis: 2 transpose: true } }
layer { name: "soft" type: "Softmax" bottom: "flat" top: "soft" }
"""


def random_net(seed):
    """Text of a net of random convolutions, poolings, branches and in-place layers that fits together."""
    rng = np.random.default_rng(seed)
    size, channels = int(rng.integers(13, 24)), int(rng.integers(1, 4)) * 2
    text = [f'name: "random{seed}" layer {{ name: "data" type: "Input" top: "data" input_param {{ '
            f'shape {{ dim: {rng.integers(1, 4)} dim: {channels} dim: {size} dim: {size + 2} }} }} }}']
    blob, names = "data", iter(f"n{number}" for number in range(1000))

    def add(kind, bottoms, options="", top=None):
        name = next(names)
        text.append(f'layer {{ name: "{name}" type: "{kind}" ' + "".join(f'bottom: "{b}" ' for b in bottoms)
                    + f'top: "{top or name}" {options} }}')
        return top or name

    def height():
        net = NetGraph(parse_prototxt("\n".join(text)))
        return min(min(net.shape(value)[2:]) for value in net.outputs) if net.layers else size

    def convolution(bottom, channels, pads=None):
        kernel, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        pad = (kernel - 1) * dilation // 2 if pads == "same" else int(rng.integers(0, 3))
        if pads == "same" and (kernel - 1) * dilation % 2:
            kernel, pad = 3, dilation
        stride = 1 if pads == "same" else int(rng.integers(1, 3))
        return add("Convolution", [bottom], f"convolution_param {{ num_output: {channels} kernel_size: {kernel} pad: {pad} "
                                            f"stride: {stride} dilation: {dilation} group: {rng.choice([1, 2])} "
                                            f"bias_term: {rng.choice(['true', 'false'])} }}")

    while height() > 5 and len(text) < 14:
        step = rng.integers(4)
        if step == 0:
            blob = convolution(blob, 2 * int(rng.integers(1, 4)))
        elif step == 1:
            kernel = int(rng.integers(2, 4))
            blob = add("Pooling", [blob], f"pooling_param {{ pool: {rng.choice(['MAX', 'AVE'])} kernel_size: {kernel} "
                                          f"stride: {rng.integers(1, 4)} pad: {rng.integers(0, kernel)} }}")
        elif step == 2:
            kind = str(rng.choice(["ReLU", "Dropout", "PReLU", "LRN", "TanH", "BatchNorm"]))
            in_place = blob != "data" and kind != "LRN" and rng.integers(2)
            blob = add(kind, [blob], top=blob if in_place else None)
        else:
            blob = add("Concat", [convolution(blob, 2, "same"), blob, convolution(blob, 4, "same")])
    flat = add("InnerProduct", [blob], "inner_product_param { num_output: 3 }")
    add("Softmax", [add("Flatten", [flat])])
    return "\n".join(text)


TEXTS = {"lenet": LENET, "oddities": ODDITIES, **{f"random{seed}": random_net(seed) for seed in range(16)}}


def graph(name):
    if name in TEXTS:
        return NetGraph(parse_prototxt(TEXTS[name]))
    return read_net(ROOT / "prototxt" / name / "deploy.prototxt")

"""Nets of every construction whose features can be removed, and weights for them."""


import numpy as np

from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.nets.running.runtime import random_weights


def conv(name, bottom, outputs, options="kernel_size: 3"):
    return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
            f'convolution_param {{ num_output: {outputs} {options} }} }}\n')


def fc(name, bottom, outputs, options=""):
    return (f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
            f'inner_product_param {{ num_output: {outputs} {options} }} }}\n')


def layer(kind, name, bottoms, options="", tops=None):
    return (f'layer {{ name: "{name}" type: "{kind}" ' + "".join(f'bottom: "{blob}" ' for blob in bottoms.split())
            + "".join(f'top: "{blob}" ' for blob in (name if tops is None else tops).split()) + f"{options} }}\n")


POOL = "pooling_param { kernel_size: 2 stride: 2 }"


def net_of(*layers, shape=(2, 3, 9, 10)):
    dims = " ".join(f"dim: {length}" for length in shape)
    return NetGraph(parse_prototxt(f'name: "net" layer {{ name: "data" type: "Input" top: "data" '
                                   f'input_param {{ shape {{ {dims} }} }} }}\n' + "".join(layers)))


def full_random_weights(net, seed=0):
    """Random blobs for every layer that has some, BatchNorm, Scale, Bias and PReLU included."""
    rng = np.random.default_rng(seed)
    weights = random_weights(net, seed)
    for one in net.layers:
        channels = net.input_shape(one)[1] if one.inputs else 0
        if one.type == "BatchNorm":
            # The third blob divides the other two, as in Caffe's running sums.
            weights[one.name] = [rng.normal(size=channels), rng.uniform(0.5, 3, channels), np.array([2.0])]
        elif one.type == "PReLU":
            shape = () if one.proto.prelu_param.channel_shared else (channels,)
            weights[one.name] = [rng.uniform(0.1, 0.5, shape)]
        elif one.type in ("Scale", "Bias"):
            options = getattr(one.proto, f"{one.type.lower()}_param")
            shape = net.input_shape(one)
            start = options.axis % len(shape)
            part = shape[start:] if options.num_axes == -1 else shape[start:start + options.num_axes]
            weights[one.name] = [rng.normal(1, 1, part)] + (
                [rng.normal(size=part)] if one.type == "Scale" and options.bias_term else [])
    return {name: [np.asarray(blob, np.float32) for blob in blobs] for name, blobs in weights.items()}


def biased(kind):
    return f"{kind}_param {{ bias_term: true }}"


# -- every construction: (layers, features to keep) -------------------------------------------------------------

CONSTRUCTIONS = {
    "convolution, pooling, inner product": (
        [conv("a", "data", 6), layer("ReLU", "r", "a", tops="a"), layer("Pooling", "p", "a", POOL), fc("f", "p", 5),
         layer("ReLU", "s", "f", tops="f"), fc("g", "f", 2), layer("Softmax", "prob", "g")],
        {"a": [1, 2, 5], "f": [0, 4]}),
    "transposed inner products": (
        [conv("a", "data", 6), fc("f", "a", 5, "transpose: true"), fc("g", "f", 4, "transpose: true bias_term: false"),
         fc("h", "g", 2)],
        {"a": [0, 5], "f": [1, 2, 3], "g": [0, 3]}),
    "strides, paddings, dilation, no bias": (
        [conv("a", "data", 5, "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 bias_term: false"),
         conv("b", "a", 4, "kernel_size: 3 pad: 2 dilation: 2"), conv("c", "b", 2, "kernel_size: 1")],
        {"a": [4, 1], "b": [2]}),
    "several consumers of one map": (
        [conv("a", "data", 6), conv("b", "a", 4), conv("c", "a", 3, "kernel_size: 3"), fc("f", "a", 3), fc("g", "b", 2),
         layer("Concat", "out", "f g"), fc("h", "c", 2)],
        {"a": [0, 3, 4], "b": [1, 3], "c": [2]}),
    "nested concatenations of three and two": (
        [conv("a", "data", 3), conv("b", "data", 4), conv("c", "data", 5), layer("Concat", "ab", "a b a"),
         layer("Concat", "all", "c ab"), layer("ReLU", "r", "all", tops="all"), conv("d", "all", 4), fc("f", "d", 2)],
        {"a": [2], "c": [0, 3], "d": [1, 2]}),
    "one branch of a concatenation pruned": (
        [conv("a", "data", 3), conv("b", "data", 4), layer("Concat", "ab", "a b", "concat_param { axis: -3 }"),
         fc("f", "ab", 2)], {"b": [0, 3]}),
    "concatenation of rows": (
        [conv("a", "data", 6), layer("Pooling", "p", "a", POOL), layer("Pooling", "q", "a", POOL.replace("2 s", "3 s")),
         layer("Concat", "pq", "p q", "concat_param { axis: 2 }"), fc("f", "pq", 2)], {"a": [0, 2, 3]}),
    "slices with and without slice points": (
        [conv("a", "data", 8), layer("Slice", "s", "a", "slice_param { slice_point: 3 }", tops="s1 s2"),
         conv("b", "s1", 6), layer("Slice", "t", "b", tops="t1 t2"), fc("f", "s2", 2), fc("g", "t1", 2), fc("h", "t2", 2)],
        {"a": [0, 2, 4, 5, 6], "b": [1, 3, 4, 5]}),
    "slices of rows": (
        [conv("a", "data", 4), layer("Slice", "s", "a", "slice_param { axis: 2 slice_point: 2 }", tops="s1 s2"),
         fc("f", "s1", 2), fc("g", "s2", 2)], {"a": [1, 2]}),
    "split and silence": (
        [conv("a", "data", 4), layer("Split", "s", "a", tops="x y"), fc("f", "x", 2), layer("Silence", "t", "y", tops="")],
        {"a": [1, 2]}),
    "flattened maps": (
        [conv("a", "data", 4), layer("Flatten", "v", "a"), layer("ReLU", "r", "v"), fc("f", "v", 2), fc("g", "r", 3),
         conv("b", "a", 4), layer("Flatten", "w", "b", "flatten_param { axis: 2 }"), fc("h", "w", 2)],
        {"a": [1, 2], "b": [0, 1, 3]}),
    "activations that keep zero": (
        [conv("a", "data", 4), layer("TanH", "t", "a"), layer("ELU", "e", "t", tops="t"), layer("AbsVal", "v", "t"),
         layer("Dropout", "d", "v", tops="v"), layer("Power", "w", "v", "power_param { power: 2 scale: 3 }"),
         layer("Threshold", "h", "a", "threshold_param { threshold: 0.1 }"),
         layer("Log", "l", "w", "log_param { shift: 1 scale: 0.2 }"), fc("f", "l", 2), fc("g", "h", 2)],
        {"a": [0, 2]}),
    "PReLU a channel and shared": (
        [conv("a", "data", 4), layer("PReLU", "p", "a", tops="a"), conv("b", "a", 4),
         layer("PReLU", "q", "b", "prelu_param { channel_shared: true }"), fc("f", "q", 3), layer("PReLU", "r", "f"),
         fc("g", "r", 2)], {"a": [0, 3], "b": [1, 2, 3], "f": [2]}),
    "BatchNorm, Scale and ReLU in place": (
        [conv("a", "data", 5, "kernel_size: 3 bias_term: false"), layer("BatchNorm", "bn", "a", tops="a"),
         layer("Scale", "sc", "a", biased("scale"), tops="a"), layer("ReLU", "r", "a", tops="a"), conv("b", "a", 4),
         layer("BatchNorm", "bm", "b"), layer("Scale", "sd", "bm", biased("scale")), fc("f", "sd", 2)],
        {"a": [1, 2, 4], "b": [0, 3]}),
    "BatchNorm alone": (
        [conv("a", "data", 5), layer("BatchNorm", "bn", "a"), fc("f", "bn", 4), layer("BatchNorm", "bm", "f"),
         fc("g", "bm", 2)], {"a": [0, 3], "f": [1, 2]}),
    "BatchNorm over the batch": (
        [conv("a", "data", 5), layer("BatchNorm", "bn", "a", "batch_norm_param { use_global_stats: false }"),
         fc("f", "bn", 2)], {"a": [0, 3]}),
    "BatchNorm and Bias": (
        [conv("a", "data", 5), layer("BatchNorm", "bn", "a", tops="a"), layer("Bias", "bi", "a", tops="a"),
         fc("f", "a", 2)], {"a": [0, 3]}),
    "Scale without offset, over all axes, over rows": (
        [conv("a", "data", 5), layer("Scale", "s", "a"), layer("Scale", "t", "s", "scale_param { num_axes: -1 bias_term: true }"),
         layer("Scale", "u", "t", "scale_param { axis: 2 num_axes: 1 }"),
         layer("Scale", "v", "u", "scale_param { axis: 0 num_axes: 2 bias_term: true }"), fc("f", "v", 2)],
        {"a": [0, 3, 4]}),
    "a grouped convolution pruned": (
        [conv("a", "data", 6, "kernel_size: 3 group: 3"), fc("f", "a", 2)], {"a": [0, 3, 5]}),
    "a grouped convolution behind": (
        [conv("a", "data", 6), conv("b", "a", 4, "kernel_size: 3 group: 2"), conv("c", "b", 6, "kernel_size: 1 group: 2"),
         fc("f", "c", 2)], {"a": [0, 2, 4, 5], "b": [1, 2]}),
    "a depthwise convolution behind": (
        [conv("a", "data", 6), conv("b", "a", 6, "kernel_size: 3 group: 6 pad: 1"), layer("ReLU", "r", "b", tops="b"),
         conv("c", "b", 4, "kernel_size: 1"), fc("f", "c", 2)], {"a": [0, 2, 5], "c": [1, 3]}),
    "a depthwise convolution with two filters a channel": (
        [conv("a", "data", 3), conv("b", "a", 6, "kernel_size: 3 group: 3"), layer("BatchNorm", "bn", "b", tops="b"),
         layer("Scale", "sc", "b", biased("scale"), tops="b"), fc("f", "b", 2)], {"a": [0, 2]}),
    "a depthwise convolution named with its input": (
        [conv("a", "data", 4), conv("b", "a", 8, "kernel_size: 3 group: 4"), fc("f", "b", 2)],
        {"a": [0, 2], "b": [1, 4]}),
    "a depthwise convolution with every group thinned": (
        [conv("b", "data", 6, "kernel_size: 3 group: 3"), fc("f", "b", 2)], {"b": [1, 2, 4]}),
    "deconvolutions pruned and behind": (
        [conv("a", "data", 4), layer("Deconvolution", "b", "a", "convolution_param { num_output: 5 kernel_size: 4 stride: 2 }"),
         conv("c", "b", 2)], {"a": [1, 3], "b": [0, 2, 4]}),
    "grouped and depthwise deconvolutions": (
        [conv("a", "data", 6), layer("Deconvolution", "b", "a", "convolution_param { num_output: 4 kernel_size: 3 group: 2 }"),
         layer("Deconvolution", "c", "b", "convolution_param { num_output: 8 kernel_size: 2 stride: 2 group: 4 }"),
         fc("f", "c", 2)], {"a": [0, 1, 3, 5], "b": [1, 2]}),
    "LRN and MVN within channels": (
        [conv("a", "data", 4), layer("LRN", "l", "a", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }"),
         layer("MVN", "m", "a", "mvn_param { normalize_variance: true }"), fc("f", "l", 2), fc("g", "m", 2)],
        {"a": [0, 2]}),
    "average, global and clipped pooling": (
        [conv("a", "data", 4), layer("Pooling", "p", "a", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
         layer("Pooling", "q", "p", "pooling_param { pool: MAX kernel_size: 3 stride: 3 pad: 2 }"),
         layer("Pooling", "r", "a", "pooling_param { pool: AVE global_pooling: true }"), fc("f", "q", 2), fc("g", "r", 2)],
        {"a": [0, 2]}),
    "cropped rows and columns": (
        [conv("a", "data", 4), conv("b", "data", 3, "kernel_size: 5"),
         layer("Crop", "c", "a b", "crop_param { axis: 2 offset: 1 }"), fc("f", "c", 2), fc("g", "b", 2)],
        {"a": [0, 2], "b": [1]}),
    "obstacles elsewhere": (
        [conv("a", "data", 4), fc("f", "a", 2), conv("b", "data", 4), conv("c", "data", 4),
         layer("Eltwise", "e", "b c"), layer("LRN", "l", "e"), layer("Sigmoid", "s", "l"),
         layer("Reshape", "r", "s", "reshape_param { shape { dim: 0 dim: -1 } }"), fc("g", "r", 2),
         layer("Concat", "h", "f g")], {"a": [0, 2]}),
}

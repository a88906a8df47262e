"""Removing features changes nothing but the zeros: the masked and the slim net are one function, in real Caffe."""

import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.caffemodel import read_weights, write_weights
from pycaffe_tools.nets.netgraph import NetGraph, read_net, write_net
from pycaffe_tools.nets.runtime import load_net, random_weights
from pycaffe_tools.nets.schema import parse_prototxt, read_prototxt
from pycaffe_tools.surgery import files
from pycaffe_tools.surgery.channels import propagate
from pycaffe_tools.surgery.files import open_deploy, write_surgery
from pycaffe_tools.surgery.proof import TOLERANCE, prove, verify
from pycaffe_tools.surgery.surgery import mask_features, remove_features, slim_prototxt

from ..conftest import ROOT


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


@pytest.mark.caffe
@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_masked_and_slim_are_one_function(name):
    layers, keep = CONSTRUCTIONS[name]
    net = net_of(*layers)
    weights = full_random_weights(net, seed=len(name))
    surgery = remove_features(net, weights, keep)
    assert prove(surgery) <= TOLERANCE
    slim = NetGraph(surgery.slim_proto)
    for pruned, kept in keep.items():
        assert slim.layer(pruned).num_output == len(kept) < net.layer(pruned).num_output
    assert slim.parameter_count() < net.parameter_count()
    # The function really changed, else the proof would hold for a surgery that removes nothing.
    original, masked = (load_net(net.proto, blobs) for blobs in (weights, surgery.masked_weights))
    data = np.random.default_rng(1).standard_normal(original.blobs["data"].data.shape)
    for running in (original, masked):
        running.blobs["data"].data[...] = data
        running.forward()
    assert any(np.abs(original.blobs[value.blob].data - masked.blobs[value.blob].data).max() > 1e-3
               for value in net.outputs)


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_masking_changes_nothing_but_to_zero_and_leaves_the_given_weights_alone(name):
    pytest.importorskip("caffe")  # some of these layers' options are not in the built-in schema
    layers, keep = CONSTRUCTIONS[name]
    net = net_of(*layers)
    weights = full_random_weights(net)
    before = {key: [blob.copy() for blob in blobs] for key, blobs in weights.items()}
    surgery = remove_features(net, weights, keep)
    for key, blobs in weights.items():
        for blob, copy, masked in zip(blobs, before[key], surgery.masked_weights[key]):
            np.testing.assert_array_equal(blob, copy)
            assert ((masked == blob) | (masked == 0)).all()
    for pruned, kept in keep.items():
        if net.layer(pruned).type == "Convolution":
            zero = [not surgery.masked_weights[pruned][0][feature].any()
                    for feature in range(net.layer(pruned).num_output)]
            assert [feature for feature, gone in enumerate(zero) if not gone] == sorted(kept)


def test_blobs_by_hand():
    net = net_of(conv("a", "data", 3, "kernel_size: 1"), fc("f", "a", 2), shape=(1, 1, 1, 2))
    weights = {"a": [np.float32([1, 2, 3]).reshape(3, 1, 1, 1), np.float32([10, 20, 30])],
               "f": [np.arange(12, dtype=np.float32).reshape(2, 6), np.float32([5, 6])]}
    surgery = remove_features(net, weights, {"a": [2, 0]})
    np.testing.assert_array_equal(surgery.slim_weights["a"][0].ravel(), [1, 3])
    np.testing.assert_array_equal(surgery.slim_weights["a"][1], [10, 30])
    # Each channel has two columns: 0 1 | 2 3 | 4 5.
    np.testing.assert_array_equal(surgery.slim_weights["f"][0], [[0, 1, 4, 5], [6, 7, 10, 11]])
    np.testing.assert_array_equal(surgery.masked_weights["a"][0].ravel(), [1, 0, 3])
    np.testing.assert_array_equal(surgery.masked_weights["a"][1], [10, 0, 30])
    np.testing.assert_array_equal(surgery.masked_weights["f"][0], weights["f"][0])


@pytest.mark.caffe
def test_slim_net_is_what_double_precision_numpy_says():
    net = net_of(*CONSTRUCTIONS["convolution, pooling, inner product"][0], shape=(2, 3, 8, 9))
    weights = random_weights(net, seed=3)
    keep = {"a": [1, 2, 5], "f": [0, 4]}
    surgery = remove_features(net, weights, keep)
    running = load_net(surgery.slim_proto, surgery.slim_weights)
    data = np.random.default_rng(4).standard_normal((2, 3, 8, 9)).astype(np.float32)
    running.blobs["data"].data[...] = data
    running.forward()

    # Original weights, in double precision; the maps and outputs that are not kept are set to zero.
    filters, bias = (blob.astype(float) for blob in weights["a"])
    maps = np.zeros((2, 6, 6, 7))
    for row in range(6):
        for column in range(7):
            window = data[:, :, row:row + 3, column:column + 3].astype(float)
            maps[:, :, row, column] = np.einsum("nchw,ochw->no", window, filters) + bias
    maps = np.maximum(maps, 0)
    maps[:, [0, 3, 4]] = 0
    pooled = np.zeros((2, 6, 3, 4))
    for row in range(3):
        for column in range(4):  # the last window of a row is one column wide
            pooled[:, :, row, column] = maps[:, :, 2 * row:2 * row + 2, 2 * column:2 * column + 2].max((2, 3))
    hidden = np.maximum(pooled.reshape(2, -1) @ weights["f"][0].T.astype(float) + weights["f"][1], 0)
    hidden[:, [1, 2, 3]] = 0
    scores = hidden @ weights["g"][0].T.astype(float) + weights["g"][1]
    prob = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(running.blobs["g"].data, scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(running.blobs["prob"].data, prob, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(running.blobs["p"].data, pooled[:, keep["a"]], rtol=1e-5, atol=1e-5)


@pytest.mark.caffe
def test_the_proof_notices_one_wrong_weight():
    layers, keep = CONSTRUCTIONS["convolution, pooling, inner product"]
    net = net_of(*layers)
    surgery = remove_features(net, random_weights(net), keep)
    assert verify(surgery) <= TOLERANCE
    surgery.slim_weights["f"][0][0, :12] = surgery.slim_weights["f"][0][0, 12:24]
    assert verify(surgery) > 1e-3
    with pytest.raises(UserError, match="the masked and the slim net differ"):
        prove(surgery)


@pytest.mark.caffe
def test_the_proof_notices_a_removed_map_that_is_not_zero():
    net = net_of(conv("a", "data", 4), layer("BatchNorm", "bn", "a"), fc("f", "bn", 2))
    weights = full_random_weights(net)
    surgery = remove_features(net, weights, {"a": [0, 1, 2]})
    # What masking the convolution alone would give: BatchNorm makes -mean / deviation of the zero map.
    surgery.masked_weights["bn"] = weights["bn"]
    assert verify(surgery) == np.inf


@pytest.mark.caffe
def test_undefined_weights_are_no_proof():
    net = net_of(conv("a", "data", 4), fc("f", "a", 2))
    weights = random_weights(net)
    weights["f"][0][0, 0] = np.nan
    with pytest.raises(UserError, match="differ by inf"):
        prove(remove_features(net, weights, {"a": [0, 1]}))


# -- refusals ----------------------------------------------------------------------------------------------------

# name: (layers, keep, the layer to be pruned, the obstacle, a word of the reason)
OBSTACLES = {
    "LRN": ([conv("a", "data", 4), layer("ReLU", "r", "a", tops="a"), layer("LRN", "lrn", "a"), fc("f", "lrn", 2)],
            "a", "lrn", "across channels"),
    "MVN": ([conv("a", "data", 4), layer("MVN", "m", "a", "mvn_param { across_channels: true }"), fc("f", "m", 2)],
            "a", "m", "across channels"),
    "Eltwise": ([conv("a", "data", 4), conv("b", "data", 4), layer("Eltwise", "sum", "a b"), fc("f", "sum", 2)],
                "b", "sum", "several layers"),
    "Softmax": ([conv("a", "data", 4), layer("Softmax", "s", "a"), fc("f", "s", 2)], "a", "s", "other than zero"),
    "Sigmoid": ([conv("a", "data", 4), layer("Sigmoid", "s", "a"), fc("f", "s", 2)], "a", "s", "other than zero"),
    "Exp": ([conv("a", "data", 4), layer("Exp", "s", "a"), fc("f", "s", 2)], "a", "s", "other than zero"),
    "BNLL": ([conv("a", "data", 4), layer("BNLL", "s", "a"), fc("f", "s", 2)], "a", "s", "other than zero"),
    "shifted Power": ([conv("a", "data", 4), layer("Power", "s", "a", "power_param { shift: 1 }"), fc("f", "s", 2)],
                      "a", "s", "other than zero"),
    "Threshold below zero": ([conv("a", "data", 4), layer("Threshold", "s", "a", "threshold_param { threshold: -1 }"),
                              fc("f", "s", 2)], "a", "s", "other than zero"),
    "Reshape": ([conv("a", "data", 4), layer("Reshape", "s", "a", "reshape_param { shape { dim: 0 dim: -1 } }"),
                 fc("f", "s", 2)], "a", "s", "not understood"),
    "unknown type": ([conv("a", "data", 4), layer("Riddle", "s", "a"), layer("ReLU", "r", "s")], "a", "s", "not understood"),
    "uneven groups of inputs": ([conv("a", "data", 4), conv("b", "a", 4, "kernel_size: 1 group: 2"), fc("f", "b", 2)],
                                "a", "b", "2 groups"),
    "an emptied group": ([conv("a", "data", 8), conv("b", "a", 4, "kernel_size: 1 group: 4"), fc("f", "b", 2)],
                         "a", "b", "4 groups"),
    "a combining Scale": ([conv("a", "data", 4), conv("b", "data", 4), layer("Scale", "s", "b a"), fc("f", "s", 2)],
                          "a", "s", "several inputs"),
    "a Bias over rows": ([conv("a", "data", 4), layer("Bias", "s", "a", "bias_param { axis: 2 }"), fc("f", "s", 2)],
                         "a", "s", "adds the same"),
    "an inner product over rows": ([conv("a", "data", 4), fc("f", "a", 2, "axis: 2"), fc("g", "f", 2)],
                                   "a", "f", "from axis 2"),
    "concatenated rows of different maps": (
        [conv("a", "data", 4), conv("b", "data", 4), layer("Concat", "c", "a b", "concat_param { axis: 2 }"), fc("f", "c", 2)],
        "a", "c", "another axis"),
    "an emptied slice": ([conv("a", "data", 4), layer("Slice", "s", "a", "slice_param { slice_point: 3 }", tops="x y"),
                          fc("f", "x", 2), fc("g", "y", 2)], "a", "s", "without any channel"),
    "a crop of channels": ([conv("a", "data", 4), conv("b", "data", 3), layer("Crop", "c", "a b", "crop_param { axis: 1 }"),
                            fc("f", "c", 2), fc("g", "b", 2)], "a", "c", "by position"),
    "an output": ([conv("a", "data", 4), layer("ReLU", "r", "a")], "a", "r", "output 'r'"),
    "shared parameters": (
        [conv("a", "data", 4), fc("f", "a", 2).replace(' } }', ' } param { name: "w" } }'),
         conv("b", "data", 4), fc("g", "b", 2).replace(' } }', ' } param { name: "w" } }')],
        "a", "f", "shares its parameters with layer g"),
}


@pytest.mark.caffe
@pytest.mark.parametrize("name", OBSTACLES)
def test_what_would_change_the_function_is_refused(name):
    layers, pruned, obstacle, reason = OBSTACLES[name]
    net = net_of(*layers)
    keep = {"an emptied group": [2, 3, 4, 5, 6, 7]}.get(name, [0, 1, 2])
    with pytest.raises(UserError) as refusal:
        propagate(net, {pruned: keep})
    assert re.match(f"layer {pruned}: features cannot be removed", str(refusal.value))
    assert f"layer {obstacle} behind it" in str(refusal.value) and reason in str(refusal.value)


def test_the_output_layer_is_refused_by_name():
    net = read_net(ROOT / "prototxt/N7/deploy.prototxt")
    with pytest.raises(UserError, match="layer fc5: features cannot be removed .* Softmax layer prob behind it"):
        propagate(net, {"c1": [0, 1], "fc5": [0]})
    with pytest.raises(UserError, match="layer f: .* because it makes the net's output 'f'"):
        propagate(net_of(fc("f", "data", 3)), {"f": [0]})


def test_only_the_layer_whose_features_meet_the_obstacle_is_named():
    net = net_of(conv("a", "data", 4), conv("b", "a", 4), layer("LRN", "n", "b"), fc("f", "n", 2))
    with pytest.raises(UserError, match="^layer b: .* LRN layer n behind it"):
        propagate(net, {"a": [0, 1], "b": [0, 1]})


def test_uneven_groups_of_the_pruned_layer_are_refused():
    net = net_of(conv("a", "data", 6, "kernel_size: 3 group: 3"), fc("f", "a", 2))
    with pytest.raises(UserError, match="layer a: .* because it has 3 groups that would keep unequal numbers of features, 1 to 2"):
        propagate(net, {"a": [0, 1, 2, 4]})
    depthwise = net_of(conv("a", "data", 4), conv("b", "a", 4, "kernel_size: 3 group: 4"), fc("f", "b", 2))
    with pytest.raises(UserError, match="layer b: .* 4 groups"):
        propagate(depthwise, {"b": [0, 1]})
    with pytest.raises(UserError, match="layers a, b: .* keep feature 3, which is made of a removed channel alone"):
        propagate(depthwise, {"a": [0, 1], "b": [1, 3]})


def test_a_layer_that_shares_its_parameters_cannot_be_pruned():
    shared = [conv(name, "data", 4).replace(" } }", ' } param { name: "w" } }') for name in "ab"]
    net = net_of(*shared, layer("Concat", "c", "a b"), fc("f", "c", 2))
    with pytest.raises(UserError, match="layer a: .* because it shares its parameters with layer b"):
        propagate(net, {"a": [0, 1]})
    assert propagate(net, {"a": [0, 1, 2, 3]}).removed(net.layer("a").outputs[0]) is None


@pytest.mark.parametrize("keep, message", [
    ({"a": []}, "layer a: would keep no feature at all"),
    ({"a": [0, 4]}, "layer a: 4 is not one of its features, which are numbered 0 to 3"),
    ({"a": [-1]}, "layer a: -1 is not one"),
    ({"a": [0, 1, 0]}, "layer a: feature 0 stands twice"),
    ({"a": [0.0]}, "layer a: 0.0 is not one"),
    ({"a": [True]}, "layer a: True is not one"),
    ({"a": ["1"]}, "layer a: '1' is not one"),
    ({"a": 3}, "layer a: the features to keep must be a list of whole numbers, not 3"),
    ({"a": "012"}, "layer a: the features to keep must be a list"),
    ({"a": {"0": 1}}, "layer a: the features to keep must be a list"),
    ({"nowhere": [0]}, "has no layer 'nowhere'; its layers are a, r, f"),
    ({"r": [0]}, "layer r: is a ReLU layer, which has no features"),
])
def test_a_keep_list_that_does_not_fit_is_refused(keep, message):
    net = net_of(conv("a", "data", 4), layer("ReLU", "r", "a"), fc("f", "r", 2))
    with pytest.raises(UserError, match=message):
        propagate(net, keep)


def test_the_order_of_indexes_means_nothing():
    net = net_of(conv("a", "data", 4), fc("f", "a", 2))
    weights = random_weights(net)
    first, second = (remove_features(net, weights, {"a": keep}) for keep in ([3, 0, 2], [0, 2, 3]))
    assert first.keep == second.keep == {"a": [0, 2, 3]}
    np.testing.assert_array_equal(first.slim_weights["a"][0], weights["a"][0][[0, 2, 3]])
    for name in weights:
        for one, other in zip(first.slim_weights[name], second.slim_weights[name]):
            np.testing.assert_array_equal(one, other)


def test_masking_is_removing_the_others():
    net = net_of(conv("a", "data", 4), fc("f", "a", 3), fc("g", "f", 2))
    weights = random_weights(net)
    masked = mask_features(net, weights, {"a": [1], "f": [0, 2]})
    wanted = remove_features(net, weights, {"a": [0, 2, 3], "f": [1]}).masked_weights
    for name in weights:
        for one, other in zip(masked[name], wanted[name]):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="layer a: has no feature 4"):
        mask_features(net, weights, {"a": [4]})


def test_weights_that_do_not_fit_are_refused():
    net = net_of(conv("a", "data", 4), layer("BatchNorm", "bn", "a"), fc("f", "bn", 2))
    weights = full_random_weights(net)
    with pytest.raises(UserError, match=r"hold nothing for layer f"):
        remove_features(net, {**weights, "f": []}, {"a": [0]})
    with pytest.raises(UserError, match=r"layer a has blobs \[\(4, 2, 3, 3\), \(4,\)\], but net net asks for"):
        remove_features(net, {**weights, "a": [weights["a"][0][:, :2], weights["a"][1]]}, {"a": [0]})
    with pytest.raises(UserError, match=r"layer bn has blobs missing, but net net asks for \[\(4,\), \(4,\), \(1,\)\]"):
        remove_features(net, {name: weights[name] for name in "af"}, {"a": [0]})


# -- the paper's networks ----------------------------------------------------------------------------------------

def keep_of(name, seed=0):
    rng = np.random.default_rng(seed)
    return {layer: rng.permutation(paper.TABLE_1["N"][layer])[:count].tolist()
            for layer, count in paper.TABLE_1[name].items()}


@pytest.mark.caffe
@pytest.mark.parametrize("name", ["N1", "N7"])
def test_from_n_to_the_networks_of_table_1(name):
    net = read_net(ROOT / "prototxt/N/deploy.prototxt")
    surgery = remove_features(net, random_weights(net, seed=1), keep_of(name))
    assert prove(surgery) <= TOLERANCE
    slim, committed = NetGraph(surgery.slim_proto), read_net(ROOT / "prototxt" / name / "deploy.prototxt")
    assert slim.parameter_count() == committed.parameter_count()
    assert slim.memory_bytes() == committed.memory_bytes()
    # Layer by layer the slim net is the committed one, apart from its name.
    slim.proto.name = committed.proto.name
    assert slim.proto == committed.proto


def test_the_training_net_follows():
    proto = read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    slim = slim_prototxt(proto, keep_of("N7"), {"data": (1, 1, 32, 32)})
    wanted = read_prototxt(ROOT / "prototxt/N7/train_val.prototxt")
    wanted.name = "N"
    assert slim == wanted
    assert proto == read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    with pytest.raises(UserError, match="net N: has no layer c9, which is to be pruned"):
        slim_prototxt(proto, {"c9": [0]})


@pytest.mark.caffe
def test_an_obstacle_in_the_training_net_alone_is_found():
    proto = read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    proto.layer.add(name="norm", type="LRN", bottom=["p2"], top=["norm"]).include.add(phase=0)
    with pytest.raises(UserError, match="layer c2: .* LRN layer norm behind it normalises across channels"):
        slim_prototxt(proto, {"c2": [0]}, {"data": (1, 1, 32, 32)})


# -- old files ---------------------------------------------------------------------------------------------------

@pytest.mark.caffe
def test_old_layers_and_four_dimensional_blobs(tmp_path):
    text = """name: "old" input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
        layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
        layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
        layers { name: "ip" type: INNER_PRODUCT bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
        layers { name: "ip2" type: INNER_PRODUCT bottom: "ip" top: "ip2" inner_product_param { num_output: 2 } }"""
    model = parse_prototxt(text)
    rng = np.random.default_rng(0)
    for name, shapes in {"conv": [(4, 3, 3, 3), (1, 1, 1, 4)], "ip": [(1, 1, 5, 36), (1, 1, 1, 5)],
                         "ip2": [(1, 1, 2, 5), (1, 1, 1, 2)]}.items():
        for shape in shapes:
            blob = next(one for one in model.layers if one.name == name).blobs.add()
            blob.num, blob.channels, blob.height, blob.width = shape
            blob.data.extend(rng.standard_normal(int(np.prod(shape))).astype(np.float32).tolist())
    (tmp_path / "deploy.prototxt").write_text(text)
    (tmp_path / "old.caffemodel").write_bytes(model.SerializeToString())
    surgery = remove_features(open_deploy(tmp_path / "deploy.prototxt"), read_weights(tmp_path / "old.caffemodel"),
                              {"conv": [1, 3], "ip": [0, 1, 4]})
    assert write_surgery(tmp_path / "out", surgery) <= TOLERANCE
    slim = read_weights(tmp_path / "out" / "weights.caffemodel")
    assert [blob.shape for blob in slim["conv"] + slim["ip"]] == [(2, 3, 3, 3), (2,), (3, 18), (3,)]
    ip = np.array(model.layers[3].blobs[0].data).reshape(5, 4, 9)
    np.testing.assert_allclose(slim["ip"][0], ip[[0, 1, 4]][:, [1, 3]].reshape(3, 18), rtol=1e-6)


# -- the command -------------------------------------------------------------------------------------------------

@pytest.fixture
def trained(tmp_path):
    """A small model on disk, and a file of what to keep."""
    net = net_of(conv("a", "data", 4), layer("ReLU", "r", "a", tops="a"), fc("f", "a", 2), layer("Softmax", "prob", "f"))
    write_net(tmp_path / "deploy.prototxt", net.proto)
    write_weights(tmp_path / "weights.caffemodel", net, random_weights(net))
    (tmp_path / "keep.json").write_text('{"a": [3, 1]}')
    return tmp_path


def command(folder, *more):
    arguments = [str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"), str(folder / "out"),
                 "--keep-file", str(folder / "keep.json"), *more]
    return subprocess.run([sys.executable, "-m", "pycaffe_tools.surgery", *arguments], cwd=ROOT, text=True,
                          capture_output=True)


@pytest.mark.caffe
def test_the_command_writes_both_forms_and_caffe_runs_them(trained):
    done = command(trained)
    assert done.returncode == 0, done.stderr
    assert re.search(r"differ by at most [\d.e-]+ of the largest", done.stdout)
    out = trained / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "deploy.prototxt", "masked.caffemodel", "masked.prototxt", "weights.caffemodel"]
    from pycaffe_tools.nets.runtime import import_caffe
    caffe = import_caffe()
    outputs = []
    for proto, weights in (("masked.prototxt", "masked.caffemodel"), ("deploy.prototxt", "weights.caffemodel")):
        running = caffe.Net(str(out / proto), str(out / weights), caffe.TEST)
        running.blobs["data"].data[...] = np.random.default_rng(9).standard_normal(running.blobs["data"].data.shape)
        outputs.append(running.forward()["prob"].copy())
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5)
    again = command(trained)
    assert again.returncode == 1 and "out: exists already" in again.stderr
    training = read_prototxt(trained / "deploy.prototxt")
    training.layer[0].type, training.layer[-1].type = "HDF5Data", "SoftmaxWithLoss"
    training.layer[0].ClearField("input_param")
    training.layer[0].top.append("label")
    training.layer[-1].bottom.append("label")
    write_net(trained / "train_val.prototxt", training)
    assert command(trained, "--force", "--train-val", str(trained / "train_val.prototxt")).returncode == 0
    training.layer[1].convolution_param.num_output = 2
    assert read_prototxt(out / "train_val.prototxt") == training


@pytest.mark.caffe
def test_the_command_names_what_is_wrong_and_leaves_nothing(trained):
    def refused(*more):
        done = command(trained, *more)
        assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (trained / "out").exists() and not list(trained.glob(".out*"))
        return done.stderr

    (trained / "keep.json").write_text('{"a": [9]}')
    assert "keep.json: layer a: 9 is not one of its features" in refused()
    (trained / "keep.json").write_text("[1]")
    assert "keep.json: must hold the features to keep of each layer" in refused()
    (trained / "keep.json").write_text('{"a": [0]}')
    assert "train_val.prototxt: there is no such file" in refused("--train-val", str(trained / "train_val.prototxt"))
    whole = (trained / "weights.caffemodel").read_bytes()
    (trained / "weights.caffemodel").write_bytes(whole[:-100])
    assert "weights.caffemodel: is not a whole caffemodel" in refused()
    other = net_of(conv("a", "data", 5), fc("f", "a", 2))
    write_weights(trained / "weights.caffemodel", other, random_weights(other))
    assert "weights.caffemodel: layer a has blobs [(5, 3, 3, 3), (5,)]" in refused()


@pytest.mark.caffe
def test_a_net_that_caffe_itself_refuses_ends_in_a_sentence(trained):
    # Caffe's LRN takes odd sizes only, and ends the process that asks for another.
    net = net_of(conv("a", "data", 4), layer("LRN", "n", "a", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 4 }"),
                 fc("f", "n", 2))
    write_net(trained / "deploy.prototxt", net.proto)
    write_weights(trained / "weights.caffemodel", net, random_weights(net))
    done = command(trained)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert re.match(r"error: .*deploy\.prototxt: Caffe refuses it: .*odd values for local_size", done.stderr)
    assert not (trained / "out").exists() and not list(trained.glob(".out*"))


@pytest.mark.caffe
def test_weights_of_layers_that_the_net_has_not_are_left_out_aloud(trained):
    net = read_net(trained / "deploy.prototxt")
    more = net_of(*CONSTRUCTIONS["convolution, pooling, inner product"][0])
    blobs = {**random_weights(more), **random_weights(net)}
    write_weights(trained / "weights.caffemodel", net_of(
        conv("a", "data", 4), fc("f", "a", 2), fc("g", "f", 2)), {"a": blobs["a"], "f": blobs["f"], "g": blobs["g"]})
    done = command(trained)
    assert done.returncode == 0 and "left out" in done.stderr and "weights of g" in done.stderr
    assert "g" not in read_weights(trained / "out" / "weights.caffemodel")


def test_a_training_net_is_not_taken_for_a_deployed_one():
    with pytest.raises(UserError, match="train_val.prototxt: has the HDF5Data layer data, so it is a training net; "
                                        "give its deploy prototxt"):
        open_deploy(ROOT / "prototxt/N/train_val.prototxt")


def test_the_training_net_must_be_that_of_the_deployed_one(trained):
    net = read_net(ROOT / "prototxt/N7/deploy.prototxt")
    surgery = remove_features(net, random_weights(net), {"c1": [0, 1]})
    with pytest.raises(UserError, match="layer c1 has 100 features in the training net and 30 in the deployed one"):
        files.write_files(trained, surgery, read_prototxt(ROOT / "prototxt/N/train_val.prototxt"))


@pytest.mark.caffe
def test_a_failed_proof_leaves_nothing(trained, monkeypatch):
    net = read_net(trained / "deploy.prototxt")
    surgery = remove_features(net, random_weights(net), {"a": [0, 1]})
    surgery.slim_weights["a"][0][0] += 1
    with pytest.raises(UserError, match="nothing was written"):
        write_surgery(trained / "out", surgery)
    assert not (trained / "out").exists() and not list(trained.glob(".out*"))


KILLED = """
import sys, time
from pathlib import Path
from pycaffe_tools.nets.caffemodel import read_weights
from pycaffe_tools.surgery import files
from pycaffe_tools.surgery.surgery import remove_features
net = files.open_deploy(sys.argv[1])
result = remove_features(net, read_weights(sys.argv[2]), {"a": [0, 1]})
write = files.write_files
def halting(directory, *arguments):
    write(directory, *arguments)
    (Path(directory) / files.SLIM_WEIGHTS).unlink()
    print("half", flush=True)
    time.sleep(60)
files.write_files = halting
files.write_surgery(sys.argv[3], result)
"""


@pytest.mark.caffe
def test_a_killed_process_leaves_nothing_that_looks_whole(trained):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(trained / "deploy.prototxt"),
                                str(trained / "weights.caffemodel"), str(trained / "out")], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == "half"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (trained / "out").exists() and list(trained.glob(".out.partial-*"))
    net = open_deploy(trained / "deploy.prototxt")
    write_surgery(trained / "out", remove_features(net, read_weights(trained / "weights.caffemodel"), {"a": [0, 1]}))
    assert (trained / "out" / "weights.caffemodel").is_file() and not list(trained.glob(".out.partial-*"))

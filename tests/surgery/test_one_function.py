"""Removing features changes nothing but the zeros: the masked and the slim net are one function, in real Caffe."""


import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.nets.running.runtime import load_net, random_weights
from pycaffe_tools.surgery.proof import TOLERANCE, prove
from pycaffe_tools.surgery.surgery import mask_features, remove_features

from .cases import CONSTRUCTIONS, conv, fc, full_random_weights, net_of


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

"""Each criterion on a net whose answer is known by hand."""

import numpy as np
import pytest

caffe = pytest.importorskip("caffe")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.oracle.oracle import PruningProblem
from pycaffe_tools.oracle.plain import PlainOracle
from pycaffe_tools.ordering.criteria import (
    absolute_weights,
    first_order_change,
    fraction_of_zeros,
    random_order,
    scores,
)

from ..oracle_nets import graph, pruning_problem

# Three features look at one pixel each of a 1x4 image, with a ReLU in place; then two scores.
HAND = """
name: "hand" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 4 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "ip" type: "InnerProduct" bottom: "c1" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def hand():
    """Features x, 3 - x and -2x of the patches (0, 1, 2, 3) and (4, -1, 0, 2), which ip adds up with weights."""
    weights = {
        "c1": [np.array([1, -1, -2], np.float32).reshape(3, 1, 1, 1), np.array([0, 3, 0], np.float32)],
        "ip": [np.zeros((2, 12), np.float32), np.zeros(2, np.float32)],
    }
    weights["ip"][0][1] = [.1, .1, .1, .1, .3, .3, .3, .3, .2, .2, .2, .2]
    data = np.array([[0, 1, 2, 3], [4, -1, 0, 2]], np.float32).reshape(2, 1, 1, 4)
    return PruningProblem(graph(HAND), weights, "c1", data, np.array([1, 0]))


def test_apoz_is_the_fraction_of_zeros_after_the_relu():
    # x: 0 1 2 3 | 4 0 0 2;  3 - x: 3 2 1 0 | 0 4 3 1;  -2x: 0 0 0 0 | 0 2 0 0.
    assert list(fraction_of_zeros(hand())) == [3 / 8, 2 / 8, 7 / 8]


def test_apoz_discards_the_feature_with_most_zeros_first():
    assert np.argsort(scores(hand(), "apoz")).tolist() == [2, 0, 1]


def test_apoz_without_a_relu_is_refused():
    text = HAND.replace('layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }', "")
    with pytest.raises(UserError, match="layer c1: no ReLU"):
        fraction_of_zeros(hand()._replace(graph=graph(text)))


def test_l1_is_the_sum_of_absolute_weights_without_the_bias_smallest_first():
    known = hand()
    assert list(absolute_weights(known)) == [1, 1, 2]
    known.weights["c1"][0][0] = -4
    known.weights["c1"][1][:] = 100
    assert np.argsort(scores(known, "l1")).tolist() == [1, 2, 0]


def test_taylor_is_the_absolute_mean_of_activation_times_gradient():
    known = hand()
    activations = np.array([[[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 0, 0]],
                            [[4, 0, 0, 2], [0, 4, 3, 1], [0, 2, 0, 0]]], np.float64)
    slopes = np.array([0.1, 0.3, 0.2])
    score = (activations * slopes[:, None]).sum(axis=(1, 2))
    probability = 1 / (1 + np.exp(-score))
    # Class 1 for the first patch, class 0 for the second; the score is that of class 1.
    by_score = np.array([probability[0] - 1, probability[1]])
    by_patch = np.abs((activations * slopes[:, None]).mean(axis=2) * by_score[:, None])
    np.testing.assert_allclose(first_order_change(known), by_patch.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("name, layer", [("small", "c2"), ("small", "fc4"), ("varied", "c1"), ("lenet", "c2")])
def test_taylor_is_the_slope_of_the_loss_as_a_map_is_scaled(name, layer):
    """One patch: activation times gradient, summed over the map, is dL/ds where the map is multiplied by s."""
    known = pruning_problem(name, layer, patches=1)
    positions = int(np.prod(known.graph.output_shape(known.graph.layer(layer))[2:]))
    found = first_order_change(known) * positions
    step = 1e-2

    def scaled(feature, factor):
        weights = {key: [blob.copy() for blob in blobs] for key, blobs in known.weights.items()}
        for blob in weights[layer]:
            blob[feature] *= factor
        return PlainOracle(known._replace(weights=weights)).loss()

    for feature in range(4):
        slope = (scaled(feature, 1 + step) - scaled(feature, 1 - step)) / (2 * step)
        assert found[feature] == pytest.approx(abs(slope), rel=0.02, abs=2e-5)


def test_random_order_is_a_permutation_that_the_seed_and_the_layer_decide():
    first = random_order(20, "c1", 0)
    assert sorted(first) == list(range(20))
    assert np.array_equal(first, random_order(20, "c1", 0))
    assert not np.array_equal(first, random_order(20, "c1", 1))
    assert not np.array_equal(first, random_order(20, "c2", 0))

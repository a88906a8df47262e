"""What would change the function, or does not fit the net, is refused by name."""

import re

import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.netgraph import read_net
from pycaffe_tools.surgery.channels import propagate
from pycaffe_tools.surgery.surgery import remove_features

from ..conftest import ROOT
from .cases import conv, fc, full_random_weights, layer, net_of

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


def test_weights_that_do_not_fit_are_refused():
    net = net_of(conv("a", "data", 4), layer("BatchNorm", "bn", "a"), fc("f", "bn", 2))
    weights = full_random_weights(net)
    with pytest.raises(UserError, match=r"hold nothing for layer f"):
        remove_features(net, {**weights, "f": []}, {"a": [0]})
    with pytest.raises(UserError, match=r"layer a has blobs \[\(4, 2, 3, 3\), \(4,\)\], but net net asks for"):
        remove_features(net, {**weights, "a": [weights["a"][0][:, :2], weights["a"][1]]}, {"a": [0]})
    with pytest.raises(UserError, match=r"layer bn has blobs missing, but net net asks for \[\(4,\), \(4,\), \(1,\)\]"):
        remove_features(net, {name: weights[name] for name in "af"}, {"a": [0]})

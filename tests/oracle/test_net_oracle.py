"""The oracle of all layers at once gives the losses of an ordinary pass, whatever was removed before and where."""

import numpy as np
import pytest

caffe = pytest.importorskip("caffe")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.running.runtime import load_net
from pycaffe_tools.oracle.arithmetic import layout
from pycaffe_tools.oracle.fast import FastOracle
from pycaffe_tools.oracle.net_incremental import NetIncremental, find_chain
from pycaffe_tools.oracle.net_oracle import open_net_oracle
from pycaffe_tools.ordering.ordering import prunable_layers

from ..oracle_nets import LENET, graph, pruning_problem

NETS = ["small", "small_48", "lenet", "varied", "wide"]


def fast(known, **options):
    """The incremental oracle of all layers in this process."""
    return open_net_oracle(known, workers=0, batch_size=16, **options)


def by_hand(known, removed):
    """Mean loss by an ordinary pycaffe pass over all patches with the removed features' weights and biases 0."""
    net = load_net(known.graph.with_batch(len(known.data)), known.weights)
    for layer, feature in removed:
        for blob in net.params[layer]:
            blob.data[feature] = 0
    net.blobs["data"].data[...] = known.data
    output = net.forward()
    values = list(output.values())[0].astype(np.float64).reshape(len(known.data), -1)
    if "prob" not in output:
        values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    return -np.log(values[np.arange(len(values)), known.labels]).mean()


def removals(net, seed):
    """All features but one of every layer, in a random order."""
    generator = np.random.default_rng(seed)
    pairs = [(name, int(feature)) for name in prunable_layers(net)
             for feature in generator.permutation(net.layer(name).num_output)[1:]]
    return [pairs[number] for number in generator.permutation(len(pairs))]


@pytest.mark.parametrize("name", NETS)
def test_losses_in_all_layers_are_those_of_an_ordinary_pass_whatever_was_removed(name):
    known = pruning_problem(name, "")
    oracle, removed = fast(known), []
    for layer, feature in removals(known.graph, 1):
        if len(removed) % 3 == 0:
            for where, candidates in oracle.layers.items():
                features = candidates.features[::4]
                expected = [by_hand(known, removed + [(where, candidate)]) for candidate in features]
                np.testing.assert_allclose(candidates.losses(features), expected, rtol=5e-6)
                assert oracle.exact_loss(where, features[0]) == pytest.approx(expected[0], rel=1e-6)
                assert candidates.loss() == pytest.approx(by_hand(known, removed), rel=5e-6)
        oracle.remove(layer, feature)
        removed.append((layer, feature))
    assert all(len(candidates.features) == 1 for candidates in oracle.layers.values())
    assert oracle.loss() == pytest.approx(by_hand(known, removed), rel=5e-6)


def test_plain_losses_are_those_of_an_ordinary_pass():
    known = pruning_problem("small", "")
    oracle = fast(known, plain=True)
    oracle.remove("c2", 3)
    oracle.remove("c1", 0)
    removed = [("c2", 3), ("c1", 0)]
    for layer, feature in (("c1", 5), ("c3", 1), ("fc4", 10)):
        expected = by_hand(known, removed + [(layer, feature)])
        assert oracle.layers[layer].losses([feature])[0] == pytest.approx(expected, rel=1e-6)
    assert oracle.loss() == oracle.exact_loss("c1") == pytest.approx(by_hand(known, removed), rel=1e-6)


def test_terms_in_memory_change_no_bit_and_survive_removals_elsewhere(monkeypatch):
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 1)
    known = pruning_problem("small", "", patches=70)
    caching, forgetful = NetIncremental(known, 16, 1 << 30), NetIncremental(known, 16, 1 << 30)
    for layer, feature in [("c2", 2), ("fc4", 7), ("c1", 4), ("c2", 5), ("c3", 0), ("c1", 8)]:
        for engine in (caching, forgetful):
            engine.remove(layer, feature)
        caching.cache_terms("c1", range(4))
        for _ in range(2):
            for where, candidates in (("c1", [0, 1, 5, -1]), ("c2", [0, 6]), ("fc4", [0, 10])):
                assert np.array_equal(caching.sums(where, candidates), forgetful.sums(where, candidates))


def test_a_feature_dead_at_first_may_come_alive_and_another_die():
    """Map 0 of c2 is 1 - a_0 + a_1 - ...: whether it is ever above 0 depends on what is left of c1."""
    known = pruning_problem("small", "")
    weights = {name: [blob.copy() for blob in blobs] for name, blobs in known.weights.items()}
    weights["c1"][0][:2] = 0
    weights["c1"][1][:2] = 1
    weights["c2"][0][:2] = 0
    weights["c2"][0][0, 0, 0, 0], weights["c2"][1][0] = -2, 1
    weights["c2"][0][1, 1, 0, 0], weights["c2"][1][1] = 2, -1
    oracle = fast(known._replace(weights=weights))
    assert oracle.is_dead("c2", 0) and not oracle.is_dead("c2", 1)
    oracle.remove("c1", 0)
    oracle.remove("c1", 1)
    oracle.refresh()
    assert not oracle.is_dead("c2", 0) and oracle.is_dead("c2", 1)


def test_smallest_below_a_limit_is_the_smallest_or_none(monkeypatch):
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 1)
    oracle = fast(pruning_problem("small", "", patches=400))
    for candidates in oracle.layers.values():
        found = candidates.smallest()
        assert candidates.smallest_below(float("inf"))[:2] == found[:2]
        assert candidates.smallest_below(found.loss * 1.0001)[:2] == found[:2]
        assert candidates.smallest_below(found.loss * 0.9999) is None
        evaluated = candidates.evaluated
        assert candidates.smallest_below(found.loss / 3) is None
        assert candidates.evaluated - evaluated < 0.6 * len(candidates.features)


def test_two_processes_give_the_losses_of_one():
    known = pruning_problem("small", "")
    shared, alone = open_net_oracle(known, batch_size=16), fast(known)
    try:
        for layer, feature in (("c2", 3), ("c1", 1)):
            shared.remove(layer, feature)
            alone.remove(layer, feature)
        for layer, candidates in alone.layers.items():
            np.testing.assert_allclose(shared.layers[layer].losses(candidates.features),
                                       candidates.losses(candidates.features), rtol=1e-6)
    finally:
        shared.close()


def test_what_breaks_the_chain_is_named_and_the_plain_way_taken(capsys):
    known = pruning_problem(LENET.replace('type: "ReLU"', 'type: "Sigmoid"'), "")
    oracle = fast(known)
    assert "layer relu1: layers of type Sigmoid are not" in capsys.readouterr().err
    assert not any(isinstance(candidates, FastOracle) for candidates in oracle.layers.values())
    with pytest.raises(UserError, match="layer relu1: layers of type Sigmoid"):
        find_chain(known.graph)


def test_memory_is_bounded():
    with pytest.raises(UserError, match="--max-memory: ordering all layers.*needs about"):
        NetIncremental(pruning_problem("small", ""), 16, max_memory=1 << 20)


def test_every_net_here_is_a_chain():
    assert all(find_chain(graph(name)).names == prunable_layers(graph(name)) for name in NETS)

"""The incremental oracle gives the losses of the plain one, and the plain one those of Caffe as anyone would run it."""

import os
import re
import signal

import numpy as np
import pytest

caffe = pytest.importorskip("caffe")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.running.runtime import load_net, random_weights
from pycaffe_tools.oracle.arithmetic import layout
from pycaffe_tools.oracle.arithmetic.candidates import STAGES, TermCache
from pycaffe_tools.oracle.fast import DistributedOracle, FastOracle, open_oracle
from pycaffe_tools.oracle.incremental import Incremental
from pycaffe_tools.oracle.oracle import LARGEST_LOSS, Smallest, first_of_ties, softmax_loss, without_features
from pycaffe_tools.oracle.parts import LocalPart
from pycaffe_tools.oracle.plain import PlainOracle
from pycaffe_tools.oracle.route import obstacle
from pycaffe_tools.ordering.ordering import prunable_layers

from ..oracle_nets import LENET, PATCHES, graph, pruning_problem, trained_weights

LAYERS = [(name, layer) for name in ("small", "small_40", "small_48", "lenet", "varied", "wide") for layer in prunable_layers(graph(name))]


def fast(known, **options):
    """The incremental oracle in this process."""
    return open_oracle(known, workers=0, batch_size=16, **options)


def by_hand(known, removed):
    """Mean loss by an ordinary pycaffe pass over all patches with the removed features' weights and biases 0."""
    net = load_net(known.graph.with_batch(len(known.data)), known.weights)
    for blob in net.params[known.layer]:
        blob.data[list(removed)] = 0
    net.blobs["data"].data[...] = known.data
    output = net.forward()
    values = list(output.values())[0].astype(np.float64).reshape(len(known.data), -1)
    if "prob" not in output:
        values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    return -np.log(values[np.arange(len(values)), known.labels]).mean()


def test_softmax_loss_of_hand_worked_scores():
    scores = np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 2.0]], np.float32)
    expected = [np.log(2), np.log(1 + np.exp(-2)), np.log(2)]
    np.testing.assert_allclose(softmax_loss(scores, np.array([0, 1, 1])), expected, rtol=1e-12)


def test_softmax_loss_stops_where_caffes_does():
    scores = np.array([[0.0], [1000.0]], np.float32)
    assert softmax_loss(scores, np.array([0]))[0] == LARGEST_LOSS == pytest.approx(87.33655, abs=1e-5)


def test_first_of_ties_is_the_lowest_number_within_1e_minus_7():
    assert first_of_ties([5, 2, 9], [1.0, 1.0 + 0.9e-7, 1.0]) == 2
    assert first_of_ties([5, 2, 9], [1.0, 1.0 + 1.2e-7, 1.0]) == 5


def test_smallest_of_one_has_no_runner_up():
    assert Smallest.of([4], [0.5]) == (4, 0.5, None, None)
    assert Smallest.of([4, 6, 1], [0.5, 0.25, 1.0]) == (6, 0.25, 4, 0.25)


@pytest.mark.parametrize("name, layer", LAYERS)
def test_plain_losses_are_those_of_an_ordinary_pass(name, layer):
    known = pruning_problem(name, layer)
    oracle = PlainOracle(known, batch_size=16)
    oracle.remove(1)
    expected = [by_hand(known, [1]), by_hand(known, [1, 0]), by_hand(known, [1, 2])]
    np.testing.assert_allclose(oracle.losses([-1, 0, 2]), expected, rtol=1e-6)
    assert oracle.loss() == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize("name, layer", LAYERS)
def test_running_only_the_layers_that_change_gives_the_same_bits(name, layer):
    known = pruning_problem(name, layer)
    partly, wholly = PlainOracle(known, 16), PlainOracle(known, 16, from_start=True)
    assert np.array_equal(partly.sums([-1, 0, 1]), wholly.sums([-1, 0, 1]))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name, layer", LAYERS)
def test_incremental_losses_equal_plain_losses_at_every_step(name, layer, seed):
    known = pruning_problem(name, layer, seed)
    assert obstacle(known.graph, layer) is None
    quick, plain = fast(known), PlainOracle(known, 16)
    for feature in list(plain.features)[::-1]:
        np.testing.assert_allclose(quick.losses([-1] + plain.features), plain.losses([-1] + plain.features), rtol=2e-6)
        quick.remove(feature)
        plain.remove(feature)
    np.testing.assert_allclose(quick.loss(), plain.loss(), rtol=2e-6)


@pytest.mark.parametrize("layer", ["c1", "c2", "c3", "fc4"])
def test_incremental_losses_equal_plain_losses_on_trained_weights(layer):
    known = pruning_problem("small", layer)
    # Every eighth label is wrong, so that the loss stays of the size that real patches have.
    labels = np.where(np.arange(PATCHES) % 8, known.labels, 1 - known.labels)
    known = known._replace(weights=trained_weights(known.graph, known.data, labels), labels=labels)
    quick, plain = fast(known), PlainOracle(known, 16)
    assert 0.05 < plain.loss() < 0.6
    np.testing.assert_allclose(quick.losses(quick.features), plain.losses(plain.features), rtol=2e-6)


@pytest.mark.parametrize("layer", ["c1", "c2", "fc4"])
def test_several_chunks_and_the_cache_change_no_bit(layer, monkeypatch):
    known = pruning_problem("small", layer, patches=70)
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 1)
    with_cache, without = Incremental(known, 16, 1 << 30), Incremental(known, 16, 1 << 30)
    without._candidates.cache = TermCache(0)
    for engine in (with_cache, without):
        engine.cache_terms(range(3, 6))
    for _ in range(2):
        assert np.array_equal(with_cache.sums(range(7)), without.sums(range(7)))
    for engine in (with_cache, without):
        engine.remove(4)
        engine.cache_terms([6, 0])
    assert np.array_equal(with_cache.sums([-1, 0, 1, 6]), without.sums([-1, 0, 1, 6]))
    stages = [with_cache.sums([0, 1], [stage])[0] for stage in range(STAGES)]
    assert np.array_equal(stages, with_cache.sums([0, 1]))


def test_patches_of_high_loss_come_first_so_that_losers_are_dropped_soon(monkeypatch):
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 1)
    known = pruning_problem("small", "c1", patches=32 * 8)
    losses = Incremental(known, 16, 1 << 30).sums([-1])[:, 0]
    expected = np.sort(PlainOracle(known, 16).patch_losses())[::-1].reshape(8, 32).sum(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


class FixedSums:
    """An engine with given sums, and others by passes of the net."""

    def __init__(self, quick, exact, dead=()):
        self.quick, self.exact, self._dead, self.passed = dict(enumerate(quick)), exact, list(dead), []

    def dead(self):
        return self._dead

    def scale(self):
        return 0.5

    def cache_terms(self, features):
        pass

    def sums(self, candidates, stages):
        return np.array([[self.quick[feature] / STAGES for feature in candidates]] * len(stages))

    def exact_sums(self, candidates):
        self.passed += candidates
        return np.array([self.exact[feature] for feature in candidates])


def test_candidates_closer_than_rounding_are_decided_by_passes_of_the_net():
    engine = FixedSums(quick=[9.0, 4.0000004, 4.0, 5.0], exact={1: 3.9999, 2: 4.0})
    oracle = FastOracle([LocalPart(engine)], 2, 4)
    found = oracle.smallest()
    assert (found.feature, found.runner_up, sorted(engine.passed), oracle.forward_passes) == (1, 2, [1, 2], 2)
    assert found.loss == 3.9999 / 2


def test_candidates_further_apart_than_rounding_cost_no_pass():
    engine = FixedSums(quick=[9.0, 4.0001, 4.0, 5.0], exact={})
    assert FastOracle([LocalPart(engine)], 2, 4).smallest().feature == 2 and not engine.passed


def test_dead_features_that_tie_cost_no_pass_and_one_that_ties_with_another_costs_two():
    engine = FixedSums(quick=[9.0, 4.0, 4.0, 5.0], exact={}, dead=[1, 2])
    assert FastOracle([LocalPart(engine)], 2, 4).smallest().feature == 1 and not engine.passed
    engine = FixedSums(quick=[4.0, 4.0, 4.0, 5.0], exact={0: 4.1, 1: 4.0}, dead=[1, 2])
    assert FastOracle([LocalPart(engine)], 2, 4).smallest().feature == 1 and sorted(engine.passed) == [0, 1]


@pytest.mark.parametrize("name, layer", [("small", "c1"), ("small", "fc4"), ("lenet", "ip1")])
def test_dropping_candidates_early_changes_neither_winner_nor_runner_up_nor_margin(name, layer, monkeypatch):
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 1)
    known = pruning_problem(name, layer, patches=400)
    dropping, patient = fast(known), fast(known, dropping=False)
    dropped = 0
    while len(dropping.features) > 1:
        found, expected = dropping.smallest(), patient.smallest()
        assert found == expected
        dropped += sum(np.isinf(total) for total in dropping._last.values())
        dropping.remove(found.feature)
        patient.remove(expected.feature)
    assert dropped > 0


def test_dead_features_cost_exactly_nothing_and_the_lowest_goes_first():
    known = pruning_problem("small", "c2")
    weights = without_features(known.weights, {})
    for feature in (5, 2):
        weights["c2"][0][feature] = 0
        weights["c2"][1][feature] = -1
    oracle = fast(known._replace(weights=weights))
    before = oracle.loss()
    assert list(oracle.losses([2, 5])) == [before, before]
    assert oracle.dead == {2, 5}


def test_duplicated_features_are_decided_by_passes_of_the_net_and_the_lowest_goes_first():
    known = pruning_problem("small", "c2")
    weights = without_features(known.weights, {})
    best = fast(known).smallest().feature
    other = (best + 3) % 7
    for blob in weights["c2"]:
        blob[other] = blob[best]
    weights["c3"][0][:, other] = weights["c3"][0][:, best]
    known = known._replace(weights=weights)
    quick, plain = fast(known), PlainOracle(known, 16)
    found, expected = quick.smallest(), plain.smallest()
    assert found.feature == expected.feature
    if expected.feature in (best, other):
        assert expected.feature == min(best, other) and quick.forward_passes >= 2


def test_incremental_memory_is_bounded():
    with pytest.raises(UserError, match="--max-memory.*needs about"):
        Incremental(pruning_problem("small", "c1"), 16, max_memory=1 << 20)


def test_two_processes_give_the_losses_of_one():
    known = pruning_problem("small", "c2")
    shared, alone = open_oracle(known, workers=2, batch_size=16), fast(known)
    try:
        np.testing.assert_allclose(shared.losses(range(7)), alone.losses(range(7)), rtol=1e-6)
        shared.remove(3)
        alone.remove(3)
        assert shared.smallest().feature == alone.smallest().feature
    finally:
        shared.close()


def test_a_process_that_is_killed_is_told_in_one_sentence():
    oracle = open_oracle(pruning_problem("small", "fc4"), workers=1, batch_size=16)
    os.kill(oracle.parts[0].process_id, signal.SIGKILL)
    with pytest.raises(UserError, match="ended by signal 9"):
        oracle.losses([0])
    oracle.close()



def between(layers, after='name: "p1"'):
    """LeNet with layers put in behind the line that holds ``after``; what reads p1 then reads "x"."""
    lines = []
    for line in LENET.splitlines():
        lines.append(line.replace('bottom: "p1"', 'bottom: "x"') if 'name: "c2"' in line else line)
        if after in line:
            lines += layers
    return "\n".join(lines)


OBSTACLES = [
    (['layer { name: "norm1" type: "LRN" bottom: "p1" top: "x" }'], "norm1.*LRN"),
    (['layer { name: "sig1" type: "Sigmoid" bottom: "p1" top: "x" }'], "sig1.*Sigmoid"),
    (['layer { name: "bn1" type: "BatchNorm" bottom: "p1" top: "x" }'], "bn1.*BatchNorm"),
    (['layer { name: "s1" type: "Softmax" bottom: "p1" top: "x" }'], "s1.*Softmax"),
    (['layer { name: "r" type: "ReLU" bottom: "p1" top: "q" }',
      'layer { name: "sum" type: "Eltwise" bottom: "p1" bottom: "q" top: "x" }'], "2 layers .r, sum. read 'p1'"),
    (['layer { name: "st" type: "Pooling" bottom: "p1" top: "x" pooling_param { pool: STOCHASTIC kernel_size: 1 } }'],
     "st.*stochastic"),
]


@pytest.mark.parametrize("layers, names", OBSTACLES)
def test_what_breaks_the_condition_is_named_and_the_plain_way_taken(layers, names, capsys):
    known = pruning_problem(between(layers), "c1")
    assert re.search(names, obstacle(known.graph, "c1"))
    assert obstacle(known.graph, "ip1") is None
    if "bn1" in names or "st." in names:
        return  # the random weights have none for a BatchNorm, and Caffe on the CPU has no stochastic pooling
    oracle = open_oracle(known, workers=0, batch_size=16)
    assert not isinstance(oracle, FastOracle) and isinstance(oracle, DistributedOracle)
    assert "forward pass for every candidate" in capsys.readouterr().err
    assert oracle.losses([2])[0] == pytest.approx(by_hand(known, [2]), rel=1e-5)


BRANCHES = """
name: "branches" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 6 dim: 6 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "c3" type: "Convolution" bottom: "c2" top: "c3"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "c3" top: "sum" }
layer { name: "ip1" type: "InnerProduct" bottom: "sum" top: "ip1" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }
"""


@pytest.mark.parametrize("layer", ["c1", "c2", "c3"])
def test_a_branch_around_the_layer_is_run_with_it(layer):
    known = pruning_problem(BRANCHES, layer)
    oracle = open_oracle(known, workers=0, batch_size=16, quiet=True)
    np.testing.assert_allclose(oracle.losses([0, 2]), [by_hand(known, [0]), by_hand(known, [2])], rtol=1e-5)


def test_the_output_layer_has_no_route():
    assert "output layer" in obstacle(graph("lenet"), "ip2")


def test_removing_a_feature_that_is_not_there_is_refused():
    weights = random_weights(graph("lenet"))
    with pytest.raises(UserError, match="layer c1: has features 0 to 5"):
        without_features(weights, {"c1": [6]})
    with pytest.raises(UserError, match="layer c9"):
        without_features(weights, {"c9": [0]})


def test_transposed_inner_products_are_refused():
    text = LENET.replace("num_output: 10", "num_output: 10 transpose: true")
    known = pruning_problem(text, "c1")
    with pytest.raises(UserError, match="ip1.*transposed"):
        open_oracle(known._replace(layer="ip1"), workers=0)

"""The global order: right at every step, the same both ways, resumable, stopped where it is told to."""

import json
import math

import numpy as np
import pytest

caffe = pytest.importorskip("caffe")
h5py = pytest.importorskip("h5py")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.oracle.fast import FastOracle
from pycaffe_tools.ordering import global_order
from pycaffe_tools.ordering.cost.model import ArithmeticCost, ParameterCost, with_counts
from pycaffe_tools.ordering.global_order import Stop, order_globally, read_global_ordering
from pycaffe_tools.ordering.greedy import Removal, choose, largest_rise, score
from pycaffe_tools.ordering.ordering import OrderingOptions, prunable_layers

from ..conftest import ROOT
from ..oracle.test_net_oracle import by_hand
from ..oracle_nets import LENET, SMALL_COUNTS, graph, pruning_problem, trained_weights
from .test_ordering import call, model, sample  # noqa: F401


class Price:
    """A cost of so much for each feature of a layer."""

    unit = "coins"

    def __init__(self, net, **prices):
        self._counts = {name: net.layer(name).num_output for name in prunable_layers(net)}
        self._prices = {**dict.fromkeys(self._counts, 1.0), **prices}

    def cost(self, counts):
        return sum(self._prices[name] * counts.get(name, count) for name, count in self._counts.items())

    def as_json(self):
        return {"cost": "price", "prices": self._prices}


def order(known, cost=None, stop=global_order.TO_THE_END, log=None, **options):
    """Order the features of a problem's net in this process."""
    how = OrderingOptions(**{"workers": 0, "quiet": True, **options})
    return order_globally(known.graph, known.weights, sample(known), cost or ParameterCost(known.graph), how, stop=stop, log=log)


def taken(ordering):
    """Layer and feature of each step."""
    return [(step.layer, step.feature) for step in ordering.steps]


def assert_same_order(found, expected):
    """The same features, and losses equal to 1e-5."""
    assert taken(found) == taken(expected)
    for name in ("loss", "cost"):
        np.testing.assert_allclose([getattr(step, name) for step in found.steps],
                                   [getattr(step, name) for step in expected.steps], rtol=1e-5)
    assert found.loss_before == pytest.approx(expected.loss_before, rel=1e-5)


def trained():
    """The small net after a short training, with every eighth label wrong so that the loss is that of real patches."""
    known = pruning_problem("small", "", patches=25)
    labels = np.where(np.arange(len(known.labels)) % 8, known.labels, 1 - known.labels)
    return known._replace(weights=trained_weights(known.graph, known.data, labels), labels=labels)


# -- one step ----------------------------------------------------------------------------------------------------

def test_a_rise_is_divided_by_what_is_saved_and_a_fall_multiplied():
    assert score(0.5, 4) == 0.125 and score(-0.5, 4) == -2 and score(0, 4) == 0
    assert score(0.5, 0) == math.inf and score(-0.5, 0) == 0


def test_a_lower_loss_and_a_larger_saving_are_always_better():
    values = [-3.0, -1.0, 0.0, 0.5, 2.0]
    for low, high in zip(values, values[1:]):
        for saving in (0.5, 1.0, 7.0):
            assert score(low, saving) < score(high, saving)
    for rise in (-1.0, 0.5):
        assert score(rise, 2.0) < score(rise, 1.0)


@pytest.mark.parametrize("best", [-2.0, -0.125, 0.0, 0.25, 3.0])
@pytest.mark.parametrize("saving", [0.5, 1.0, 8.0])
def test_the_largest_rise_is_where_the_score_crosses_the_best_one(best, saving):
    rise = largest_rise(best, saving)
    assert score(rise, saving) == best and score(rise + 1e-6, saving) > best > score(rise - 1e-6, saving)


def test_what_saves_nothing_wins_only_where_everything_else_costs_as_much():
    assert largest_rise(math.inf, 0.0) == math.inf and largest_rise(-1.0, 0.0) == -math.inf
    assert largest_rise(0.5, 0.0) == 0.0 and largest_rise(math.inf, 2.0) == math.inf


def test_rises_within_a_tie_are_none():
    assert Removal("c1", 0, 1 + 0.9e-7, 1.0, 2.0).rise == 0 and Removal("c1", 0, 1 + 2e-7, 1.0, 2.0).rise > 0
    assert Removal("c1", 0, 1.5, 1.0, 2.0).ratio == 0.25 and Removal("c1", 0, 1.5, 1.0, 0.0).ratio is None


class FixedLayer(FastOracle):
    """The candidates of a layer with losses that are given, and others by passes of the net."""

    def __init__(self, losses, exact=None, dead=()):
        self.features, self.dead, self.near = list(range(len(losses))), set(dead), 1e-6
        self._losses, self._exact, self.limits = losses, exact or {}, []

    def find_dead(self):
        return self.dead

    def find_near(self):
        return self.near

    def smallest_below(self, limit):
        self.limits.append(limit)
        found = greedy_smallest(self._losses)
        return found if found.loss <= limit else None

    def exact_sums(self, candidates):
        return np.array([self._exact[candidate] for candidate in candidates])

    def loss(self):
        return 1.0


def greedy_smallest(losses):
    from pycaffe_tools.oracle.oracle import Smallest
    return Smallest.of(range(len(losses)), losses)


def net_oracle(**layers):
    from pycaffe_tools.oracle.net_oracle import NetOracle
    return NetOracle([], layers, 1)


def test_the_least_loss_for_the_saving_wins_and_bounds_the_layers_below():
    low, high = FixedLayer([1.5, 1.35]), FixedLayer([1.2, 1.1])
    assert choose(net_oracle(low=low, high=high), {"low": 4.0, "high": 1.0})[:3] == ("low", 1, 1.35)
    assert choose(net_oracle(low=low, high=high), {"low": 3.0, "high": 1.0})[:3] == ("high", 1, 1.1)
    assert low.limits[-1] == pytest.approx(1 + 0.1 * 3, abs=1e-5)
    assert choose(net_oracle(low=low, high=high), {"low": 1.0})[:2] == ("low", 1)


def test_what_lowers_the_loss_goes_first_and_the_larger_saving_is_no_drawback():
    low, high = FixedLayer([0.9]), FixedLayer([0.9])
    assert choose(net_oracle(low=low, high=high), {"low": 4.0, "high": 1.0})[0] == "low"
    assert choose(net_oracle(low=low, high=high), {"low": 1.0, "high": 4.0})[0] == "high"


def test_scores_closer_than_rounding_are_decided_by_passes_of_the_net():
    low, high = FixedLayer([1.1], {0: 1.2, -1: 1.0}), FixedLayer([1.1 - 1e-7], {0: 1.3, -1: 1.0})
    found = choose(net_oracle(low=low, high=high), {"low": 1.0, "high": 1.0})
    assert found == Removal("low", 0, 1.2, 1.0, 1.0)


def test_dead_features_that_tie_cost_no_pass_and_the_larger_saving_goes_first():
    low, high = FixedLayer([1.0], dead=[0]), FixedLayer([1.0], dead=[0])
    assert choose(net_oracle(low=low, high=high), {"low": 1.0, "high": 2.0})[0] == "high"
    assert choose(net_oracle(low=low, high=high), {"low": 1.0, "high": 1.0})[0] == "low"


# -- the whole order ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["small", "lenet", "wide"])
def test_the_incremental_order_is_the_plain_one_with_random_weights(name, seed):
    known = pruning_problem(name, "", seed, patches=25)
    found, expected = order(known), order(known, plain=True)
    assert_same_order(found, expected)
    assert found.counts(len(found.steps)) == dict.fromkeys(found.layers, 1)
    assert len(set(taken(found))) == sum(found.layers.values()) - len(found.layers)


@pytest.mark.parametrize("cost", [ArithmeticCost, Price])
def test_the_incremental_order_is_the_plain_one_with_trained_weights(cost):
    known = trained()
    found, expected = order(known, cost(known.graph)), order(known, cost(known.graph), plain=True)
    assert_same_order(found, expected)
    assert found.audit["relative_difference"] < 1e-6


def test_duplicated_and_dead_features_take_their_places_both_ways():
    known = pruning_problem("small", "")
    weights = {name: [blob.copy() for blob in blobs] for name, blobs in known.weights.items()}
    for layer in ("c1", "c3"):
        for blob in weights[layer]:
            blob[5] = blob[1]
            blob[[2, 4]] = 0
        weights[layer][1][[2, 4]] = -1
    weights["c2"][0][:, 5] = weights["c2"][0][:, 1]
    known = known._replace(weights=weights)
    found, expected = order(known, stop=Stop(steps=8)), order(known, plain=True, stop=Stop(steps=8))
    assert_same_order(found, expected)


def test_each_step_can_be_recomputed_with_plain_pycaffe_from_the_file(tmp_path):
    known, prices = trained(), {"c1": 5.0, "fc4": 0.25}
    cost = Price(known.graph, **prices)
    order(known, cost, stop=Stop(steps=3)).write(tmp_path / "global.json")
    content = json.loads((tmp_path / "global.json").read_text())
    assert content["cost"] == {**cost.as_json(), "unit": "coins"} and content["rows"] == list(range(25))
    assert content["layers"] == SMALL_COUNTS and content["cost_before"] == cost.cost({})
    removed, now, total = [], content["loss_before"], content["cost_before"]
    assert now == pytest.approx(by_hand(known, []), rel=1e-5)
    for step in content["steps"]:
        scores = {}
        for layer, count in SMALL_COUNTS.items():
            for feature in set(range(count)) - {gone for name, gone in removed if name == layer}:
                rise, saving = by_hand(known, removed + [(layer, feature)]) - by_hand(known, removed), prices.get(layer, 1.0)
                scores[layer, feature] = rise / saving if rise > 0 else rise * saving
        chosen, saving = (step["layer"], step["feature"]), prices.get(step["layer"], 1.0)
        assert scores[chosen] <= min(scores.values()) + 1e-6
        removed.append(chosen)
        assert step["loss"] == pytest.approx(by_hand(known, removed), rel=1e-5)
        assert step["ratio"] == pytest.approx((step["loss"] - now) / saving, abs=1e-6)
        assert step["cost"] == total - saving
        now, total = step["loss"], step["cost"]


def test_an_ordering_file_comes_back_as_it_was(tmp_path):
    found = order(pruning_problem("small", ""), stop=Stop(steps=5))
    found.write(tmp_path / "global.json")
    assert read_global_ordering(tmp_path / "global.json") == found
    assert sum(map(len, found.removed(4).values())) == 4
    with pytest.raises(UserError, match="ends after 5"):
        found.removed(6)
    (tmp_path / "other.json").write_text('{"format": 1, "steps": []}')
    with pytest.raises(UserError, match="other.json: is not the file of a global ordering"):
        read_global_ordering(tmp_path / "other.json")


def test_the_file_and_its_log_hold_what_is_documented(tmp_path):
    found = order(pruning_problem("lenet", ""), stop=Stop(steps=1), log=tmp_path / "global.log")
    documented = (ROOT / "docs" / "file-formats.md").read_text().split("### Global ordering")[1].split("###")[0]
    header, step = [json.loads(line) for line in (tmp_path / "global.log").read_text().splitlines()]
    for name in (*found.as_json(), *found.as_json()["steps"][0], *found.audit, *header, *step):
        assert f"`{name}`" in documented


def test_a_log_cut_anywhere_is_completed_to_the_same_order(tmp_path):
    known, log = pruning_problem("small", ""), tmp_path / "global.log"
    whole = order(known, stop=Stop(steps=8), log=log)
    content = log.read_bytes()
    assert json.loads(content.splitlines()[3])["step"] == 3
    for end in (0, content.find(b"\n") + 1, len(content) // 2, len(content) - 1):
        log.write_bytes(content[:end])
        assert order(known, stop=Stop(steps=8), log=log) == whole
    assert order(known, stop=Stop(steps=3), log=log).steps == whole.steps[:3]
    with pytest.raises(UserError, match="global.log: is the log of another ordering"):
        order(known, Price(known.graph), log=log)


def test_it_ends_at_counts_at_a_cost_or_after_some_steps():
    known = pruning_problem("lenet", "")
    cost = ParameterCost(known.graph)
    down = order(known, stop=Stop({"c1": 5, "ip1": 8}))
    assert down.counts(len(down.steps)) == {"c1": 5, "c2": 1, "ip1": 8} and down.down_to == {"c1": 5, "c2": 1, "ip1": 8}
    target = 0.5 * cost.cost({})
    half = order(known, stop=Stop(target_cost=target))
    assert half.steps[-1].cost <= target < half.steps[-2].cost
    assert half.steps == order(known).steps[:len(half.steps)]
    assert order(known, stop=Stop(steps=0)).steps == []
    with pytest.raises(UserError, match="--target-cost: at c1 6, c2 1, ip1 1 the net still costs"):
        order(known, stop=Stop({"c1": 6}, target_cost=10))
    with pytest.raises(UserError, match="--down-to c1=7: layer c1 has 6 features"):
        order(known, stop=Stop({"c1": 7}))
    with pytest.raises(UserError, match="--down-to ip2=1: there is no such layer to prune; choose among c1, c2, ip1"):
        order(known, stop=Stop({"ip2": 1}))


def test_an_audit_that_fails_ends_in_an_error(monkeypatch):
    monkeypatch.setattr("pycaffe_tools.oracle.net_oracle.NetOracle.exact_loss", lambda self, layer, candidate=-1: 0.5)
    with pytest.raises(RuntimeError, match="after 2 steps the loss is"):
        order(pruning_problem("lenet", ""), stop=Stop(steps=2))


def test_costs_are_those_of_the_pruned_net():
    net = graph("lenet")
    # c1 has 6 x 25 weights and 6 biases, c2 8 x 6 x 9 and 8, ip1 10 x 72 and 10 (maps of 3 x 3), ip2 3 x 10 and 3.
    assert ParameterCost(net).cost({}) == 156 + 440 + 730 + 33
    assert ParameterCost(net).cost({"c2": 7}) == 156 + (7 * 54 + 7) + (10 * 63 + 10) + 33
    assert with_counts(net, {"c1": 2}).parameter_count() == 52 + (8 * 18 + 8) + 730 + 33
    with pytest.raises(UserError, match="has no layer 'c9'"):
        with_counts(net, {"c9": 2})


def test_arithmetic_is_that_of_the_dense_net_which_not_every_net_has():
    net = graph("small")
    # A seven-by-seven kernel on one channel, for each pixel: features of c1 also feed the 6 x 6 taps of c2 (exact edges).
    assert ArithmeticCost(net).cost({}) - ArithmeticCost(net).cost({"c1": 8}) == 49 + 36 * 7
    with pytest.raises(UserError, match="--cost macs: counts the dense net's arithmetic, but layer"):
        ArithmeticCost(graph("varied"))


def test_command_line_orders_all_layers_together(model, tmp_path):  # noqa: F811
    known, folder = model
    arguments = (folder, "--data", tmp_path, "--global", "--cost", "parameters", "--batches", 2, "--batch-size", 20,
                 "--workers", 1, "--down-to", "fc4=9", "--target-cost", 0.6, "-o", tmp_path / "global.json")
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert "loss" in result.output and "parameters" in result.output and "fc4 11 -> " in result.output
    written = read_global_ordering(tmp_path / "global.json")
    assert written.steps[-1].cost <= 0.6 * written.cost_before < written.steps[-2].cost
    assert list((folder / "orderings").glob("global-parameters-*.log"))
    again = call(*arguments)
    assert isinstance(again.exception, UserError) and "--force" in str(again.exception)
    assert call(*arguments, "--force").exit_code == 0
    for wrong in (("--layer", "c1"), ("--criterion", "l1"), ("--time-model", "x.json")):
        assert call(*arguments, *wrong).exit_code == 2
    assert call(folder, "--data", tmp_path, "--layer", "c1", "--cost", "macs", "-o", tmp_path / "c1.json").exit_code == 2


def test_a_net_that_the_incremental_evaluation_cannot_follow_is_ordered_plainly(capsys):
    known = pruning_problem(LENET.replace('type: "ReLU"', 'type: "Sigmoid"'), "")
    found = order(known, stop=Stop(steps=2), quiet=False)
    assert "forward pass for every candidate, since layer relu1" in capsys.readouterr().err
    assert_same_order(found, order(known, stop=Stop(steps=2), plain=True))

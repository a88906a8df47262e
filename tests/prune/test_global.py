"""Pruning in the global order: the features that the order says go, and the loss is the one that it promises."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.caffe

import pycaffe_tools
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files.caffemodel import read_weights, write_weights
from pycaffe_tools.nets.model import finish_model
from pycaffe_tools.nets.netgraph import read_net
from pycaffe_tools.nets.running.runtime import forward_patches, load_net, random_weights
from pycaffe_tools.ordering.cost.model import ParameterCost
from pycaffe_tools.ordering.global_order import order_globally
from pycaffe_tools.ordering.ordering import OrderingOptions
from pycaffe_tools.ordering.sample import draw_sample
from pycaffe_tools.plots.figure_3 import read_curves

from .cases import COUNTS, small_model
from .test_prune import TWINS

SAMPLE = {"batches": 2, "batch_size": 20, "seed": 5, "workers": 1}


@pytest.fixture(scope="module")
def source(database, tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("models") / "small", database)


@pytest.fixture(scope="module")
def half(source, database, tmp_path_factory):
    out = tmp_path_factory.mktemp("pruned") / "half"
    return pycaffe_tools.prune(None, source.directory, database.directory, out, target_macs=0.4, globally=True,
                               cost="parameters", **SAMPLE)


def record(model):
    return json.loads((model.directory / "pruning.json").read_text())


def loss_by_caffe(net, weights, rows, database):
    from pycaffe_tools.patches.shards import read_rows
    data, labels = read_rows(database.train, rows)
    probability = forward_patches(load_net(net.with_batch(len(data)), weights), data)[np.arange(len(data)), labels.astype(int)]
    return -np.mean(np.log(probability.astype(np.float64)))


def test_after_each_number_of_steps_the_loss_is_that_of_plain_caffe(half, source, database):
    """The features of the first k steps are zeroed by hand in the unpruned net."""
    content = record(half)
    steps = content["global"]["steps"]
    assert content["order"] == "global" and len(steps) == sum(COUNTS.values()) - sum(half.counts.values()) > 3
    for k in (0, 1, len(steps) // 2, len(steps)):
        weights = source.load_weights()
        for step in steps[:k]:
            for blob in weights[step["layer"]]:
                blob[step["feature"]] = 0
        expected = steps[k - 1]["loss"] if k else content["global"]["loss_before"]
        assert loss_by_caffe(source.net(), weights, content["rows"], database) == pytest.approx(expected, rel=1e-5)


def test_the_written_models_have_the_loss_of_the_last_step(half, database):
    content = record(half)
    for prototxt, caffemodel in (("masked.prototxt", "masked.caffemodel"), ("deploy.prototxt", "weights.caffemodel")):
        found = loss_by_caffe(read_net(half.directory / prototxt), read_weights(half.directory / caffemodel), content["rows"],
                              database)
        assert found == pytest.approx(content["global"]["steps"][-1]["loss"], rel=1e-5)
    assert content["audit"]["loss"] == pytest.approx(found, rel=1e-6)


def test_what_stays_has_the_weights_that_it_had(half, source):
    keep, before, after = record(half)["keep"], source.load_weights(), half.load_weights()
    np.testing.assert_array_equal(after["c1"][0], before["c1"][0][keep["c1"]])
    np.testing.assert_array_equal(after["c2"][0], before["c2"][0][keep["c2"]][:, keep["c1"]])
    np.testing.assert_array_equal(after["fc4"][1], before["fc4"][1][keep["fc4"]])
    for layer, stays in keep.items():
        gone = [step["feature"] for step in record(half)["global"]["steps"] if step["layer"] == layer]
        assert sorted(stays + gone) == list(range(COUNTS[layer]))


def test_the_steps_are_those_of_the_order_itself(half, source, database):
    net = source.net()
    order = order_globally(net, source.load_weights(), draw_sample(database, 2, 20, 5), ParameterCost(net),
                           OrderingOptions(workers=0, quiet=True, plain=True))
    steps = len(record(half)["global"]["steps"])
    assert [(step["layer"], step["feature"]) for step in record(half)["global"]["steps"]] == [step[:2] for step in order.steps[:steps]]
    assert half.counts == order.counts(steps)


def test_the_share_is_reached_and_one_step_before_it_is_not(half, source):
    from pycaffe_tools.dense_plan.plan import make_plan
    from pycaffe_tools.ordering.cost.model import with_counts
    last = record(half)["global"]["steps"][-1]["layer"]
    whole, now, before = (make_plan(with_counts(source.net(), counts)).multiply_accumulates()
                          for counts in ({}, half.counts, {**half.counts, last: half.counts[last] + 1}))
    assert now <= 0.4 * whole < before


def test_further_and_shorter_prunings_share_one_log(half, source, database, tmp_path):
    logs = list((source.directory / "orderings").glob("global-*"))
    assert len(logs) == 1
    before = logs[0].read_bytes()
    shorter = pycaffe_tools.prune(None, source.directory, database.directory, tmp_path / "shorter", target_macs=0.7,
                                  globally=True, cost="parameters", **SAMPLE)
    assert logs[0].read_bytes() == before
    longer = pycaffe_tools.prune(None, source.directory, database.directory, tmp_path / "longer", target_macs=0.2,
                                 globally=True, cost="parameters", **SAMPLE)
    assert logs[0].read_bytes().startswith(before) and len(list((source.directory / "orderings").glob("global-*"))) == 1
    steps = record(longer)["global"]["steps"]
    assert record(shorter)["global"]["steps"] == steps[:len(record(shorter)["global"]["steps"])]


def test_counts_are_reached_in_the_global_order(half, source, database, tmp_path):
    """And those of a beginning of the order give this beginning, whatever the order would go on with."""
    made = pycaffe_tools.prune(half.counts, source.directory, database.directory, tmp_path / "out", globally=True, cost="parameters",
                               **SAMPLE)
    assert made.counts == half.counts and record(made)["keep"] == record(half)["keep"]
    some = pycaffe_tools.prune({"c1": 4}, source.directory, database.directory, tmp_path / "some", globally=True, cost="macs", **SAMPLE)
    assert some.counts == {**COUNTS, "c1": 4}


def test_an_accuracy_drop_alone_goes_along_the_global_order(source, database, tmp_path):
    from pycaffe_tools.train.validation import validate
    full = validate(source.net(), source.load_weights(), database).accuracy
    made = pycaffe_tools.prune(None, source.directory, database.directory, tmp_path / "out", max_accuracy_drop=2.0, globally=True,
                               cost="macs", **SAMPLE)
    assert 100 * (full - made.info["validation"]["accuracy"]) <= 2.0 + 1e-6
    assert "global order" in record(made)["reason"]


def test_layers_that_share_their_parameters_and_those_before_them_keep_all(database, tmp_path):
    net = TWINS.replace('bottom: "b" top: "fc" inner', 'bottom: "b" top: "fc0" inner_product_param { num_output: 6 } }\n'
                        'layer { name: "fc1" type: "InnerProduct" bottom: "fc0" top: "fc" inner').replace('name: "fc"', 'name: "fc0"')
    (tmp_path / "deploy.prototxt").write_text(net)
    net = read_net(tmp_path / "deploy.prototxt")
    weights = random_weights(net)
    write_weights(tmp_path / "weights.caffemodel", net, {**weights, "b": weights["a"]})
    finish_model(tmp_path, name="twins", normalisation=database.normalisation._asdict(), patch_size=32,
                 pixel_size_nm=[5, 5, 5], counts={"c0": 3, "a": 3, "b": 3, "fc0": 6}, threshold=0.5, provenance={})
    made = pycaffe_tools.prune(None, tmp_path, database.directory, tmp_path.with_name("twins-out"), target_parameters=0.9,
                               globally=True, **SAMPLE)
    assert made.counts == {"c0": 3, "a": 3, "b": 3, "fc0": made.counts["fc0"]} and made.counts["fc0"] < 6
    with pytest.raises(UserError, match="--target-parameters 0.1: with c0 3, a 3, b 3, fc0 1 0.* of the parameters remain"):
        pycaffe_tools.prune(None, tmp_path, database.directory, tmp_path.with_name("twins-no"), target_parameters=0.1,
                            globally=True, **SAMPLE)


def test_the_files_hold_what_is_documented(half):
    from ..conftest import ROOT
    section = (ROOT / "docs" / "file-formats.md").read_text().split("### `pruning.json`\n")[1].split("\n###")[0]
    content = record(half)
    for name in (*content, *content["global"], *content["layers"][0]):
        assert f"`{name}`" in section or f"`{name}." in section, name


def test_figure_3_has_no_curves_of_a_global_pruning(half):
    with pytest.raises(UserError, match="pruned in the global order"):
        read_curves("half", half.directory)

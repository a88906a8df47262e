"""Pruning: the greedy order of Eq. 2 and 3, the written models, budgets, and a kill in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.caffe

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import sha256
from pycaffe_tools.nets.counts import parse_counts
from pycaffe_tools.nets.files.caffemodel import read_weights, write_weights
from pycaffe_tools.nets.model import finish_model, open_model
from pycaffe_tools.nets.netgraph import read_net
from pycaffe_tools.nets.running.runtime import forward_patches, load_net, random_weights
from pycaffe_tools.ordering.log import Step
from pycaffe_tools.ordering.ordering import Ordering, OrderingOptions
from pycaffe_tools.ordering.sample import draw_sample
from pycaffe_tools.prune.pruned_model import write_pruned
from pycaffe_tools.prune.pruner import Pruner
from pycaffe_tools.prune.targets.budget import Choice, Share, SlimParameters, within_accuracy_drop, within_share
from pycaffe_tools.prune.targets.walks import LayerWalk, counts_after, walk

from .cases import COUNTS, small_model

HALF = {"c1": 3, "c2": 5, "c3": 2, "fc4": 2}


@pytest.fixture(scope="module")
def source(database, tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("models") / "small", database)


@pytest.fixture(scope="module")
def pruner(source, database):
    return Pruner(source, draw_sample(database, 2, 20, seed=5), OrderingOptions(workers=1))


@pytest.fixture(scope="module")
def pruned(pruner, database, tmp_path_factory):
    out = tmp_path_factory.mktemp("pruned") / "half"
    return write_pruned(out, "half", pruner, Choice(pruner.prune(dict(HALF)), "half"), database)


@pytest.mark.parametrize("direction", ["bottom-up", "top-down", "separate"])
def test_each_step_is_the_cheapest_removal_by_plain_pycaffe(pruned, source, database, tmp_path, direction):
    """Recomputes Eq. 2 and 3 from pruning.json alone: rows, removed features, and a net run for each candidate."""
    if direction != "bottom-up":
        pruner = Pruner(source, draw_sample(database, 2, 20, seed=5), OrderingOptions(workers=1, cache=tmp_path / "orders"))
        choice = Choice(pruner.prune(dict(HALF), direction=direction), "half")
        pruned = write_pruned(tmp_path / "out", "half", pruner, choice, database)
    from pycaffe_tools.patches.shards import read_rows
    record = json.loads((pruned.directory / "pruning.json").read_text())
    data, labels = read_rows(database.train, record["rows"])
    weights = source.load_weights()
    net = load_net(source.net().with_batch(len(data)), weights)

    def loss_without(removed):
        for layer, features in removed.items():
            for blob, original in zip(net.params[layer], weights[layer]):
                blob.data[...] = original
                blob.data[features] = 0
        probability = forward_patches(net, data)[np.arange(len(data)), labels.astype(int)]
        return -np.mean(np.log(probability.astype(np.float64)))

    removed = {layer: [] for layer in COUNTS}
    assert [entry["layer"] for entry in record["layers"]] == list(COUNTS)
    assert record["direction"] == direction
    for entry in record["layers"][::-1 if direction == "top-down" else 1]:
        layer = entry["layer"]
        if direction == "separate":
            removed = {layer: [] for layer in COUNTS}
        assert entry["loss_before"] == pytest.approx(loss_without(removed), rel=1e-5)
        for step in entry["steps"]:
            candidates = [feature for feature in range(COUNTS[layer]) if feature not in removed[layer]]
            losses = {f: loss_without({**removed, layer: removed[layer] + [f]}) for f in candidates}
            ranked = sorted(losses, key=losses.get)
            assert step["loss"] == pytest.approx(losses[step["feature"]], rel=1e-5)
            assert losses[step["feature"]] <= losses[ranked[0]] * (1 + 1e-6)
            if len(ranked) > 1:
                assert step["margin"] == pytest.approx(losses[ranked[1]] - losses[ranked[0]], abs=1e-6)
            removed[layer].append(step["feature"])


def test_masked_and_slim_model_are_one_function(pruned, database):
    from pycaffe_tools.patches.shards import read_rows
    data, _ = read_rows(database.val, range(40))
    outputs = []
    for prototxt, caffemodel in (("masked.prototxt", "masked.caffemodel"), ("deploy.prototxt", "weights.caffemodel")):
        net = load_net(read_net(pruned.directory / prototxt).with_batch(40),
                       read_weights(pruned.directory / caffemodel))
        outputs.append(forward_patches(net, data))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    slim = read_net(pruned.directory / "deploy.prototxt")
    assert [slim.layer(name).num_output for name in COUNTS] == [3, 5, 2, 2]
    assert slim.name == "half" and pruned.counts == {"c1": 3, "c2": 5, "c3": 2, "fc4": 2}


def test_the_slim_model_can_be_retrained(pruned, database, tmp_path):
    from pycaffe_tools.train.training import train
    retrained = train(str(pruned.directory), database.directory, tmp_path / "again", weights=pruned.directory,
                      max_iter=2)
    assert retrained.counts == pruned.counts and retrained.info["provenance"]["step"] == "retrain"


def test_networks_share_the_orderings_of_equal_layers(pruner, source):
    pruner.prune({"c1": 3, "c2": 3})
    cache = source.directory / "orderings"
    before = {path: path.read_bytes() for path in cache.iterdir()}
    pruner.prune({"c1": 3, "c2": 4, "fc4": 1})
    assert all(path.read_bytes() == content for path, content in before.items() if not path.name.startswith("fc4"))
    assert len([path for path in cache.iterdir() if path.name.startswith("c1")]) == 1


def test_a_killed_pruning_leaves_no_model_and_ends_with_the_same_steps(source, database, tmp_path):
    def command(out, cache):
        return [sys.executable, "-m", "pycaffe_tools.prune", "--counts", "c1=1,c2=1,c3=1,fc4=1", "--from",
                str(source.directory), "--data", str(database.directory), "--out", str(out), "--batches", "4",
                "--batch-size", "100", "--plain", "--cache", str(cache)]

    process = subprocess.Popen(command(tmp_path / "killed", tmp_path / "a"), stderr=subprocess.DEVNULL)
    try:
        deadline = time.time() + 60
        while time.time() < deadline and not any(path.stat().st_size > 500 for path in (tmp_path / "a").glob("*")):
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed").exists()
    for out, cache in (("killed", "a"), ("whole", "b")):
        result = subprocess.run(command(tmp_path / out, tmp_path / cache), capture_output=True,
                                text=True)
        assert result.returncode == 0, result.stderr
    for name in ("pruning.json", "model.json", "weights.caffemodel", "masked.caffemodel"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    again = subprocess.run(command(tmp_path / "whole", tmp_path / "b"), stderr=subprocess.PIPE, text=True)
    assert again.returncode == 1 and "exists already" in again.stderr


@pytest.mark.parametrize("counts, sentence", [
    ({"c1": 7}, "has 6 features there"), ({"c1": 0}, "keep 1 to 6"), ({"fc5": 1}, "no such layer"),
])
def test_counts_that_cannot_be_are_refused(pruner, counts, sentence):
    with pytest.raises(UserError, match=sentence):
        pruner.prune(counts)


def test_a_database_with_another_normalisation_is_refused(source, database):
    from pycaffe_tools.nets.model import Normalisation
    from pycaffe_tools.prune.pruner import check_same_normalisation
    other = database._replace(normalisation=Normalisation(1.0, 2.0))
    check_same_normalisation(source, database)
    with pytest.raises(UserError, match="normalised"):
        check_same_normalisation(source, other)


def altered(source, folder, edit_net=None, edit_info=None):
    """A copy of a model with another prototxt or model.json."""
    shutil.copytree(source.directory, folder)
    if edit_net:
        (folder / "deploy.prototxt").write_text(edit_net((folder / "deploy.prototxt").read_text()))
    info = json.loads((folder / "model.json").read_text())
    info["files"]["deploy.prototxt"] = sha256(folder / "deploy.prototxt")
    (folder / "model.json").write_text(json.dumps(edit_info(info) if edit_info else info))
    return folder


TWINS = """name: "twins"
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 32 dim: 32 } } }
    layer { name: "c0" type: "Convolution" bottom: "data" top: "c0" convolution_param { num_output: 3 kernel_size: 9 stride: 4 } }
    layer { name: "a" type: "Convolution" bottom: "c0" top: "a" param { name: "w" } param { name: "b" }
            convolution_param { num_output: 3 kernel_size: 3 } }
    layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" } param { name: "b" }
            convolution_param { num_output: 3 kernel_size: 3 } }
    layer { name: "fc" type: "InnerProduct" bottom: "b" top: "fc" inner_product_param { num_output: 2 } }
    layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }"""


def test_twins_that_share_their_parameters_are_refused_before_any_ordering(database, tmp_path):
    (tmp_path / "deploy.prototxt").write_text(TWINS)
    net = read_net(tmp_path / "deploy.prototxt")
    weights = random_weights(net)
    write_weights(tmp_path / "weights.caffemodel", net, {**weights, "b": weights["a"]})
    model = finish_model(tmp_path, name="twins", normalisation=database.normalisation._asdict(), patch_size=32,
                         pixel_size_nm=[5, 5, 5], counts={"c0": 3, "a": 3, "b": 3}, threshold=0.5, provenance={})
    pruner = Pruner(model, draw_sample(database, 1, 20, seed=5))
    for counts, other in (({"a": 2}, "b"), ({"c0": 2, "a": 2, "b": 2}, "b"), ({"b": 1}, "a")):
        with pytest.raises(UserError, match=f"deploy.prototxt: layer . shares its parameters with layer {other}, so features"):
            pruner.prune(counts)
    assert not (tmp_path / "orderings").exists()


def test_a_model_without_validation_is_pruned_and_its_accuracy_is_unknown(source, database, tmp_path):
    folder = altered(source, tmp_path / "model", edit_info=lambda info: {k: v for k, v in info.items() if k != "validation"})
    done = subprocess.run([sys.executable, "-m", "pycaffe_tools.prune", "--counts", "c1=5", "--from", str(folder), "--data",
                           str(database.directory), "--out", str(tmp_path / "out"), "--batches", "1", "--batch-size", "20"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "validation accuracy unknown -> " in done.stdout, done.stderr


def test_a_damaged_record_of_the_validation_is_known_before_the_orderings(source, database, tmp_path):
    folder = altered(source, tmp_path / "model", edit_info=lambda info: {**info, "validation": {"accuracy": "0"}})
    with pytest.raises(UserError, match="model.json: its field validation.accuracy is '0'"):
        Pruner(open_model(folder), draw_sample(database, 1, 20, seed=5))


def test_a_damaged_training_net_is_known_before_the_orderings(source, database, tmp_path):
    folder = altered(source, tmp_path / "model")
    (folder / "train_val.prototxt").write_text("layer {")
    with pytest.raises(UserError, match="train_val.prototxt: not a valid NetParameter"):
        Pruner(open_model(folder), draw_sample(database, 1, 20, seed=5))


# -- budgets -----------------------------------------------------------------------------------------------------

def order(layer, losses, before=1.0):
    steps = [Step(feature, loss, None, None) for feature, loss in enumerate(losses)]
    return Ordering(layer, "loss", len(losses), [], 1, 1, 0, {}, "", "", before, steps)


def test_the_walk_over_all_layers_worked_by_hand():
    orderings = [order("flat", [0.9, 1.1, 1.1, 5.0]), order("steep", [2.0, 1.5, 9.0])]
    # Highest increase over 1.0 so far: flat 0 (a gain costs nothing), 0.1, 0.1; steep 1.0, 1.0; the last never goes.
    steps = walk(orderings)
    assert [step.layer for step in steps] == ["flat", "flat", "flat", "steep", "steep"]
    assert [step.cost for step in steps] == pytest.approx([0, 0.1, 0.1, 1.0, 1.0])
    assert counts_after(orderings, []) == {"flat": 4, "steep": 3}
    assert counts_after(orderings, steps[:2]) == {"flat": 2, "steep": 3}
    assert counts_after(orderings, steps) == {"flat": 1, "steep": 1}


def test_what_costs_nothing_is_taken_from_all_layers_in_turn():
    orderings = [order("a", [0.9, 0.8, 0.8, 9.0]), order("b", [0.9, 9.0])]
    assert [step.layer for step in walk(orderings)] == ["a", "a", "b", "a"]


def test_counts_are_read_as_written():
    assert parse_counts("c1=30, c2=20") == {"c1": 30, "c2": 20}
    for wrong in ("c1:30", "c1=1,c1=2"):
        with pytest.raises(UserError, match="c1=30,c2=20"):
            parse_counts(wrong)


def share_of_parameters(pruner, limit):
    parameters = SlimParameters(pruner.net, pruner.weights)
    return Share("--target-parameters", "parameters", parameters, parameters.cost({}), limit)


def test_a_share_of_the_parameters_is_kept_at_most(pruner, database, tmp_path):
    walk = LayerWalk(pruner)
    made = write_pruned(tmp_path / "out", "x", pruner, within_share(walk, share_of_parameters(pruner, 0.6)), database)
    # As near below the target as one feature allows.
    assert 0.4 * pruner.net.parameter_count() < made.net().parameter_count() <= 0.6 * pruner.net.parameter_count()
    with pytest.raises(UserError, match="one feature left in each layer"):
        within_share(walk, share_of_parameters(pruner, 0.001))


def test_a_full_order_goes_to_the_end_of_each_layer_whatever_the_direction_and_target(source, database, tmp_path):
    import pycaffe_tools
    made = pycaffe_tools.prune(None, source.directory, database.directory, tmp_path / "out", target_parameters=0.8, direction="top-down",
                               full_order=True, batches=2, batch_size=20, workers=1, cache=tmp_path / "orders")
    record = json.loads((made.directory / "pruning.json").read_text())
    assert record["direction"] == "top-down" and record["audit"]["relative_difference"] < 1e-5
    assert [len(entry["steps"]) for entry in record["layers"]] == list(COUNTS.values())
    assert record["layers"][3]["removed_elsewhere"] == {}


def test_an_accuracy_drop_is_kept(pruner, database, tmp_path):
    from pycaffe_tools.train.validation import validate
    full = validate(pruner.net, pruner.weights, database).accuracy
    choice = within_accuracy_drop(LayerWalk(pruner), pruner, 2.0, database)
    made = write_pruned(tmp_path / "out", "x", pruner, choice, database)
    assert 100 * (full - made.info["validation"]["accuracy"]) <= 2.0 + 1e-6


def test_exactly_one_target_is_asked_for(source, database, tmp_path):
    base = [sys.executable, "-m", "pycaffe_tools.prune", "--from", str(source.directory), "--data",
            str(database.directory), "--out", str(tmp_path / "out")]
    for extra in ([], ["N7", "--counts", "c1=1"]):
        result = subprocess.run(base + extra, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 2 and "exactly one of" in result.stderr
    assert open_model(source.directory).counts == COUNTS

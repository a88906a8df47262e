"""The greedy order of equations 2 and 3: right, the same both ways, resumable, shared."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

caffe = pytest.importorskip("caffe")
h5py = pytest.importorskip("h5py")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.model import finish_model
from pycaffe_tools.nets.netgraph import write_net
from pycaffe_tools.nets.running.runtime import random_weights
from pycaffe_tools.oracle.oracle import without_features
from pycaffe_tools.oracle.plain import PlainOracle
from pycaffe_tools.ordering.__main__ import cli, read_removed
from pycaffe_tools.ordering.criteria import scores
from pycaffe_tools.ordering.log import Log, Step
from pycaffe_tools.ordering.ordering import OrderingOptions, order_layer, prunable_layers, read_ordering
from pycaffe_tools.ordering.sample import Sample, draw_sample
from pycaffe_tools.patches.database import Database

from ..conftest import ROOT
from ..oracle_nets import SMALL_COUNTS, graph, pruning_problem, trained_weights


def sample(known, batch_size=25):
    """The patches of a problem as a sample."""
    return Sample(known.data, known.labels, list(range(len(known.labels))), len(known.labels) // batch_size,
                  batch_size, 0)


def order(known, **options):
    """Order the layer of a problem in this process."""
    where = {name: options.pop(name) for name in ("removed_elsewhere", "stop_after", "log") if name in options}
    how = OrderingOptions(**{"workers": 0, "quiet": True, **options})
    return order_layer(known.graph, known.weights, known.layer, sample(known), how, **where)


def assert_same_order(found, expected):
    """The same features, and losses equal to 1e-5."""
    assert [step.feature for step in found.steps] == [step.feature for step in expected.steps]
    np.testing.assert_allclose([step.loss for step in found.steps], [step.loss for step in expected.steps], rtol=1e-5)
    np.testing.assert_allclose(found.loss_before, expected.loss_before, rtol=1e-5)


LAYERS = [(name, layer) for name in ("small", "lenet", "varied", "wide") for layer in prunable_layers(graph(name))]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name, layer", LAYERS)
def test_the_incremental_order_is_the_plain_one_with_random_weights(name, layer, seed):
    known = pruning_problem(name, layer, seed)
    found, expected = order(known), order(known, plain=True)
    assert_same_order(found, expected)
    assert sorted(step.feature for step in found.steps) == list(range(found.features))


@pytest.mark.parametrize("layer", list(SMALL_COUNTS))
def test_the_incremental_order_is_the_plain_one_with_trained_weights(layer):
    known = pruning_problem("small", layer)
    labels = np.where(np.arange(len(known.labels)) % 8, known.labels, 1 - known.labels)
    known = known._replace(weights=trained_weights(known.graph, known.data, labels), labels=labels)
    assert_same_order(order(known), order(known, plain=True))


@pytest.mark.parametrize("layer, elsewhere", [
    ("c1", {"c2": [0, 3], "fc4": [1]}), ("c2", {"c1": [1], "c3": [0, 2]}), ("c3", {"c2": [2], "fc4": [0, 4]})])
def test_an_order_may_have_features_removed_above_it(layer, elsewhere):
    known = pruning_problem("small", layer, 3)
    found = order(known, removed_elsewhere=elsewhere)
    assert_same_order(found, order(known, removed_elsewhere=elsewhere, plain=True))
    assert found.loss_before != order(known).loss_before and found.removed_elsewhere == elsewhere


@pytest.mark.parametrize("layer", ["c1", "c2", "fc4"])
def test_duplicated_and_dead_features_take_their_places_both_ways(layer):
    known = pruning_problem("small", layer)
    following = {"c1": "c2", "c2": "c3", "fc4": "fc5"}[layer]
    weights = without_features(known.weights, {})
    for blob in weights[layer]:
        blob[5] = blob[1]
        blob[[2, 6]] = 0
    weights[layer][1][[2, 6]] = -1
    weights[following][0][:, 5] = weights[following][0][:, 1]
    known = known._replace(weights=weights)
    found, expected = order(known), order(known, plain=True)
    assert_same_order(found, expected)
    order_of = [step.feature for step in found.steps]
    assert order_of.index(2) < order_of.index(6)
    assert order_of.index(1) < order_of.index(5)


def test_the_one_essential_feature_stays_to_the_end():
    """Feature 3 of fc4 alone decides the class, so each other one is free and 3 is dear: 3 must go last."""
    known = pruning_problem("small", "fc4", patches=60)
    weights = without_features(known.weights, {})
    weights["fc5"][0][:] *= 1e-3
    score = PlainOracle(known).net.run(known.data, known.graph.layer("fc5").inputs[0])[:, 3].astype(np.float64)
    known = known._replace(labels=(score > np.median(score)).astype(np.int64))
    weights["fc5"][0][:, 3] = [-4, 4]
    weights["fc5"][1][:] = [4 * np.median(score), -4 * np.median(score)]
    known = known._replace(weights=weights)
    for plain in (False, True):
        found = order(known, plain=plain)
        assert found.steps[-1].feature == 3
        assert found.steps[-2].loss < 0.8 * found.steps[-1].loss


@pytest.mark.parametrize("layer", ["c2", "fc4"])
def test_each_step_can_be_recomputed_with_plain_pycaffe_from_the_file(layer, tmp_path):
    from ..oracle.test_oracle import by_hand
    known = pruning_problem("small", layer)
    below = {"c1": [0, 4]}
    order(known, removed_elsewhere=below).write(tmp_path / "order.json")
    content = json.loads((tmp_path / "order.json").read_text())
    assert content["removed_elsewhere"] == below and content["rows"] == list(range(50))
    masked = known._replace(weights=without_features(known.weights, below))
    removed = []
    assert content["loss_before"] == pytest.approx(by_hand(masked, []), rel=1e-5)
    for step in content["steps"]:
        left = [feature for feature in range(SMALL_COUNTS[layer]) if feature not in removed]
        losses = {feature: by_hand(masked, removed + [feature]) for feature in left}
        best = min(losses.values())
        assert losses[step["feature"]] <= best * (1 + 1e-6)
        assert step["loss"] == pytest.approx(best, rel=1e-5)
        if len(left) > 1:
            assert step["margin"] == pytest.approx(losses[step["runner_up"]] - best, abs=1e-5 * best)
        removed.append(step["feature"])
    assert content["steps"][-1]["runner_up"] is None


def test_an_ordering_file_comes_back_as_it_was(tmp_path):
    found = order(pruning_problem("small", "c3"))
    found.write(tmp_path / "c3.json")
    assert read_ordering(tmp_path / "c3.json") == found
    (tmp_path / "other.json").write_text('{"steps": []}')
    with pytest.raises(UserError, match="other.json: is not an ordering file"):
        read_ordering(tmp_path / "other.json")


def test_stopping_early_gives_the_beginning_of_the_order_and_more_goes_on_from_there(tmp_path):
    known, log = pruning_problem("small", "c2"), tmp_path / "c2.log"
    part = order(known, stop_after=3, log=log)
    before = log.read_text()
    whole = order(known, log=log)
    assert log.read_text().startswith(before)
    assert part.steps == whole.steps[:3] == order(known).steps[:3]
    assert part.removed(2) == [step.feature for step in whole.steps[:2]]
    with pytest.raises(UserError, match="its order ends after 3 of 7"):
        part.removed(4)


def test_a_finished_order_is_read_from_the_cache_and_costs_nothing(tmp_path, monkeypatch):
    known = pruning_problem("small", "c2")
    first = order(known, cache=tmp_path, removed_elsewhere={"c1": [1]})
    monkeypatch.setattr("pycaffe_tools.ordering.ordering.open_oracle", None)
    assert order(known, cache=tmp_path, removed_elsewhere={"c1": [1]}) == first
    with pytest.raises(TypeError):
        order(known, cache=tmp_path, removed_elsewhere={"c1": [2]})


@pytest.mark.parametrize("change", [
    dict(weights="other"), dict(removed_elsewhere={"c1": [1, 2]}), dict(criterion="l1"), dict(plain=True), dict(patch=0)])
def test_the_cache_tells_apart_whatever_the_order_depends_on(change, tmp_path):
    known = pruning_problem("small", "c2")
    one = order(known, cache=tmp_path, stop_after=1, removed_elsewhere={"c1": [1]})
    options = {"removed_elsewhere": {"c1": [1]}, "stop_after": 1}
    if change.pop("weights", None):
        known = known._replace(weights=random_weights(known.graph, 9))
    elif change.pop("patch", None) is not None:
        data = known.data.copy()
        data[0] += 1
        known = known._replace(data=data)
    assert order(known, cache=tmp_path, **{**options, **change}).key != one.key
    assert len(list(tmp_path.glob("*.log"))) == 2


@pytest.mark.parametrize("line, field, value, sentence", [
    (0, "loss_before", "1e999", "loss_before is inf"), (1, "loss", "1e999", "loss is inf"), (1, "loss", '"x"', "loss is 'x'"),
    (1, "feature", "1.5", "feature is 1.5"), (1, "margin", "[]", "margin is")])
def test_a_log_whose_numbers_are_damaged_is_refused(tmp_path, line, field, value, sentence):
    log = tmp_path / "c2.log"
    order(pruning_problem("small", "c2"), stop_after=2, log=log)
    lines = log.read_text().splitlines()
    lines[line] = re.sub(f'"{field}": [^,}}]+', f'"{field}": {value}', lines[line])
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=f"c2.log: is damaged .*{sentence}.*delete it"):
        order(pruning_problem("small", "c2"), stop_after=2, log=log)


def test_a_log_of_another_ordering_is_refused(tmp_path):
    log = tmp_path / "c2.log"
    order(pruning_problem("small", "c2"), stop_after=1, log=log)
    with pytest.raises(UserError, match="c2.log: is the log of another ordering"):
        order(pruning_problem("small", "c2", seed=1), stop_after=1, log=log)
    log.write_text("hello\n")
    with pytest.raises(UserError, match="c2.log: is damaged"):
        order(pruning_problem("small", "c2"), stop_after=1, log=log)


def test_a_log_cut_anywhere_is_completed_to_the_same_log(tmp_path):
    known, log = pruning_problem("small", "c2"), tmp_path / "c2.log"
    whole = order(known, log=log)
    content = log.read_bytes()
    for end in (0, 10, content.find(b"\n") + 1, content.find(b"\n") + 20, len(content) // 2, len(content) - 1):
        log.write_bytes(content[:end])
        assert order(known, log=log) == whole
        assert [json.loads(line)["feature"] for line in log.read_text().splitlines()[1:]] == [
            step.feature for step in whole.steps]


def test_each_step_is_on_disk_before_the_next(tmp_path):
    with Log(tmp_path / "x.log", {"key": "k"}, Step) as log:
        log.begin(0.5)
        for number in range(3):
            log.add(Step(number, 0.5, None, None), forward_passes=2)
            lines = (tmp_path / "x.log").read_text().splitlines()
            assert json.loads(lines[-1]) == {"step": number + 1, "feature": number, "loss": 0.5, "runner_up": None,
                                             "margin": None, "forward_passes": 2}


def test_two_processes_do_not_write_one_log(tmp_path):
    with Log(tmp_path / "x.log", {"key": "k"}, Step):
        with pytest.raises(UserError, match="another process is making this ordering"):
            Log(tmp_path / "x.log", {"key": "k"}, Step).__enter__()


@pytest.mark.parametrize("criterion", ["apoz", "l1", "taylor", "random"])
def test_the_other_criteria_order_by_score_and_tell_the_loss_all_the_same(criterion):
    from ..oracle.test_oracle import by_hand
    known = pruning_problem("small", "c3")
    found = order(known, criterion=criterion)
    expected = np.argsort(scores(known, criterion, 0), kind="stable").tolist()
    removed = [step.feature for step in found.steps]
    assert removed == expected
    for count in (1, 4):
        assert found.steps[count - 1].loss == pytest.approx(by_hand(known, removed[:count]), rel=1e-5)
    assert found.steps[0].runner_up == expected[1] and found.steps[0].margin >= 0


def test_layers_and_features_that_cannot_be_are_refused():
    known = pruning_problem("small", "c2")
    with pytest.raises(UserError, match="fc5.*output layer.*c1, c2, c3, fc4"):
        order(known._replace(layer="fc5"))
    with pytest.raises(UserError, match="has no layer 'c9'"):
        order(known._replace(layer="c9"))
    with pytest.raises(UserError, match="layer c2: .*that layer itself"):
        order(known, removed_elsewhere={"c2": [1]})
    with pytest.raises(UserError, match="layer fc5: .*no prunable layer"):
        order(known, removed_elsewhere={"fc5": [1]})
    with pytest.raises(UserError, match="7 features, so 8"):
        order(known, stop_after=8)
    with pytest.raises(UserError, match="criterion 'l2'"):
        order(known, criterion="l2")


def database(folder, known):
    """A patch database's two shards of a problem's patches, as much of it as is read here."""
    shards = []
    for number, part in enumerate((slice(0, 20), slice(20, None))):
        shards.append(str(folder / f"train_{number}.h5"))
        with h5py.File(shards[-1], "w") as file:
            file["data"], file["label"] = known.data[part], known.labels[part].astype(np.float32)
    return Database(folder, shards, [], len(known.labels), 0, 32, None, [None] * 3, {})


def test_rows_name_the_patches_across_shards(tmp_path):
    known = pruning_problem("small", "c2")
    drawn = draw_sample(database(tmp_path, known), 4, 10, seed=3)
    assert len(set(drawn.rows)) == 40 and drawn.rows != sorted(drawn.rows)
    assert np.array_equal(drawn.data, known.data[drawn.rows]) and np.array_equal(drawn.labels, known.labels[drawn.rows])
    assert draw_sample(database(tmp_path, known), 4, 10, seed=4).rows != drawn.rows
    with pytest.raises(UserError, match="has 50 training patches, but 6 mini-batches of 10"):
        draw_sample(database(tmp_path, known), 6, 10)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model directory of the small net and a database, as the command line wants them."""
    known, folder = pruning_problem("small", "c1"), tmp_path / "model"
    folder.mkdir()
    write_net(folder / "deploy.prototxt", known.graph.proto)
    write_weights(folder / "weights.caffemodel", known.graph, known.weights)
    finish_model(folder, name="small", normalisation={"mean": 0.0, "std": 1.0}, patch_size=32,
                 pixel_size_nm=[None] * 3, counts=SMALL_COUNTS, threshold=0.5, provenance={})
    monkeypatch.setattr("pycaffe_tools.patches.database.open_database", lambda path: database(tmp_path, known))
    return known, folder


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=True)


def test_command_line_orders_one_layer_on_pruned_lower_layers(model, tmp_path):
    known, folder = model
    (tmp_path / "below.json").write_text('{"c1": [2, 5]}')
    result = call(folder, "--data", tmp_path, "--layer", "c2", "--below", tmp_path / "below.json", "--batches", 2,
                  "--batch-size", 20, "--seed", 1, "--workers", 1, "-o", tmp_path / "c2.json")
    assert result.exit_code == 0, result.output
    written = read_ordering(tmp_path / "c2.json")
    drawn = draw_sample(database(tmp_path, known), 2, 20, 1)
    expected = order_layer(known.graph, known.weights, "c2", drawn, OrderingOptions(plain=True, workers=0, quiet=True),
                           removed_elsewhere={"c1": [2, 5]})
    assert_same_order(written, expected)
    assert written.rows == drawn.rows and written.removed_elsewhere == {"c1": [2, 5]}
    assert list((folder / "orderings").glob("c2-loss-*.log"))
    again = call(folder, "--data", tmp_path, "--layer", "c2", "-o", tmp_path / "c2.json")
    assert isinstance(again.exception, UserError) and "--force" in str(again.exception)


def test_command_line_orders_all_layers_with_nothing_removed_below(model, tmp_path):
    known, folder = model
    arguments = (folder, "--data", tmp_path, "--all-layers", "--batches", 1, "--batch-size", 20, "--workers", 1,
                 "--stop-after", 2, "-o", tmp_path / "all")
    assert call(*arguments).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["c1.json", "c2.json", "c3.json", "fc4.json"]
    assert all(read_ordering(path).removed_elsewhere == {} for path in (tmp_path / "all").iterdir())
    assert call(*arguments).exit_code == 0


RUN = """
import sys
sys.path.insert(0, {root!r})
from tests.oracle_nets import pruning_problem
from tests.ordering.test_ordering import sample
from pycaffe_tools.ordering.ordering import OrderingOptions, order_layer
known = pruning_problem("small", "fc4", patches=200)
order_layer(known.graph, known.weights, "fc4", sample(known), OrderingOptions(quiet=True),
            log={log!r}).write({out!r})
"""


def test_killed_at_any_moment_the_same_command_ends_with_the_same_file(tmp_path):
    def start(name, out):
        script = RUN.format(root=str(ROOT), log=str(tmp_path / name), out=str(tmp_path / out))
        return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)

    assert start("whole.log", "whole.json").wait() == 0
    for steps in (1, 6):
        process = start("killed.log", "killed.json")
        log = tmp_path / "killed.log"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > steps):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("killed.log", "killed.json").wait() == 0
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_below_files_of_another_form_are_refused(tmp_path):
    (tmp_path / "below.json").write_text('{"c1": "all"}')
    with pytest.raises(UserError, match="below.json: must hold"):
        read_removed(tmp_path / "below.json")
    assert read_removed(None) == {}


@pytest.mark.parametrize("change, said", [
    (lambda content: content.update(loss_before=[]), "loss_before"), (lambda content: content["steps"][1].update(feature=True), "feature"),
    (lambda content: content["steps"][1].update(feature=content["steps"][0]["feature"]), "twice"),
    (lambda content: content["steps"][0].update(feature=9999), "discards feature 9999"),
    (lambda content: content["steps"][0].update(loss="x"), "loss"), (lambda content: content.update(rows="x"), "rows"),
    (lambda content: content.update(removed_elsewhere=3), "removed_elsewhere"), (lambda content: content.update(format=99), "version")])
def test_an_ordering_file_that_cannot_be_is_named_with_its_field(tmp_path, change, said):
    order(pruning_problem("small", "c2")).write(tmp_path / "c2.json")
    content = json.loads((tmp_path / "c2.json").read_text())
    change(content)
    (tmp_path / "c2.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"c2.json: .*{said}"):
        read_ordering(tmp_path / "c2.json")

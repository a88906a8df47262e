"""Pruning in rounds: the same as the public commands one after the other, whatever interrupts it."""

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

import pycaffe_tools
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.prune.rounds import Retraining

from .cases import COUNTS, small_model, trained_model

SAMPLE = {"batches": 2, "batch_size": 20, "seed": 5, "workers": 1}
TARGET = {"c1": 3, "c2": 2, "c3": 2, "fc4": 2}


@pytest.fixture(scope="module")
def source(database, tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("models") / "small", database)


def in_rounds(source, database, out, target=TARGET, **options):
    return pycaffe_tools.prune(target, source.directory, database.directory, out,
                               **{"rounds": 2, "retrain_iterations": 11, **SAMPLE, **options})


def weights_equal(one, other):
    one, other = one.load_weights(), other.load_weights()
    assert one.keys() == other.keys()
    for name in one:
        for a, b in zip(one[name], other[name]):
            np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(source, database, tmp_path_factory):
    return in_rounds(source, database, tmp_path_factory.mktemp("rounds") / "small-pruned")


def record(model):
    return json.loads((model.directory / "pruning.json").read_text())


def by_hand(source, database, folder, history, **options):
    """The steps with the public functions alone; the counts are those of the history."""
    model = source
    for number, entry in enumerate(history):
        pruned = pycaffe_tools.prune(entry["counts"], model.directory, database.directory, folder / f"{number}-pruned", **SAMPLE,
                                     **options)
        model = pycaffe_tools.train(str(pruned.directory), database.directory, folder / str(number), weights=pruned.directory,
                                    max_iter=entry["iterations"])
        assert entry["accuracy_pruned"] == pruned.validation_accuracy
        assert entry["accuracy_retrained"] == model.validation_accuracy
    return model


def test_it_is_what_the_commands_do_one_after_the_other(whole, source, database, tmp_path):
    history = record(whole)["rounds"]
    # The geometric mean of 6 and 3 is 4.2, of 5 and 2 3.2, of 4 and 2 2.8, of 5 and 2 3.2.
    assert [entry["counts"] for entry in history] == [{"c1": 4, "c2": 3, "c3": 3, "fc4": 3}, TARGET]
    assert [entry["iterations"] for entry in history] == [5, 6]
    expected = by_hand(source, database, tmp_path, history)
    weights_equal(whole, expected)
    assert whole.validation_accuracy == expected.validation_accuracy and whole.threshold == expected.threshold
    assert whole.info["validation"] == expected.info["validation"]


@pytest.mark.parametrize("order", [{}, {"globally": True, "cost": "macs"}])
def test_a_budget_is_reached_in_equal_parts_whatever_the_order(source, database, tmp_path, order):
    made = in_rounds(source, database, tmp_path / "out", None, target_parameters=0.25, **order)
    history = record(made)["rounds"]
    shares = [open_model(tmp_path / "out.rounds" / f"round-{n}").net().parameter_count() / source.net().parameter_count() for n in (1, 2)]
    assert 0.25 < shares[0] <= 0.5 and shares[1] <= 0.25 and made.counts == history[-1]["counts"]
    assert record(made)["order"] == ("global by macs" if order else "layers")
    weights_equal(made, by_hand(source, database, tmp_path / "hand", history, **order))


def test_the_result_is_a_whole_model_that_says_how_it_was_made(whole, source):
    content = record(whole)
    assert whole.counts == TARGET and content["order"] == "layers" and whole.name == "small-pruned"
    assert whole.info["provenance"]["from_weights"] == source.files
    assert [entry["accuracy_retrained"] for entry in whole.info["provenance"]["rounds"]][-1] == whole.validation_accuracy
    assert content["accuracy_retrained"] == whole.validation_accuracy
    assert content["weights_sha256"] == json.loads((whole.directory.with_name("small-pruned.rounds") / "round-1-pruned"
                                                    / "pruning.json").read_text())["weights_sha256"]
    assert sorted(path.name for path in whole.directory.iterdir()) == [
        "deploy.prototxt", "model.json", "pruning.json", "train_val.prototxt", "weights.caffemodel"]
    work = whole.directory.with_name("small-pruned.rounds")
    for layer, kept in content["keep"].items():
        first, second = (json.loads((work / f"round-{n}-pruned" / "pruning.json").read_text())["keep"][layer] for n in (1, 2))
        assert kept == [first[at] for at in second] and len(kept) == TARGET[layer]


def test_its_files_hold_what_is_documented(whole):
    from ..conftest import ROOT
    from ..test_docs import compare, documented
    assert documented("`pruning.json` of a pruning in rounds")[0] == set(record(whole))
    text = (ROOT / "docs" / "file-formats.md").read_text()
    work = whole.directory.with_name("small-pruned.rounds")
    plan = json.loads((work / "plan.json").read_text())
    section = text.split("### `pruning.json` of a pruning in rounds")[1].split("\n## ")[0]
    for name in (*plan, *record(whole)["rounds"][0]):
        assert f"`{name}`" in section, name
    compare("`pruning.json`", json.loads((work / "round-1-pruned" / "pruning.json").read_text()))


def test_the_features_are_ordered_anew_on_retrained_weights(whole):
    work = whole.directory.with_name("small-pruned.rounds")
    first, second = (json.loads((work / f"round-{n}-pruned" / "pruning.json").read_text()) for n in (1, 2))
    assert first["weights_sha256"] != second["weights_sha256"]
    assert second["layers"][0]["features"] == 4 and list((work / "round-1" / "orderings").glob("c1-*.log"))


def test_iterations_are_shared_out_to_the_last():
    assert [Retraining(3, 10).iterations_of(n) for n in (1, 2, 3)] == [3, 3, 4]
    assert sum(Retraining(7, 10_000).iterations_of(n) for n in range(1, 8)) == 10_000
    with pytest.raises(UserError, match="one iteration in each"):
        Retraining(3, 2).check()


# -- interruptions -----------------------------------------------------------------------------------------------

def command(source, database, out, *more):
    return [sys.executable, "-m", "pycaffe_tools.prune", "--counts", ",".join(f"{k}={v}" for k, v in TARGET.items()), "--from",
            str(source), "--data", str(database.directory), "--out", str(out), "--batches", "2", "--batch-size", "20", "--seed", "5",
            "--workers", "1", "--rounds", "2", "--retrain-iterations", "11", *more]


def kill_when(arguments, there):
    """Start a command and kill it, and the processes that it started, as soon as ``there`` returns true."""
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.time() + 120
        while time.time() < deadline and process.poll() is None and not there():
            time.sleep(0.005)
    finally:
        killed = process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if killed else None
        process.wait()
    assert killed, "it was over before it could be killed"


@pytest.mark.parametrize("place", ["round-1-pruned/orderings", "round-1-pruned", "round-1/training", "round-1/model.json",
                                   "round-2-pruned/model.json"])
def test_killed_between_and_within_rounds_it_ends_the_same(whole, source, database, tmp_path, place):
    copy = tmp_path / "small"
    shutil.copytree(source.directory, copy, ignore=shutil.ignore_patterns("orderings"))
    out, work = tmp_path / "small-pruned", tmp_path / "small-pruned.rounds"
    there = (lambda: any((copy / "orderings").glob("c2-*"))) if place.endswith("orderings") else (work / place).exists
    kill_when(command(copy, database, out), there)
    assert not out.exists()
    done = subprocess.run(command(copy, database, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = open_model(out)
    weights_equal(made, whole)
    assert record(made)["rounds"] == record(whole)["rounds"] and record(made)["keep"] == record(whole)["keep"]
    assert "after retraining" in done.stdout and "small-pruned.rounds" in done.stdout


def test_killed_in_the_middle_of_a_retraining_it_goes_on_from_the_snapshot(source, database, tmp_path):
    """Caffe starts the patches again there, so the weights are others than without the kill."""
    out, work = tmp_path / "out", tmp_path / "out.rounds"
    more = ("--retrain-iterations", "120")
    kill_when(command(source.directory, database, out, *more),
              lambda: any((work / "round-2" / "training").glob("snapshot_iter_*.solverstate")))
    first = (work / "round-1" / "model.json").read_bytes()
    done = subprocess.run(command(source.directory, database, out, *more), capture_output=True, text=True)
    assert done.returncode == 0 and "resuming at iteration" in done.stderr, done.stderr
    assert open_model(out).counts == TARGET and (work / "round-1" / "model.json").read_bytes() == first
    again = subprocess.run(command(source.directory, database, out, *more), capture_output=True, text=True)
    assert again.returncode == 1 and "exists already" in again.stderr


# -- refusals ----------------------------------------------------------------------------------------------------

def test_rounds_of_another_command_are_neither_continued_nor_deleted_unasked(source, database, tmp_path):
    in_rounds(source, database, tmp_path / "out", {"c1": 5}, retrain_iterations=2)
    shutil.rmtree(tmp_path / "out")
    before = (tmp_path / "out.rounds" / "plan.json").read_bytes()
    with pytest.raises(UserError, match="out.rounds: holds the rounds of another command, with another target"):
        in_rounds(source, database, tmp_path / "out", {"c1": 4}, retrain_iterations=2)
    with pytest.raises(UserError, match="with another retrain_iterations"):
        in_rounds(source, database, tmp_path / "out", {"c1": 5}, retrain_iterations=3)
    assert (tmp_path / "out.rounds" / "plan.json").read_bytes() == before and not (tmp_path / "out").exists()
    assert in_rounds(source, database, tmp_path / "out", {"c1": 4}, retrain_iterations=2, force=True).counts["c1"] == 4
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out.rounds" / "plan.json").unlink()
    with pytest.raises(UserError, match="has no plan.json, so it was not made for that"):
        in_rounds(source, database, tmp_path / "out", {"c1": 4}, retrain_iterations=2, force=True)


def test_a_drop_after_retraining_stops_it_and_names_the_last_good_round(database, tmp_path):
    trained = trained_model(tmp_path / "trained", database)
    options = {"target": {"c1": 1, "c2": 1, "c3": 1, "fc4": 1}, "rounds": 4, "retrain_iterations": 4}
    free = in_rounds(trained, database, tmp_path / "free", **options)
    drops = [100 * (record(free)["accuracy_unpruned"] - entry["accuracy_retrained"]) for entry in record(free)["rounds"]]
    assert max(drops) > max(drops[0], 0) + 1, drops
    allowed = in_rounds(trained, database, tmp_path / "allowed", **options, max_accuracy_drop=max(drops))
    weights_equal(allowed, free)
    limit = (max(drops[0], 0) + max(drops)) / 2
    number = next(number for number, drop in enumerate(drops, 1) if drop > limit)
    with pytest.raises(UserError, match=rf"round {number} \(c1 .*\) is {drops[number - 1]:.2f} points of accuracy below .*, more than "
                                        rf"--max-accuracy-drop .*stopped.rounds/round-{number - 1}, is within it"):
        in_rounds(trained, database, tmp_path / "stopped", **options, max_accuracy_drop=limit)
    assert not (tmp_path / "stopped").exists() and not (tmp_path / "stopped.rounds" / f"round-{number + 1}-pruned").exists()
    assert open_model(tmp_path / "stopped.rounds" / f"round-{number - 1}").counts == record(free)["rounds"][number - 2]["counts"]


def test_what_rounds_cannot_do_is_said_before_the_work(source, database, tmp_path):
    with pytest.raises(UserError, match="--max-accuracy-drop alone is none"):
        in_rounds(source, database, tmp_path / "out", None, max_accuracy_drop=1.0)
    with pytest.raises(UserError, match="c1=7: .* has 6 features there"):
        in_rounds(source, database, tmp_path / "out", {"c1": 7})
    with pytest.raises(UserError, match="--full-order"):
        in_rounds(source, database, tmp_path / "out", full_order=True)
    with pytest.raises(UserError, match="at least one round"):
        in_rounds(source, database, tmp_path / "out", rounds=20)
    bare = tmp_path / "bare"
    shutil.copytree(source.directory, bare)
    (bare / "train_val.prototxt").unlink()
    with pytest.raises(UserError, match="bare: has no train_val.prototxt to retrain with"):
        in_rounds(open_model(bare), database, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.rounds").exists()
    assert COUNTS["c1"] == 6

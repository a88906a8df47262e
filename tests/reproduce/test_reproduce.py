"""The reproduction's plan, its store and its runner: what has to be run, what is done, and going on after a kill."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile

from pycaffe_tools.base.errors import TemporaryError, UserError
from pycaffe_tools.base.files import write_json
from pycaffe_tools.base.ranges import parse_slices
from pycaffe_tools.nets import paper
from pycaffe_tools.reproduce.__main__ import describe, table, up_to
from pycaffe_tools.reproduce.catalogue import DATA_SETS, SCALES, STAGES
from pycaffe_tools.reproduce.collect import collect_plan, refuse_another_scale
from pycaffe_tools.reproduce.locks import RunLocks
from pycaffe_tools.reproduce.nodes import Node, same_commands
from pycaffe_tools.reproduce.plan import plan
from pycaffe_tools.reproduce.runner import Runner
from pycaffe_tools.reproduce.store import RunStore

from ..conftest import ROOT

# -- the plan --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("scale, data_set", [(scale, data_set) for scale, sets in SCALES.items() for data_set in sets])
def test_every_run_comes_after_what_it_needs(data_set, scale):
    seen, nodes = set(), plan(data_set, scale)
    for node in nodes:
        assert set(node.needs) <= seen and node.name not in seen and node.seconds > 0
        assert node.output.split("/")[0].split(".")[0] == node.name, "a run may only write under its own name"
        needed = [other for other in nodes if other.name in node.needs]
        assert all(STAGES.index(other.stage) <= STAGES.index(node.stage) for other in needed)
        seen.add(node.name)


@pytest.mark.parametrize("scale", ["small", "main"])
def test_the_main_set_has_all_of_table_2_and_its_controls(scale):
    names = {node.name for node in plan("epfl", scale)}
    for net in paper.NAMES[1:]:
        for criterion in ("loss", "apoz", "l1"):
            assert {f"{net}-{criterion}-s1", f"{net}-{criterion}-s1-pruned"} <= names
    for seed in (1, 2, 3):
        assert {f"N-s{seed}", f"N-s{seed}-again"} <= names
        for net in ("N6", "N7"):
            assert {f"{net}-{how}-s{seed}" for how in ("loss", "apoz", "l1", "random", "scratch")} <= names
            assert f"{net}-scratch-s{seed}-trained" in names
    assert {"timing", "segment-N-s1"} <= names


def seeds_of(nodes, network, criterion):
    return {node.facts["seed"] for node in nodes if node.kind == "model" and node.facts["step"] != "pruned"
            and (node.facts["network"], node.facts["criterion"]) == (network, criterion)}


def test_the_main_scale_has_every_network_from_every_seed_and_its_further_questions():
    for name, seeds in (("epfl", {1, 2, 3, 4, 5}), ("epfl-hard", {1, 2, 3, 4, 5}), ("vnc", {1, 2, 3})):
        nodes = plan(name, "main")
        for net in paper.NAMES[1:]:
            assert seeds_of(nodes, net, "loss") == seeds
        for net in ("N6", "N7"):
            assert all(seeds_of(nodes, net, how) == seeds for how in ("apoz", "l1", "random", "scratch"))
        assert seeds_of(nodes, "N", "none") == seeds
        assert all(seeds_of(nodes, "N7", f"{how}-long") == seeds for how in ("loss", "apoz", "l1"))
        assert sum(node.name.startswith("figure3") for node in nodes) == len(seeds)
    nodes = plan("epfl", "main")
    assert seeds_of(nodes, "N3", "apoz") == seeds_of(nodes, "N5", "l1") == {1, 2}
    assert seeds_of(nodes, "N7", "top-down") == seeds_of(nodes, "N6", "separate") == {1, 2, 3, 4, 5}
    for rate in ("1e-3", "5e-4", "1e-4"):
        assert seeds_of(nodes, "N7", f"loss-rate{rate}") == seeds_of(nodes, "N7", f"fresh-rate{rate}") == {1, 2, 3, 4, 5}
    assert seeds_of(nodes, "N", "n40") == seeds_of(nodes, "N", "n48") == {1, 2}
    draws = [node.facts["batches"] for node in nodes if "draw" in node.facts]
    assert sorted(draws) == [5] * 3 + [10] * 3 + [20] * 5 + [40] * 3


def test_the_learning_curve_has_four_lengths_of_one_seed():
    lengths = [node.facts["iterations"] for node in plan("epfl", "curve") if node.kind == "model"]
    assert sorted(lengths) == [1000, 3000, 10000, 30000]


def test_the_small_scale_scores_a_second_definition():
    assert {"N-second-s1", "darkness-main", "darkness-second"} <= {node.name for node in plan("epfl", "small")}


def test_the_second_set_has_n_n6_and_n7_with_one_seed():
    models = [node for node in plan("vnc", "small") if node.kind == "model"]
    assert {node.facts["network"] for node in models} == {"N", "N6", "N7"}
    assert {node.facts["seed"] for node in models} == {1}


def iterations(node):
    command = node.commands[0]
    return int(command[command.index("--max-iter") + 1])


def test_small_trains_at_most_a_thousand_iterations():
    trainings = [node for data_set in ("epfl", "vnc") for node in plan(data_set, "small")
                 if node.commands[0][0] == "train"]
    assert trainings and max(map(iterations, trainings)) <= 1000


def test_full_is_the_papers_numbers_and_the_committed_solvers():
    nodes = plan("epfl", "full")
    patches = nodes[0].commands[0]
    assert patches[patches.index("--train") + 1] == patches[patches.index("--val") + 1] == "300000"
    assert not any("--max-iter" in node.commands[0] or "--base-lr" in node.commands[0] for node in nodes)


def test_all_of_one_network_are_retrained_alike():
    """Whatever chose the features, iterations and learning rate are the same: else the criteria are not compared."""
    retrained = [node.facts for node in plan("epfl", "small") if node.facts.get("step") == "retrained"]
    lengths = {net: {(facts["iterations"], facts["base_lr"]) for facts in retrained if facts["network"] == net}
               for net in paper.NAMES}
    assert all(len(lengths[net]) == 1 for net in paper.NAMES[1:])
    # N without pruning is the control of each of them.
    assert lengths["N"] == set().union(*(lengths[net] for net in paper.NAMES[1:]))


def test_everything_that_claims_compare_is_asked_for_its_right_patches():
    nodes = plan("epfl", "small")
    compared = {node.facts["run"] for node in nodes if node.kind == "correctness"}
    assert {"N-s1", "N-s3-again", "N-s2-again-like-N7", "N1-loss-s1", "N6-apoz-s3", "N7-scratch-s2"} <= compared
    assert not compared & {"N-second-s1", "N7-scratch-s2-trained", "N7-loss-s1-pruned"}


def test_training_and_validation_share_no_slice_and_no_neighbour():
    for name, count in (("epfl", 27), ("vnc", 14)):
        data = DATA_SETS[name]
        val = parse_slices(data.val_slices, count)
        train = sorted(set(parse_slices(data.slices, count)) - set(val))
        assert set(data.shown) <= set(val)
        if name == "vnc":
            assert min(val) - max(train) == 2       # one section between them
        else:
            # Groups of the data's description: a group is in one of the two.
            for group in (range(0, 8), range(8, 13), range(13, 16), [16], range(17, 20), [20], [21], [22], range(23, 27)):
                assert set(group) <= set(val) or set(group) <= set(train)


GROUPS = {"epfl_raw.tif": (range(0, 8), range(8, 13), range(13, 16), [16], range(17, 20), [20], [21], [22], range(23, 27)),
          "vnc_raw.tif": ()}


@pytest.mark.parametrize("name, count", [("epfl", 27), ("epfl-hard", 27), ("vnc", 14)])
def test_each_seed_holds_out_groups_of_its_own(name, count):
    data, held_out = DATA_SETS[name], []
    for fold in data.folds:
        val = set(parse_slices(fold.val_slices, count))
        train = set(parse_slices(fold.slices, count)) - val
        assert set(fold.shown) <= val
        assert all(set(group) <= val or set(group) <= train for group in GROUPS[data.raw])
        if name == "vnc":
            assert not {z + step for z in val for step in (-1, 1)} & train
        held_out += val
    assert len(held_out) == len(set(held_out)), "no page is held out twice"
    assert name == "vnc" or set(held_out) == set(range(count)), "every page is held out once"


def test_every_database_of_every_scale_has_as_many_positives_as_it_asks_for(em_data):
    """Counted in the labels themselves, so that no scale can stop at its first run."""
    for scale, sets in SCALES.items():
        for name in sets:
            for node in plan(name, scale) if name != "synthetic" else ():
                if node.kind == "database":
                    option = dict(part.split("=", 1) for part in node.commands[0] if part.startswith("--") and "=" in part)
                    command = node.commands[0]
                    labels = tifffile.imread(em_data / command[2].replace("{em}/", ""))
                    excluded = (tifffile.imread(em_data / command[command.index("--exclude") + 1].replace("{em}/", ""))
                                if "--exclude" in command else np.zeros_like(labels))
                    val = parse_slices(option["--val-slices"], len(labels))
                    train = sorted(set(parse_slices(option.get("--slices"), len(labels))) - set(val))
                    for chosen, asked in ((train, "--train"), (val, "--val")):
                        positive = int(((labels[chosen] != 0) & (excluded[chosen] == 0)).sum())
                        assert positive >= int(command[command.index(asked) + 1]) // 2, (scale, name, node.name, asked)


def test_only_data_under_a_licence_shows_its_micrographs():
    assert DATA_SETS["epfl"].licence is None and "NonCommercial" in DATA_SETS["vnc"].licence


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="epfl, epfl-hard, vnc, synthetic"):
        plan("cremi", "small")
    with pytest.raises(UserError, match="full, main, curve, small"):
        plan("epfl", "huge")


# -- the runner, on commands that take a moment ----------------------------------------------------------------

def darkness(name, database, needs=(), **more):
    """A node that really computes, without Caffe."""
    command = ("darkness", str(database), "-o", "{runs}/" + name + ".json", "--force")
    return Node(name, "data", "baseline", (command,), f"{name}.json", tuple(needs), 1.0, {}, **more)


def run_all(nodes, root, results, **options):
    with RunStore(root / "synthetic-tiny", root) as store:
        return Runner(nodes, store, results, 2, say=lambda line: None, **options).run()


def test_a_failure_stops_what_needs_it_and_nothing_else(database, tmp_path):
    good = database.directory
    nodes = [darkness("bad", tmp_path / "nowhere"), darkness("after-bad", good, ["bad"]), darkness("a", good),
             darkness("after-a", good, ["a"])]
    outcome = run_all(nodes, tmp_path, tmp_path / "results")
    assert sorted(outcome.completed) == ["a", "after-a"] and outcome.blocked == ["after-bad"]
    assert list(outcome.failed) == ["bad"] and "patches.json" in outcome.failed["bad"]
    assert "bad failed: error:" in "\n".join(table(outcome))
    # Put right, the same command does what is missing.
    (tmp_path / "nowhere").symlink_to(good)
    outcome = run_all(nodes, tmp_path, tmp_path / "results")
    assert (sorted(outcome.completed), sorted(outcome.skipped)) == (["after-bad", "bad"], ["a", "after-a"])


def test_what_changed_is_made_again_with_all_that_depends_on_it(database, tmp_path):
    nodes = [darkness("a", database.directory), darkness("b", database.directory, ["a"]),
             darkness("c", database.directory)]
    run_all(nodes, tmp_path, tmp_path / "results")
    assert run_all(nodes, tmp_path, tmp_path / "results").completed == []
    output = tmp_path / "synthetic-tiny" / "a.json"
    output.write_text(output.read_text() + "\n")
    outcome = run_all(nodes, tmp_path, tmp_path / "results")
    assert sorted(outcome.completed) == ["a", "b"] and outcome.skipped == ["c"]


def test_what_has_its_log_is_done_where_nothing_to_come_needs_its_files(database, tmp_path):
    good, results = database.directory, tmp_path / "results"
    nodes = [darkness("a", good), darkness("after-a", good, ["a"]), darkness("b", good), darkness("after-b", good, ["b"])]
    run_all(nodes[:3], tmp_path, results)
    shutil.rmtree(tmp_path / "synthetic-tiny")
    outcome = run_all(nodes, tmp_path, results, trust_logs=True)
    assert (sorted(outcome.completed), sorted(outcome.skipped)) == (["after-b", "b"], ["a", "after-a"])
    assert sorted(path.stem for path in (results / "logs" / "nodes").iterdir()) == ["a", "after-a", "after-b", "b"]
    # A log of other commands says nothing; and unless logs are trusted, they are made anew.
    other = nodes[0]._replace(commands=(nodes[0].commands[0] + ("--force",),))
    shutil.rmtree(tmp_path / "synthetic-tiny")
    assert "a" in run_all([other, *nodes[1:]], tmp_path, results, trust_logs=True).completed
    shutil.rmtree(tmp_path / "synthetic-tiny")
    assert len(run_all(nodes, tmp_path, results).completed) == 4


def test_other_commands_are_refused_until_they_are_to_be_redone(database, tmp_path):
    node = darkness("a", database.directory)
    run_all([node], tmp_path, tmp_path / "results")
    other = node._replace(commands=(node.commands[0] + ("--force",),))
    with pytest.raises(UserError, match="a was made there by other commands .* --redo"):
        run_all([other], tmp_path, tmp_path / "results")
    assert run_all([other], tmp_path, tmp_path / "results", redo=True).completed == ["a"]


def test_options_of_speed_alone_may_change_on_the_way():
    assert same_commands([["prune", "N7", "--workers", "2", "--seed", "1"]]) == [["prune", "N7", "--seed", "1"]]
    assert same_commands([["prune", "--seed", "1"]]) != same_commands([["prune", "--seed", "2"]])


def test_a_store_is_shared_by_runners_but_not_with_one_of_an_older_version(tmp_path, monkeypatch):
    monkeypatch.setattr("pycaffe_tools.reproduce.store.PATIENCE", 0.3)
    with RunStore(tmp_path, tmp_path), RunStore(tmp_path, tmp_path):
        pass
    with open(tmp_path / "lock", "w") as old:
        fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UserError, match="another process reproduces in this store, by an older version"):
            RunStore(tmp_path, tmp_path).__enter__()


def test_two_runners_share_the_work_and_each_run_is_done_once(database, tmp_path):
    """Both get all of it: what the one works on, the other leaves alone, and takes for done when it is."""
    good = database.directory
    nodes = [darkness("a", good), darkness("b", good, ["a"]), darkness("c", good), darkness("d", good, locks=("x",)),
             darkness("e", good, ["d"], locks=("x",)), darkness("time", good, alone=True)]
    outcomes, events = [], []

    def work():
        with RunStore(tmp_path / "synthetic-tiny", tmp_path) as store:
            outcomes.append(Runner(nodes, store, tmp_path / "results", 1, say=events.append).run())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    completed = outcomes[0].completed + outcomes[1].completed
    assert sorted(completed) == ["a", "b", "c", "d", "e", "time"] and all(outcome.completed for outcome in outcomes)
    assert all(sorted(outcome.completed + outcome.skipped) == sorted(completed) for outcome in outcomes)
    assert sum(" started " in line for line in events) == 6
    assert not outcomes[0].failed and not outcomes[1].failed and not outcomes[0].blocked and not outcomes[1].blocked
    assert {path.stem for path in (tmp_path / "results" / "logs" / "nodes").iterdir()} == set(completed)
    machine = json.loads((tmp_path / "results" / "logs" / "machine.json").read_text())
    assert sum(session["nodes"] for session in machine["sessions"]) == 6


def test_a_run_that_another_one_works_on_is_an_error_where_nobody_waits(database, tmp_path):
    node = darkness("a", database.directory)
    with RunStore(tmp_path / "synthetic-tiny", tmp_path) as store:
        other = RunLocks(node, store)
        other.acquire()
        with pytest.raises(TemporaryError, match="another process works on a or on what it shares"):
            Runner([node], store, tmp_path / "results", 1, say=lambda line: None, wait=False).run()
        other.release()
        assert Runner([node], store, tmp_path / "results", 1, say=lambda line: None, wait=False).run().completed == ["a"]


def order_of_events(nodes, root):
    events = []
    with RunStore(root / "synthetic-tiny", root) as store:
        Runner(nodes, store, root / "results", 2, say=events.append).run()
    return [tuple(re.search(r"\] (started|done) +(\S+)", line).groups()) for line in events]


def test_locks_and_measurements_keep_others_away(database, tmp_path):
    good = database.directory
    events = order_of_events([darkness("a", good, locks=("x",)), darkness("b", good, locks=("x",)),
                              darkness("time", good, alone=True), darkness("c", good)], tmp_path)
    assert events.index(("started", "b")) > events.index(("done", "a"))
    alone = events.index(("started", "time"))
    assert events[alone + 1] == ("done", "time")
    assert {name for what, name in events[:alone] if what == "started"} == \
        {name for what, name in events[:alone] if what == "done"}


def test_stages_are_the_plan_up_to_there(tmp_path):
    nodes = plan("epfl", "small")
    assert {node.stage for node in up_to(nodes, "prune")} == {"data", "train", "prune"}
    assert up_to(nodes, "segment") == nodes
    lines = describe(nodes, RunStore(tmp_path / "epfl-small", tmp_path), 2)
    assert len(lines) == len(nodes) + 1 and "on 2 cores" in lines[-1] and lines[0].startswith("to do")
    assert not (tmp_path / "epfl-small").exists(), "a dry run writes nothing"


def test_the_account_of_the_whole_names_no_folder_of_this_machine(tmp_path):
    collect_plan(plan("epfl", "small"), RunStore(tmp_path / "runs" / "epfl-small", tmp_path / "em"), tmp_path / "results")
    text = (tmp_path / "results" / "logs" / "plan.json").read_text()
    assert str(tmp_path) not in text and "{runs}/N-s1" in text and "{em}/epfl_raw.tif" in text


# -- everything once -------------------------------------------------------------------------------------------

@pytest.mark.caffe
def test_killed_at_any_moment_the_same_command_goes_on_to_the_end(tmp_path):
    """The whole pipeline, tiny, on a synthetic volume: killed twice, finished, and reported."""
    from pycaffe_tools.datasets.scene import write_synthetic
    write_synthetic(tmp_path / "em", slices=3, size=128, seed=0)
    command = [sys.executable, "-m", "pycaffe_tools.reproduce", "synthetic", "--scale", "tiny", "--em",
               str(tmp_path / "em"), "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    done = tmp_path / "runs" / "synthetic-tiny" / "done"
    for number in (2, 6):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 300
        while process.poll() is None and len(list(done.glob("*.json"))) < number and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)       # into the middle of the next run
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in done.glob("*.json")}
    assert len(finished) >= 6
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert all((done / name).stat().st_mtime_ns == changed for name, changed in finished.items()), "done was done again"

    nodes = plan("synthetic", "tiny")
    logs = tmp_path / "results" / "synthetic" / "logs"
    assert {path.stem for path in (logs / "nodes").glob("*.json")} == {node.name for node in nodes}
    n7 = json.loads((logs / "nodes" / "N7-loss-s1.json").read_text())
    assert n7["result"]["parameters"] == 18_462 and 0 <= n7["result"]["validation"]["accuracy"] <= 1
    assert len(n7["code"]["sources_sha256"]) == 64 and n7["seconds"] > 0
    ordering = json.loads((logs / "orderings" / "N7-loss-s1-pruned.json").read_text())
    assert [len(layer["order"]) for layer in ordering["layers"].values()] == [70, 55, 40, 190]
    assert (logs / "crops" / "N-s1.png").is_file() and (logs / "training" / "N-s1.csv").is_file()
    for path in logs.rglob("*"):
        if path.suffix in (".json", ".csv", ".txt"):
            assert str(tmp_path) not in path.read_text(), f"{path} names a folder of this machine"
    assert max(path.stat().st_size for path in logs.rglob("*")) < 2_000_000

    report = subprocess.run([sys.executable, "-m", "pycaffe_tools.report", str(tmp_path / "results" / "synthetic")],
                            cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert report.returncode == 0 and "runs are not done" not in (logs.parent / "report.md").read_text()

    # What a run made beside its record is asked for as well, and the stacks are those of the patches.
    store = RunStore(tmp_path / "runs" / "synthetic-tiny", tmp_path / "em")
    by_name = {node.name: node for node in nodes}
    for name, file in (("data-main", "data-main/val_000.h5"), ("N-s1", "N-s1/weights.caffemodel"),
                       ("segment-N-s1", "segment-N-s1/probability.tif")):
        assert store.is_done(by_name[name])
        store.path(file).rename(tmp_path / "aside")
        assert not store.is_done(by_name[name]), f"{name} is done without {file}"
        (tmp_path / "aside").rename(store.path(file))
    (tmp_path / "em" / "raw.tif").write_bytes((tmp_path / "em" / "membranes.tif").read_bytes())
    with pytest.raises(UserError, match="raw.tif: is not the stack that the patches"):
        store.is_done(by_name["data-main"])
    assert not store.is_done(by_name["data-main"], redo=True)


def test_results_of_two_scales_are_not_mixed(tmp_path):
    results = tmp_path / "results"
    assert refuse_another_scale(results, "small") is None
    for scale, done, kept in (("small", ("N-s1", "N-s2"), {"N-s1", "N-s2"}),     # N-s3 was done in another store
                              ("tiny", ("N-s1", "N-s2", "N-s3"), {"N-s1"})):       # N-s2 is not in this plan
        store = RunStore(tmp_path / "runs" / f"epfl-{scale}", tmp_path)
        for name in ("N-s1", "N-s2", "N-s3"):
            (results / "logs" / "nodes").mkdir(parents=True, exist_ok=True)
            (results / "logs" / "nodes" / f"{name}.json").write_text("{}")
            if name in done:
                write_json(store.path(f"done/{name}.json"), {})
                assert store.record(name) is not None
        collect_plan(plan("epfl", scale), store, results)
        assert {path.stem for path in (results / "logs" / "nodes").glob("*.json")} == kept
    with pytest.raises(UserError, match="holds the results of scale tiny"):
        refuse_another_scale(results, "small")

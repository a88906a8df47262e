"""Training: real Caffe, interrupted and resumed, wrong input, and what a finished model holds."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.caffe

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import sha256
from pycaffe_tools.datasets.scene import write_synthetic
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.schema import read_prototxt
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.nets.running import process as caffe_process
from pycaffe_tools.patches.making import make_database
from pycaffe_tools.patches.sources import LabelledStack
from pycaffe_tools.train import log as training_log
from pycaffe_tools.train.training import train

from ..conftest import ROOT


@pytest.fixture(scope="module")
def trained(database, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "N7"
    return train("N7", database.directory, out, max_iter=12)


def command(*arguments):
    return [sys.executable, "-m", "pycaffe_tools.train", *map(str, arguments)]


def test_a_finished_model_can_be_opened_after_it_was_moved(trained, database, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained.directory, moved)
    opened = open_model(moved)
    assert opened.counts == paper.TABLE_1["N7"]
    assert tuple(opened.normalisation) == tuple(database.normalisation)
    assert opened.pixel_size_nm == [5.0, 5.0, 5.0]
    assert 0 < opened.threshold < 1
    assert opened.net().parameter_count() == 18_462


def test_a_training_that_diverges_stops_at_once_and_says_what_to_do(database, tmp_path):
    out = tmp_path / "N7"
    with pytest.raises(UserError, match="the training diverged, its loss is (nan|inf) at iteration .*lower --base-lr"):
        train("N7", database.directory, out, max_iter=60, base_lr=50.0, tests=1)
    assert not (out / "model.json").exists()
    assert train("N7", database.directory, out, max_iter=2, tests=1, force=True).directory == out


def test_the_run_used_the_papers_solver(trained):
    solver = read_prototxt(trained.directory / "training" / "solver.prototxt", "SolverParameter")
    assert (round(solver.base_lr, 6), solver.lr_policy, solver.power) == (0.001, "poly", 1)
    assert (round(solver.momentum, 6), round(solver.weight_decay, 6)) == (0.9, 0.01)
    log = (trained.directory / "training" / "caffe.log").read_text()
    assert "Optimization Done." in log


def test_the_table_of_figures_is_what_caffe_logged(trained):
    rows = training_log.read_csv(trained.directory / "train.csv")
    first = rows[0]
    log = (trained.directory / "training" / "caffe.log").read_text()
    accuracy = [line for line in log.splitlines() if "accuracy = " in line][0].split("= ")[1].split()[0]
    assert first["iteration"] == 0 and first["accuracy"] == pytest.approx(float(accuracy))
    # The learning rate falls linearly from 0.001 to 0 at the last iteration.
    for row in rows:
        if "lr" in row:
            assert row["lr"] == pytest.approx(0.001 * (1 - row["iteration"] / 12), rel=1e-4)


def test_accuracy_is_that_of_an_independent_forward_pass(trained, database):
    import caffe

    from pycaffe_tools.patches.shards import read_rows
    data, label = read_rows(database.val, range(database.val_count))
    net = caffe.Net(str(trained.deploy), str(trained.weights), caffe.TEST)
    net.blobs["data"].reshape(*data.shape)
    net.blobs["data"].data[...] = data
    predicted = net.forward()["prob"].argmax(axis=1)
    assert trained.info["validation"]["accuracy"] == pytest.approx(np.mean(predicted == label), abs=1e-6)


def test_a_finished_training_is_neither_repeated_nor_overwritten(trained, database):
    before = (trained.directory / "weights.caffemodel").stat().st_mtime_ns
    with pytest.raises(UserError, match="finished training"):
        train("N7", database.directory, trained.directory, max_iter=12)
    train("N7", database.directory, trained.directory, max_iter=12, resume=True)
    with pytest.raises(UserError, match="another max_iter"):
        train("N7", database.directory, trained.directory, max_iter=13, resume=True)
    assert (trained.directory / "weights.caffemodel").stat().st_mtime_ns == before


def test_a_killed_training_is_no_model_and_goes_on(database, tmp_path):
    out = tmp_path / "N7"
    arguments = command("N7", "--data", database.directory, "--out", out, "--max-iter", 300)
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.time() + 120
        while caffe_process.latest_snapshot(out / "training" / "snapshot") is None and time.time() < deadline:
            time.sleep(0.1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.raises(UserError, match="interrupted"):
        open_model(out)
    again = subprocess.run(arguments, stderr=subprocess.PIPE, text=True)
    assert again.returncode == 1 and "--resume" in again.stderr
    resumed = subprocess.run(arguments + ["--resume"], stderr=subprocess.PIPE, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at iteration" in resumed.stderr
    assert open_model(out).info["provenance"]["max_iter"] == 300


def test_a_snapshot_that_is_cut_is_passed_over(trained, tmp_path):
    work = tmp_path / "training"
    shutil.copytree(trained.directory / "training", work)
    newest = caffe_process.latest_snapshot(work / "snapshot")
    assert newest[0] == 12
    whole = newest[1].read_bytes()
    for length in (0, len(whole) // 2, len(whole) - 1):
        newest[1].write_bytes(whole[:length])
        assert caffe_process.latest_snapshot(work / "snapshot")[0] < 12
    newest[1].write_bytes(whole)
    newest[2].write_bytes(newest[2].read_bytes()[:-100])
    assert caffe_process.latest_snapshot(work / "snapshot")[0] < 12


def test_weights_of_another_network_are_refused_before_caffe_sees_them(trained, database, tmp_path):
    with pytest.raises(UserError, match=r"layer c1 has blobs \[\(30, 1, 7, 7\), \(30,\)\], but net N6 asks for"):
        train("N6", database.directory, tmp_path / "N6", weights=trained.directory, max_iter=2)
    assert not (tmp_path / "N6").exists()


def test_retraining_starts_from_the_weights_with_the_lower_rate(trained, database, tmp_path):
    retrained = train("N7", database.directory, tmp_path / "again", weights=trained.directory, max_iter=2)
    first = training_log.read_csv(retrained.directory / "train.csv")[0]
    # Caffe's first test is before the first step: the accuracy of the weights that it started from.
    assert first["accuracy"] == pytest.approx(trained.info["validation"]["accuracy"], abs=1e-4)
    assert first["lr"] == pytest.approx(0.0005)


def test_an_abort_of_caffe_becomes_one_sentence(database, tmp_path):
    result = subprocess.run(command("N7", "--data", database.directory, "--out", tmp_path / "gpu", "--max-iter", 2,
                                    "--gpu", 0), stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in result.stderr
    assert not (tmp_path / "gpu" / "model.json").exists()


def test_the_committed_solvers_run_by_hand(database, tmp_path):
    """As the README shows it: `caffe train --solver=...` from the top of a checkout, only shortened here."""
    root = ROOT
    for folder in ("prototxt", "solvers"):
        shutil.copytree(root / folder, tmp_path / folder)
    (tmp_path / "data").mkdir()
    (tmp_path / "runs").mkdir()
    os.symlink(str(database.directory), str(tmp_path / "data" / "patches"))
    solver = tmp_path / "solvers" / "N7_train.prototxt"
    text = solver.read_text().replace("max_iter: 30000", "max_iter: 2").replace("test_iter: 3000", "test_iter: 1")
    solver.write_text(text)
    result = subprocess.run([caffe_process.caffe_program(), "train", "--solver=solvers/N7_train.prototxt"],
                            cwd=str(tmp_path), stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "runs" / "N7_train_iter_2.caffemodel").is_file()


def test_a_model_of_stacks_normalised_one_by_one_holds_those_of_its_training(tmp_path):
    volumes = []
    for seed, factor in ((0, 1), (1, 200)):
        write_synthetic(tmp_path / str(seed), slices=2, size=96, seed=seed)
        grey = tifffile.imread(tmp_path / str(seed) / "raw.tif").astype(np.uint16) * factor
        tifffile.imwrite(tmp_path / str(seed) / "raw.tif", grey, photometric="minisblack")
        volumes.append(LabelledStack(*(str(tmp_path / str(seed) / f"{name}.tif") for name in ("raw", "membranes"))))
    made = make_database(volumes, tmp_path / "patches", "membrane", train=200, val=200, normalise="stack")
    held = train("N7", made.directory, tmp_path / "N7", max_iter=2, tests=1).info["normalisation"]
    assert held["by"] == "stack"
    for stack, volume in zip(held["stacks"], volumes):
        assert stack["sha256"] == sha256(volume.raw)
        assert stack["mean"] == pytest.approx(tifffile.imread(volume.raw)[0].mean())


@pytest.mark.parametrize("left", [None, ".options.partial-host-1.json", "options.json"])
def test_a_training_that_was_killed_as_it_began_begins_again(database, tmp_path, left):
    work = tmp_path / "N7" / "training"
    work.mkdir(parents=True)
    if left:
        (work / left).write_text("{}")
    train("N7", database.directory, tmp_path / "N7", max_iter=1, tests=1, resume=True)
    assert sorted(path.name for path in work.iterdir() if "partial" in path.name) == []
    other = tmp_path / "other" / "training"
    other.mkdir(parents=True)
    (other / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        train("N7", database.directory, tmp_path / "other", max_iter=1, tests=1, resume=True)
    assert (other / "diary.txt").is_file()


def test_killed_after_the_last_iteration_the_curve_is_written_from_the_log(trained, database, tmp_path):
    out = tmp_path / "N7"
    shutil.copytree(trained.directory, out)
    for name in ("model.json", "train.csv", "train.png"):
        (out / name).unlink()
    train("N7", database.directory, out, max_iter=12, resume=True)
    assert (out / "train.csv").read_text() == (trained.directory / "train.csv").read_text()
    assert (out / "train.png").is_file()

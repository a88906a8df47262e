"""The reproduction as jobs: what is submitted in which order, and all of it on a real Slurm."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pycaffe_tools.base.command import main
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import sha256
from pycaffe_tools.datasets.scene import write_synthetic
from pycaffe_tools.reproduce.__main__ import cli, up_to
from pycaffe_tools.reproduce.jobs import with_needs, write_jobs
from pycaffe_tools.reproduce.plan import plan

from ..cluster.real_slurm import wait_until
from ..conftest import ROOT


def test_a_run_comes_with_all_that_it_needs_and_nothing_else():
    names = [node.name for node in with_needs(plan("synthetic", "tiny"), "right-N7-loss-s1")]
    assert names == ["data-main", "N-s1", "N7-loss-s1-pruned", "N7-loss-s1", "right-N7-loss-s1"]
    with pytest.raises(UserError, match="--only N9: is no run of this plan"):
        with_needs(plan("synthetic", "tiny"), "N9")


@pytest.mark.parametrize("data_set, scale", [("synthetic", "tiny"), ("epfl", "main")])
def test_jobs_follow_what_they_need_and_what_they_share_something_with(tmp_path, monkeypatch, data_set, scale):
    """Slurm's ``sbatch`` is a program here that gives numbers and writes down what it is asked."""
    programs = tmp_path / "programs"
    programs.mkdir()
    log = programs / "log"
    (programs / "sbatch").write_text(f'#!/bin/sh\necho "$@" >> "{log}"\ngrep -c "" "{log}"\n')
    (programs / "sbatch").chmod(0o755)
    nodes = plan(data_set, scale)[1:]
    jobs = tmp_path / "my jobs"
    write_jobs(jobs, nodes, ["pycaffe_tools.reproduce", data_set, "--scale", scale], "--partition=x")
    done = subprocess.run([str(jobs / "submit.sh")], capture_output=True, text=True,
                          env=dict(os.environ, PATH=f"{programs}:{os.environ['PATH']}"))
    assert done.returncode == 0, done.stderr
    numbers = {node.name: str(place) for place, node in enumerate(nodes, 1)}
    last = {}
    *lines, end = log.read_text().splitlines()
    assert len(lines) == len(nodes)
    for node, line in zip(nodes, lines):
        found = re.search(r"--dependency=(\S+)", line)
        expected = {f"afterok:{numbers[need]}" for need in node.needs if need in numbers}
        expected |= {f"afterany:{last[lock]}" for lock in node.locks if lock in last}
        assert set(found[1].split(",") if found else []) == expected, node.name
        assert line.endswith(f"{jobs}/run.sbatch {node.name}") and ("--exclusive" in line) == node.alone
        last.update(dict.fromkeys(node.locks, numbers[node.name]))
    leaves = {numbers[node.name] for node in nodes} - {numbers.get(need) for node in nodes for need in node.needs}
    assert set(re.search(r"--dependency=(\S+)", end)[1].split(",")) == {f"afterok:{leaf}" for leaf in leaves}
    assert end.endswith(f"{jobs}/run.sbatch")
    with pytest.raises(UserError, match="holds other files"):
        write_jobs(programs, nodes, [], "")


def test_the_engine_slurm_is_a_folder_of_jobs_beside_the_store(tmp_path, capfd):
    write_synthetic(tmp_path / "em", slices=3, size=128, seed=0)
    assert main(cli, "reproduce", ["synthetic", "--scale", "tiny", "--em", str(tmp_path / "em"), "--runs", str(tmp_path / "runs"),
                                   "--results", str(tmp_path / "results"), "--engine", "slurm"]) == 0
    assert (tmp_path / "runs" / "synthetic-tiny.jobs" / "submit.sh").is_file()
    assert f"submit them with {tmp_path / 'runs' / 'synthetic-tiny.jobs' / 'submit.sh'}" in capfd.readouterr().out


def test_a_run_alone_asks_for_what_it_needs(tmp_path, capfd):
    write_synthetic(tmp_path / "em", slices=3, size=128, seed=0)
    command = ["synthetic", "--scale", "tiny", "--em", str(tmp_path / "em"), "--runs", str(tmp_path / "runs"), "--results",
               str(tmp_path / "results"), "--only"]
    assert main(cli, "reproduce", [*command, "darkness-main"]) == 1
    assert "data-main is not done, which darkness-main needs" in capfd.readouterr().err
    assert [main(cli, "reproduce", [*command, name]) for name in ("data-main", "darkness-main")] == [0, 0]
    assert {path.name for path in (tmp_path / "runs" / "synthetic-tiny" / "done").iterdir()} == {"data-main.json", "darkness-main.json"}


@pytest.mark.caffe
@pytest.mark.slurm
def test_a_killed_run_fails_with_what_needs_it_and_the_same_commands_again_end_as_a_local_run(slurm, tmp_path, monkeypatch):
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environment[name])
    write_synthetic(tmp_path / "em", slices=3, size=128, seed=0)

    def command(runs):
        return [sys.executable, "-m", "pycaffe_tools.reproduce", "synthetic", "--scale", "tiny", "--em", "em", "--runs", runs, "--results",
                f"{runs}/results", "--stage", "train"]

    def submit():
        done = subprocess.run([*command("runs"), "--slurm", "jobs", "--sbatch", "--mem=1500M"], cwd=tmp_path, check=True,
                              env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True)
        return dict(re.findall(r"(\S+): job (\d+)", slurm.ask(str(tmp_path / "jobs" / "submit.sh")))), done.stdout

    def states(numbers):
        known = slurm.jobs()
        return {name: known[number] for name, number in numbers.items()}

    store = tmp_path / "runs" / "synthetic-tiny"
    numbers, said = submit()
    names = [node.name for node in up_to(plan("synthetic", "tiny"), "train")]
    assert list(numbers) == [*names, "collect"] and f"{len(names)} runs; submit them with" in said
    training = store / "log" / "N-s1.log"
    wait_until(training.exists, "the training")
    runner = re.search(r"process (\d+) on", (store / "locks" / "run-N-s1").read_text())[1]
    os.kill(int(runner), signal.SIGKILL)
    wait_until(lambda: states(numbers)["N-s1"] == "FAILED" and not {"PENDING", "RUNNING"} & set(states(numbers).values()), "the end")

    numbers, _ = submit()
    assert "data-main" not in numbers and "N-s1" in numbers
    wait_until(lambda: set(states(numbers).values()) == {"COMPLETED"}, lambda: f"the rest: {states(numbers)}", 120)
    assert {path.stem for path in (store / "done").iterdir()} == set(names)
    assert {path.stem for path in (tmp_path / "runs" / "results" / "synthetic" / "logs" / "nodes").iterdir()} == set(names)
    again = subprocess.run([*command("runs"), "--slurm", "jobs"], cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(ROOT)),
                           capture_output=True, text=True)
    assert again.returncode == 0 and "all runs are done" in again.stdout
    subprocess.run(command("local"), cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(ROOT)), check=True, capture_output=True)
    for name in names:
        if name.startswith("N"):
            one, other = (tmp_path / folder / "synthetic-tiny" / name / "weights.caffemodel" for folder in ("runs", "local"))
            assert sha256(one) == sha256(other), name
    assert not list(Path(store / "locks").glob(".*"))

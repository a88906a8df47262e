"""A segmentation on a real Slurm: what it makes, and what happens when something dies."""

import os
import re
import signal

import numpy as np
import pytest
import tifffile

from pycaffe_tools.segment.jobs.plan import read_plan
from pycaffe_tools.segment.jobs.status import status_of

from ..cluster.real_slurm import is_running, wait_until, waits_for
from . import cases as segment_cases
from .cases import MODE, grey_values, run_cli, write_volume

pytestmark = [segment_cases.needs_an_engine, pytest.mark.slurm]

PART = 60
"""Slices of each of two parts."""
GREY = grey_values(slices=2 * PART, rows=96, columns=96)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("volume") / "raw.tif", GREY)


@pytest.fixture(scope="module")
def local(tmp_path_factory, model, source):
    """Bytes of the probabilities and the mask that a local run makes."""
    folder = tmp_path_factory.mktemp("local")
    assert run_cli(source, "-o", folder / "p.tif", "--model", model, *HOW, "--mask-out", folder / "m.tif") == 0
    return (folder / "p.tif").read_bytes(), (folder / "m.tif").read_bytes()


HOW = ("--mode", MODE, "--tile", "16x16")


class Work:
    """Jobs of a plan on a real Slurm."""

    def __init__(self, slurm, folder, source, model, monkeypatch, parts=2):
        self.slurm, self.folder, self.jobs = slurm, folder, folder / "it's my jobs %a"
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, slurm.environment[name])
        assert run_cli(source, "-o", folder / "my p.tif", "--model", model, *HOW, "--mask-out", folder / "m.tif", "--slurm", self.jobs,
                       "--parts", parts, "--sbatch", "--mem=1200M") == 0
        self.numbers = {}

    def submit(self):
        slurm_says = self.slurm.ask(str(self.jobs / "submit.sh"))
        self.read_numbers(slurm_says)

    def resubmit(self, capfd):
        capfd.readouterr()
        assert run_cli("--resubmit", self.jobs) == 0
        self.read_numbers(capfd.readouterr().out)

    def read_numbers(self, said):
        self.arrays = re.findall(r"parts (\S+) after (\d+): job (\d+)", said)
        self.merge = re.search(r"merge: job (\d+)", said)[1]

    def states(self):
        known = self.slurm.jobs()
        return {name: state for name, state in known.items() if name.split("_")[0] in (self.merge, *(job for _, _, job in self.arrays))}

    def wait(self, merge="COMPLETED"):
        wait_until(lambda: self.states()[self.merge] == merge, lambda: f"the merge: {self.states()}\n{self.logs()}")

    def logs(self):
        return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted((self.jobs / "logs").iterdir()))

    def status(self):
        return status_of(read_plan(self.jobs))

    def halt(self, *numbers):
        """Halt parts where they have finished a few slices: the process of each, and how many slices are finished."""
        halted = {}

        def all_are_halted():
            for number in set(numbers) - set(halted):
                finished = self.jobs / "parts" / f"part_{number:04d}.tif.parts"
                if len(list(finished.glob("0*.npz"))) >= 2:
                    record = (self.jobs / "state" / f"part_{number:04d}.json").read_text()
                    process = int(re.search(r'"process": (\d+)', record)[1])
                    os.kill(process, signal.SIGSTOP)
                    halted[number] = process, len(list(finished.glob("0*.npz")))
                    assert 2 <= halted[number][1] < PART, "the part was over before it could be halted"
            return len(halted) == len(numbers)

        wait_until(all_are_halted, f"parts {numbers}", pause=0.002)
        return [halted[number] for number in numbers]

    def finished_before(self, number):
        """How many slices of a part its last job found finished, as it said."""
        latest = max((self.jobs / "logs").glob(f"part-*_{number}.log"), key=lambda path: path.stat().st_mtime)
        return int(re.findall(r"to do, (\d+) finished before", latest.read_text())[-1]), latest.read_text()

    def outputs(self):
        return (self.folder / "my p.tif").read_bytes(), (self.folder / "m.tif").read_bytes()


@pytest.fixture
def work(slurm, tmp_path, source, model, monkeypatch):
    yield Work(slurm, tmp_path, source, model, monkeypatch)
    slurm.cancel_all()          # a failed test leaves no job that keeps a node from the others


def test_arrays_and_their_merge_make_the_bytes_of_a_local_run(slurm, tmp_path, source, model, monkeypatch, local):
    """Five parts, and at most three jobs in an array."""
    jobs = Work(slurm, tmp_path, source, model, monkeypatch, parts=5)
    jobs.submit()
    assert [(numbers, before) for numbers, before, _ in jobs.arrays] == [("1-3", "0"), ("1-2", "3")]
    jobs.wait()
    assert jobs.outputs() == local
    assert run_cli("--status", jobs.jobs) == 0


def test_a_part_that_is_killed_fails_and_is_done_when_it_is_submitted_again(work, local, capfd):
    work.submit()
    [(process, finished)] = work.halt(2)
    os.kill(process, signal.SIGKILL)
    work.wait("CANCELLED")          # the merge does not wait for ever
    array = work.arrays[0][2]
    wait_until(lambda: work.states() == {f"{array}_1": "COMPLETED", f"{array}_2": "FAILED", work.merge: "CANCELLED"}, "part 1")
    assert work.status().incomplete == [2] and work.status().parts[1].finished >= finished
    work.resubmit(capfd)
    assert [numbers for numbers, _, _ in work.arrays] == ["2"]
    work.wait()
    assert work.outputs() == local
    before, log = work.finished_before(2)
    assert finished <= before < PART and f"{PART - before} to do, {before} finished before; part 2/2: {PART}:{2 * PART}" in log


def test_parts_that_are_told_in_time_or_requeued_go_on(work, local, slurm):
    """The signal that Slurm sends before a job's time is up, and an administrator's requeue."""
    work.submit()
    halted = work.halt(1, 2)
    slurm.ask("scancel", "--batch", "--signal=USR1", f"{work.arrays[0][2]}_1")
    slurm.ask("scontrol", "requeue", f"{work.arrays[0][2]}_2")
    # The job's script hands the signal on to the part, which is to find it when it wakes up.
    wait_until(lambda: waits_for(halted[0][0], signal.SIGTERM), "the signal")
    os.kill(halted[0][0], signal.SIGCONT)
    work.wait()
    assert work.outputs() == local
    for number, (_, finished) in enumerate(halted, 1):
        before, log = work.finished_before(number)
        assert ", start 2" in log and finished <= before < PART
        assert ("stopped at the end of a slice" in log and "back into the queue" in log) == (number == 1)


def test_what_a_lost_node_computed_goes_on_elsewhere_and_the_node_comes_back(work, local, slurm):
    work.submit()
    [(process, finished)] = work.halt(1)
    node = slurm.ask("squeue", "--noheader", "--array", "--format=%N", f"--jobs={work.arrays[0][2]}_1").strip()
    slurm.kill_node(node)
    wait_until(lambda: slurm.ask("sinfo", "--noheader", "--Node", f"--nodes={node}", "--format=%T").startswith("down"), "the loss")
    assert not is_running(process)
    slurm.start_node(node)
    work.wait()
    assert work.outputs() == local
    assert finished <= work.finished_before(1)[0] < PART
    wait_until(lambda: slurm.ask("sinfo", "--noheader", "--format=%T").split() == ["idle"], "the node")


def test_a_bad_slice_fails_for_good_and_the_state_says_which(slurm, tmp_path, model, monkeypatch, capfd):
    folder = tmp_path / "slices"
    folder.mkdir()
    for z, image in enumerate(GREY[:6]):
        tifffile.imwrite(folder / f"s{z}.tif", image)
    good = (folder / "s4.tif").read_bytes()
    (folder / "s4.tif").write_bytes(good[:2000])
    work = Work(slurm, tmp_path, folder, model, monkeypatch)
    work.submit()
    work.wait("CANCELLED")
    array = work.arrays[0][2]
    wait_until(lambda: work.states()[f"{array}_1"] == "COMPLETED", "part 1")
    job = slurm.ask("scontrol", "show", "job", f"{array}_2")
    assert "JobState=FAILED" in job and "ExitCode=3:0" in job and "Restarts=0" in job
    capfd.readouterr()
    assert run_cli("--status", work.jobs) == 3
    said = capfd.readouterr().out
    assert "1 done, 1 failed" in said and "part 2: slice 4 failed: " in said and "s4.tif" in said
    (folder / "s4.tif").write_bytes(good)
    work.resubmit(capfd)
    work.wait()
    assert np.array_equal(tifffile.imread(tmp_path / "m.tif") > 0, tifffile.imread(tmp_path / "my p.tif") >= np.float32(0.1))
    assert run_cli("--status", work.jobs) == 0

"""A segmentation as jobs: what is planned, what the scripts say, and how far it is from the files alone."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from pycaffe_tools.cluster import records
from pycaffe_tools.cluster.slurm import parse_options
from pycaffe_tools.segment.jobs.__main__ import cli as jobs_cli
from pycaffe_tools.segment.jobs.plan import read_plan
from pycaffe_tools.segment.jobs.status import status_of
from pycaffe_tools.segment.jobs.work import run_merge, run_part

from ..conftest import ROOT
from ..test_docs import compare, documented
from . import cases as segment_cases
from .cases import MODE, grey_values, run_cli, write_volume

pytestmark = segment_cases.needs_an_engine


def folder_of_slices(folder, count=7):
    folder.mkdir(parents=True)
    for z, image in enumerate(grey_values(slices=count, rows=24, columns=24)):
        tifffile.imwrite(folder / f"s{z:02d}.tif", image)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a space in its name, which is left before the jobs run."""
    folder = tmp_path / "my data"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def plan(model, *more, source="slices", out="p.tif", parts=3):
    """Plan jobs by names relative to the folder at hand."""
    return run_cli(source, "-o", out, "--model", os.path.relpath(model), "--mode", MODE, "--slurm", "jobs", "--parts", parts, *more)


def test_parts_run_by_their_jobs_in_any_order_are_merged_to_the_bytes_of_the_whole(place, tmp_path, model, monkeypatch, capfd):
    folder_of_slices(place / "slices")
    assert plan(model, "--mask-out", "m.tif", "--tile", "24x24", "--slices", "1:") == 0
    said = capfd.readouterr()
    assert "6 to do" in said.out and str(place / "jobs" / "submit.sh") in said.out
    assert sorted(path.name for path in (place / "jobs").iterdir()) == [
        "array.sbatch", "logs", "merge.sbatch", "parts", "plan.json", "state", "submit.sh"]
    assert sorted(path.name for path in place.iterdir()) == ["jobs", "slices"], "nothing is computed"
    monkeypatch.chdir(tmp_path)
    jobs = place / "jobs"
    assert run_cli("--status", jobs) == 75
    assert "3 waiting" in capfd.readouterr().out
    assert main(jobs_cli, "merge", jobs) == 1
    assert "part_0001_mask.tif: is not a finished output" in capfd.readouterr().err
    assert run_cli("--status", jobs) == 3
    assert [run_part(jobs, number) for number in (3, 1, 2)] == [0, 0, 0]
    assert run_merge(jobs) == 0 and run_part(jobs, 2) == 0, "what is done stays done"
    assert run_cli("--status", jobs) == 0
    said = capfd.readouterr().out
    assert "parts    3: 3 done" in said and "6 of 6 finished, 0 failed" in said and "merge    done" in said
    assert run_cli(place / "slices", "-o", "p.tif", "--model", model, "--mode", MODE, "--tile", "24x24", "--mask-out", "m.tif",
                   "--slices", "1:") == 0
    for name in ("p.tif", "m.tif"):
        assert (place / name).read_bytes() == (tmp_path / name).read_bytes()
    assert run_cli("--resubmit", jobs) == 0
    assert "is complete, nothing to do" in capfd.readouterr().out


def test_the_files_of_a_plan_hold_what_is_documented(place, model):
    folder_of_slices(place / "slices")
    assert plan(model) == 0 and run_part(place / "jobs", 1) == 0
    content = json.loads((place / "jobs" / "plan.json").read_text())
    compare("`JOBDIR/plan.json`", content)
    deeper = {name.split(".")[1] for name in documented("`JOBDIR/plan.json`")[1]}
    assert deeper == set(content["request"])
    compare("`JOBDIR/state/part_0003.json`", json.loads((place / "jobs" / "state" / "part_0001.json").read_text()))


def main(command, *arguments):
    from pycaffe_tools.base.command import main as run_main
    return run_main(command, "x", [str(argument) for argument in arguments])


def test_a_dry_run_writes_nothing_and_the_same_plan_may_be_made_again(place, model, capfd):
    folder_of_slices(place / "slices")
    assert plan(model, "--dry-run") == 0
    assert not (place / "jobs").exists() and "parts    3" in capfd.readouterr().out
    assert plan(model, "--sbatch", "--mem=4G -c 2") == 0
    (place / "jobs" / "state" / "kept").touch()
    assert plan(model, "--sbatch", "--mem=4G -c 2") == 0 and (place / "jobs" / "state" / "kept").exists()
    capfd.readouterr()
    assert plan(model, "--sbatch", "--mem=4G -c 2", parts=4) == 1
    assert "holds another plan, which differs in its parts" in capfd.readouterr().err
    (place / "jobs" / "plan.json").unlink()
    assert plan(model) == 1
    assert "holds other files" in capfd.readouterr().err


@pytest.mark.parametrize("more, code, sentence", [
    (["--threshold", "2"], 2, "--threshold"),
    (["--crop", "0:99,0:9"], 1, "outside the slices"),
    (["--overlay-out", "o"], 1, "--overlay-out: is not for --slurm"),
    (["--incomplete"], 1, "--incomplete: is not for --slurm"),
    (["--part", "1/2"], 1, "--part: says which part"),
    (["--sbatch", "--array=1-9"], 1, "--sbatch --array=1-9: is not for you to say"),
    (["--sbatch", "-d afterok:1"], 1, "--sbatch -d: is not for you to say"),
    (["--sbatch", "--comment='x"], 1, "cannot be read"),
    (["--sbatch", "partition=x"], 1, "are no options of sbatch"),
    (["--sbatch", "--comment=a\n#SBATCH --uid=0"], 1, "are no options of sbatch"),
    (["--sbatch", "--mem=much"], 1, "is not an amount of memory"),
    (["--max-memory", "20M"], 1, "is too little"),
])
def test_what_stands_against_a_run_stands_against_its_jobs(place, model, more, code, sentence, capfd):
    folder_of_slices(place / "slices")
    assert plan(model, *more) == code
    assert sentence in capfd.readouterr().err and not (place / "jobs").exists()


def test_there_are_no_more_parts_than_slices(place, model, capfd):
    folder_of_slices(place / "slices")
    assert plan(model, parts=8) == 1
    assert "--parts 8: there are only 7 slices; ask for at most 7 parts" in capfd.readouterr().err
    (place / "p.tif").write_text("precious")
    assert plan(model) == 1
    assert "p.tif: exists already" in capfd.readouterr().err and not (place / "jobs").exists()


def test_options_that_need_each_other_are_wrong_usage_alone(place, model, raw):
    for arguments in (["--parts", "3"], ["--slurm", "jobs"], ["--sbatch", "--mem=1G"]):
        assert run_cli(raw, "-o", "p.tif", "--model", model, *arguments) == 2
    assert run_cli("--model", model) == 2 and run_cli(raw, "--model", model) == 2
    assert run_cli("--status", "nowhere") == 1 and not list(place.iterdir())


@pytest.mark.parametrize("text, cores, memory", [
    ("", None, None), ("--partition=x", None, None), ("--mem=8G", None, 8 * 2**30), ("--mem 500", None, 500 * 2**20),
    ("-c4 --mem-per-cpu=2000M", 4, 8000 * 2**20), ("--cpus-per-task 2 --mem-per-cpu=1G -p x", 2, 2 * 2**30), ("--mem=0", None, None),
])
def test_what_a_job_will_have_is_read_from_its_options(text, cores, memory):
    options = parse_options(text)
    assert (options.cores, options.memory) == (cores, memory)


def test_the_plan_reckons_with_what_a_job_will_have(place, model, capfd):
    folder_of_slices(place / "slices")
    assert plan(model, "--sbatch", "-c 2 --mem=1000M", "--dry-run") == 0
    said = capfd.readouterr().out
    assert "(of 2: --cpus-per-task of --sbatch)" in said and "of 839M allowed (four fifths of the memory in --sbatch)" in said
    assert plan(model) == 0
    assert "#SBATCH --mem=1000M\n" in (place / "jobs" / "array.sbatch").read_text()


def test_a_bad_slice_fails_its_part_alone_and_the_state_says_which(place, model, capfd):
    source = folder_of_slices(place / "slices")
    good = (source / "s04.tif").read_bytes()
    assert plan(model) == 0
    (source / "s04.tif").write_bytes(good[:len(good) // 2])
    assert [run_part(place / "jobs", number) for number in (1, 2, 3)] == [0, 0, 3]
    capfd.readouterr()
    assert run_cli("--status", "jobs") == 3
    said = capfd.readouterr().out
    assert "2 done, 1 failed" in said and "part 3: slice 4 failed: " in said and "s04.tif" in said and "6 of 7 finished, 1 failed" in said
    assert status_of(read_plan(place / "jobs")).incomplete == [3]
    (source / "s04.tif").write_bytes(good)
    assert run_part(place / "jobs", 3) == 0 and run_merge(place / "jobs") == 0 and run_cli("--status", "jobs") == 0


def test_an_input_that_has_grown_is_not_cut_into_other_parts(place, model, capfd):
    source = folder_of_slices(place / "slices")
    assert plan(model) == 0
    tifffile.imwrite(source / "s07.tif", np.zeros((24, 24), np.uint8))
    assert main(jobs_cli, "part", "jobs", 3) == 1
    assert "has other slices than when the jobs were planned (part 3 would be 5:8 and not 4:7)" in capfd.readouterr().err


def start_part(jobs, number):
    command = [sys.executable, "-m", "pycaffe_tools.segment.jobs", "part", str(jobs), str(number)]
    return subprocess.Popen(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_part_that_runs_is_killed_or_stops_is_told_apart(place, model, capfd, monkeypatch):
    write_volume(place / "raw.tif", grey_values(slices=160, rows=64, columns=64))
    assert plan(model, "--tile", "16x16", source="raw.tif", parts=2) == 0
    jobs = read_plan(place / "jobs")
    finished = place / "jobs" / "parts" / "part_0001.tif.parts"

    def begin():
        process = start_part(place / "jobs", 1)
        before = len(list(finished.glob("0*.npz")))
        while process.poll() is None and len(list(finished.glob("0*.npz"))) < before + 3:
            time.sleep(0.005)
        return process

    process = begin()
    status = status_of(jobs)
    assert (status.parts[0].state, status.parts[1].state) == (records.RUNNING, "waiting") and 3 <= status.parts[0].finished < 80
    assert status.parts[0].speed > 0 or status.parts[0].speed is None
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 75
    status = status_of(jobs)
    assert status.parts[0].state == records.STOPPED and "stopped at the end of a slice" in status.parts[0].sentence and not status.failed

    process = begin()
    process.kill()
    process.wait()
    monkeypatch.setattr(records, "SILENCE", -1.0)
    capfd.readouterr()
    assert run_cli("--status", "jobs") == 3
    said = capfd.readouterr().out
    assert "part 1: lost, " in said and "no sign of life for" in said and "was killed" in said and "1 waiting" in said


# -- submit.sh, with programs in Slurm's place that write down what they are asked ---------------------------------

@pytest.fixture
def asked(place, monkeypatch):
    """Lines of what was asked of Slurm's programs."""
    programs = place.parent / "programs"
    programs.mkdir()
    log = programs / "log"
    log.touch()
    for name, says in (("sbatch", 'echo $((10 + $(grep -c ^sbatch "$log")))'), ("scancel", ":"),
                       ("scontrol", "echo 'MaxArraySize            = 4'"), ("squeue", 'cat "$(dirname "$0")/queue" 2>/dev/null')):
        (programs / name).write_text(f'#!/bin/sh\nlog="{log}"\n[ {name} = scontrol ] || echo {name} "$@" >> "$log"\n{says}\nexit 0\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def lines():
        said = log.read_text().splitlines()
        log.write_text("")
        return said

    lines.queue = programs / "queue"
    return lines


def test_parts_are_split_into_arrays_and_only_the_named_ones_are_submitted(place, model, asked):
    folder_of_slices(place / "slices")
    assert plan(model, parts=7) == 0
    submit, jobs = place / "jobs" / "submit.sh", place / "jobs"
    assert subprocess.run([str(submit)]).returncode == 0
    assert asked() == [f"sbatch --parsable --array=1-3 {jobs}/array.sbatch 0", f"sbatch --parsable --array=1-3 {jobs}/array.sbatch 3",
                       f"sbatch --parsable --array=1 {jobs}/array.sbatch 6",
                       f"sbatch --parsable --dependency=afterok:11,afterok:12,afterok:13 {jobs}/merge.sbatch"]
    assert (jobs / "jobs").read_text() == "array 11 0\narray 12 3\narray 13 6\nmerge 14\n"
    assert subprocess.run([str(submit), "7", "2", "3", "5"], env=dict(os.environ, MAX_ARRAY_SIZE="6")).returncode == 0
    assert asked()[:2] == [f"sbatch --parsable --array=2-3,5 {jobs}/array.sbatch 0", f"sbatch --parsable --array=2 {jobs}/array.sbatch 5"]
    assert subprocess.run([str(submit), "8"], stderr=subprocess.DEVNULL).returncode != 0 and asked() == []


def test_only_what_neither_is_done_nor_waits_nor_runs_is_submitted_again(place, model, asked, capfd):
    folder_of_slices(place / "slices")
    assert plan(model, parts=6) == 0
    jobs = place / "jobs"
    assert subprocess.run([str(jobs / "submit.sh")]).returncode == 0
    assert [run_part(jobs, number) for number in (1, 5)] == [0, 0]
    asked()
    # Part 2 still runs, part 6 still waits, and so does the merge; 3 and 4 are gone.
    asked.queue.write_text("11 2 RUNNING\n12 3 PENDING\n13 N/A PENDING\n")
    assert run_cli("--resubmit", jobs) == 0
    said = asked()
    assert said[3:] == ["scancel 13", f"sbatch --parsable --array=3 {jobs}/array.sbatch 0",
                        f"sbatch --parsable --array=1 {jobs}/array.sbatch 3",
                        f"sbatch --parsable --dependency=afterok:11,afterok:12,afterany:11:12 {jobs}/merge.sbatch"]


def test_where_there_is_no_slurm_a_sentence_says_so(place, model, capfd, monkeypatch):
    folder_of_slices(place / "slices")
    assert plan(model) == 0
    monkeypatch.setenv("PATH", str(place))
    capfd.readouterr()
    assert run_cli("--resubmit", "jobs") == 1
    assert "sbatch: is not here" in capfd.readouterr().err


@pytest.mark.parametrize("change, sentence", [
    (lambda content: content.pop("parts"), "lacks the field parts"), (lambda content: content.update(format=2), "has format 2"),
    (lambda content: content["request"].update(tile=[0]), "does not tell tiles and parts"),
    (lambda content: content.update(parts=[]), "does not tell tiles and parts")])
def test_a_damaged_plan_is_named(place, model, change, sentence, capfd):
    folder_of_slices(place / "slices")
    assert plan(model) == 0
    path = place / "jobs" / "plan.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    capfd.readouterr()
    assert run_cli("--status", "jobs") == 1
    assert sentence in capfd.readouterr().err

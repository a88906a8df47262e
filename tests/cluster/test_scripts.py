"""What Slurm's scripts do with exit codes and signals, run by bash alone, and what jobs say of themselves."""

import os
import signal
import subprocess
import time

import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import read_json
from pycaffe_tools.cluster import records
from pycaffe_tools.cluster.records import Record, read_record
from pycaffe_tools.cluster.slurm import MOST_RESTARTS, Script, parse_options, render, write_script

SLEEPER = "bash -c 'trap \"echo told; exit {}\" TERM; echo ready; while :; do sleep 0.1; done'"


@pytest.fixture
def job(tmp_path):
    """Starts a script as Slurm would, whose ``scontrol`` is a program that writes down what it is asked and fails."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\nexit 1\n')
    (programs / "scontrol").chmod(0o755)

    def start(command, restarts=None):
        path = tmp_path / "x.sbatch"
        write_script(path, render(Script("x", f"{tmp_path}/x.log", ["", "--mem=1G"], command, "A test.")))
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
        if restarts is not None:
            environment["SLURM_RESTART_COUNT"] = str(restarts)
        return subprocess.Popen([str(path), "an argument"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    start.asked = tmp_path / "asked"
    return start


@pytest.mark.parametrize("code, restarts, requeued", [
    (0, None, False), (1, None, False), (3, None, False), (137, None, False), (75, None, True), (75, MOST_RESTARTS - 1, True),
    (75, MOST_RESTARTS, False)])
def test_only_what_passes_goes_back_into_the_queue_and_not_for_ever(job, code, restarts, requeued):
    process = job(f"sh -c 'echo \"got $1\"; exit {code}' x \"$1\"", restarts)
    said = process.communicate()[0]
    assert process.returncode == code and "got an argument" in said
    assert job.asked.exists() == requeued and (not requeued or job.asked.read_text() == "requeue 17\n")
    if code == 75:
        assert ("could not be put back" if requeued else f"put back into the queue {MOST_RESTARTS} times") in said


@pytest.mark.parametrize("number, answer, code, requeued", [
    (signal.SIGUSR1, 75, 75, True),         # time is nearly up: stopped, and goes on later
    (signal.SIGUSR1, 0, 0, False),          # it was done just then
    (signal.SIGUSR1, 3, 3, False),
    (signal.SIGTERM, 75, 75, False),        # somebody cancels the job: it does not come back
])
def test_a_signal_is_handed_on_and_its_answer_waited_for(job, number, answer, code, requeued):
    process = job(SLEEPER.format(answer))
    line = ""
    while "ready" not in line:
        line = process.stdout.readline()
    process.send_signal(number)
    said = process.communicate()[0]
    assert process.returncode == code and "told" in said and job.asked.exists() == requeued


def test_who_is_told_before_it_listens_is_stopped_as_well(job):
    process = job("bash -c 'echo ready; exec sleep 60'")
    while "ready" not in process.stdout.readline():
        pass
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 75 and job.asked.exists()


@pytest.mark.parametrize("text, enough", [("5", True), ("4:59", False), ("0:04:59", False), ("0:05:00", True), ("0-1", True),
                                          ("1-00:00:00", True), ("2", False), ("UNLIMITED", True), ("0-0:4", False)])
def test_jobs_with_too_little_time_are_refused(text, enough):
    for option in (f"--time={text}", f"-t {text}"):
        if not enough:
            with pytest.raises(UserError, match="is too short"):
                parse_options(option)
        else:
            parse_options(option)


def test_a_record_says_what_its_job_does_and_how_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BEAT", 0.02)
    path = tmp_path / "new" / "record.json"
    assert read_record(path) is None
    with Record(path, part=3) as record:
        assert read_record(path).state == records.RUNNING and read_json(path)["part"] == 3
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 30
        while read_record(path).age > records.SILENCE and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_record(path).state == records.RUNNING, "its time of change is renewed"
        record.note(skipped=7)
        record.end(records.STOPPED, "the disk is full", exit_code=75)
    seen = read_record(path)
    assert [seen.content[name] for name in ("state", "sentence", "skipped", "exit_code")] == ["stopped", "the disk is full", 7, 75]
    os.utime(path, (0, 0))
    assert read_record(path).state == records.STOPPED, "what has ended does not get lost"
    with pytest.raises(ZeroDivisionError):
        with Record(path):
            raise ZeroDivisionError("oh")
    assert read_record(path).state == records.FAILED and "ZeroDivisionError: oh" in read_record(path).content["sentence"]


def test_a_running_record_that_is_not_renewed_is_of_a_lost_job(tmp_path):
    with Record(tmp_path / "a.json") as record:
        running = (tmp_path / "a.json").read_text()
        record.end(records.DONE)
    (tmp_path / "b.json").write_text(running)
    assert read_record(tmp_path / "b.json").state == records.RUNNING
    os.utime(tmp_path / "b.json", (time.time() - records.SILENCE - 5,) * 2)
    assert read_record(tmp_path / "b.json").state == records.LOST

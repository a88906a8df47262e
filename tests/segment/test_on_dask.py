"""A real Dask scheduler with two workers: the same bytes as a local run, also when a worker is killed in the middle."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.ranges import Part
from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.segment.in_place.records import records_in
from pycaffe_tools.segment.jobs import on_dask
from pycaffe_tools.volumes.provenance import read_provenance

from ..conftest import ROOT
from . import cases as segment_cases
from .cases import MODE, grey_values, make_model, request, run_cli, write_volume
from .test_sharing import content

distributed = pytest.importorskip("distributed", reason="needs the package distributed, of Dask")
pytestmark = segment_cases.needs_an_engine

SLICES = 40


def started(*arguments):
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], env=dict(os.environ, PYTHONPATH=str(ROOT)),
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def cluster(folder):
    """A scheduler on loopback with two workers of one thread: the file with its address, and the workers' processes."""
    file = folder / "scheduler.json"
    processes = [started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file",
                         file)]
    try:
        processes += [started("distributed.cli.dask_worker", "--scheduler-file", file, "--host", "127.0.0.1", "--nthreads", 1,
                              "--no-nanny", "--no-dashboard", "--local-directory", folder) for _ in range(2)]
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield file, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("dask")) as (file, _):
        yield file


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("share") / "raw.tif", grey_values(slices=SLICES, rows=64, columns=64))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model, source):
    """Folder with what a run on this machine alone gives."""
    pytest.importorskip("zarr")
    folder = tmp_path_factory.mktemp("alone")
    for ending in ("tif", "zarr"):
        segment(ask(source, folder, model, ending))
    return folder


def ask(source, folder, model, ending, **options):
    return request(source, folder / f"p.{ending}", model, tile=(16, 16), mask_out=str(folder / f"m.{ending}"), **options)


def same_as(folder, alone, ending):
    for name in (f"p.{ending}", f"m.{ending}"):
        if ending == "zarr":
            assert content(folder / name) == content(alone / name)
        else:
            assert (folder / name).read_bytes() == (alone / name).read_bytes()
        assert read_provenance(folder / name) == read_provenance(alone / name)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == (["m.zarr", "p.zarr"] if ending == "zarr" else [])


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_the_command_line_gives_the_bytes_of_a_local_run(tmp_path, model, source, alone, running, ending, capfd):
    command = [source, "-o", tmp_path / f"p.{ending}", "--mask-out", tmp_path / f"m.{ending}", "--model", model, "--mode", MODE,
               "--tile", "16x16", "--dask", running]
    assert run_cli(*command) == 0
    said = capfd.readouterr().out
    assert "completed  skipped  failed\n       40        0       0\n" in said and f"wrote {tmp_path / f'p.{ending}'}" in said
    same_as(tmp_path, alone, ending)
    assert run_cli(*command) == 0
    assert "nothing to do" in capfd.readouterr().out


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_a_worker_that_is_killed_in_the_middle_costs_its_slice_alone(tmp_path, model, source, alone, ending):
    def finished():
        if ending == "tif":
            return len(list((tmp_path / "p.tif.parts").glob("0*.npz")))
        return len({z for z, _ in records_in(tmp_path / "p.zarr.records")})

    killed = []

    def kill(worker):
        while finished() < 5:
            time.sleep(0.001)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        killed.append(finished())

    (tmp_path / "dask").mkdir()
    with cluster(tmp_path / "dask") as (file, workers), distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
        killer = threading.Thread(target=kill, args=(workers[0],))
        killer.start()
        summary = on_dask.segment(client, ask(source, tmp_path, model, ending), parts=2)
        killer.join()
        assert workers[1].poll() is None
    assert 5 <= killed[0] < SLICES, "it was killed too late to say anything"
    assert summary.completed == list(range(SLICES)) and not summary.failed
    for path in (tmp_path / "dask").rglob("*"):
        if path.is_file():
            path.unlink()
    for path in sorted((tmp_path / "dask").rglob("*"), reverse=True):
        path.rmdir()
    (tmp_path / "dask").rmdir()
    same_as(tmp_path, alone, ending)


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_what_an_earlier_run_has_finished_is_not_computed_again(tmp_path, model, source, alone, running, ending):
    work = on_dask.prepare(ask(source, tmp_path, model, ending))
    with pytest.raises(ZeroDivisionError):
        work.run(lambda todo: (work.compute(todo[:7]), 1 // 0))
    work.close()
    with distributed.Client(scheduler_file=str(running), set_as_default=False) as client:
        summary = on_dask.segment(client, ask(source, tmp_path, model, ending), parts=5)
    assert summary.skipped == list(range(7)) and summary.completed == list(range(7, SLICES))
    same_as(tmp_path, alone, ending)


def test_what_cannot_be_is_one_sentence(tmp_path, model, source, running, capfd, monkeypatch):
    command = [source, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--dask"]
    assert run_cli(*command, running, "--part", "1/2") == 1
    assert "leave --part or --dask out" in capfd.readouterr().err
    monkeypatch.setattr("pycaffe_tools.cluster.dask.SECONDS", 1)
    assert run_cli(*command, "tcp://127.0.0.1:1") == 1
    assert "no scheduler answers there" in capfd.readouterr().err
    assert run_cli(*command, "no/such/file") == 1
    assert "no scheduler answers there" in capfd.readouterr().err
    assert run_cli(*command, "tcp://127.0.0.1:1", "--part", "1/2") == 1
    assert "leave --part or --dask out" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_worker_that_sees_another_model_says_so(tmp_path, source, running):
    folder = make_model(tmp_path / "model", seed=1)
    with distributed.Client(scheduler_file=str(running), set_as_default=False) as client:
        work = on_dask.prepare(request(source, tmp_path / "p.tif", folder))
        make_model(tmp_path / "model", seed=2)          # as if it stood there on another computer
        with pytest.raises(UserError, match=r"model\.weights_sha256.*have all workers see the same files"):
            work.run(on_dask.on(client, work))
        monkey = on_dask.Share(work.request, work.manifest, [0], "0.0")
        with pytest.raises(UserError, match="a worker has pycaffe_tools .*, the one that plans has 0.0"):
            client.submit(on_dask.compute_share, monkey).result()
    assert not (tmp_path / "p.tif").exists() and Part(1, 1)


def test_without_the_package_its_install_command_is_named(tmp_path, model, source, capfd, monkeypatch):
    import importlib.util
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "distributed" else found(name, *rest))
    assert run_cli(source, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--dask", "tcp://127.0.0.1:1") == 1
    assert "needs the package distributed; install it (pip install 'pycaffe-tools[dask]')" in capfd.readouterr().err

"""The wheel: the program, the files that come with it, and segmentation without Caffe and without a checkout."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pycaffe_tools import __version__
from pycaffe_tools.__main__ import COMMANDS
from pycaffe_tools.volumes.opening import open_volume

from .conftest import ROOT
from .segment import cases

SHIPPED = ("prototxt", "solvers", "data/datasets.json")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built from copies of the files that a checkout has, without the network."""
    setuptools = pytest.importorskip("setuptools", reason="needs setuptools to build a wheel")
    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1):
        pytest.skip(f"setuptools {setuptools.__version__} cannot build a wheel by itself; needs 70.1")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in [ROOT / name for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE")] + sorted(
            path for name in ("pycaffe_tools", "prototxt", "solvers", "data/datasets.json")
            for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file() and path.suffix != ".pyc"):
        place = source / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    # What an earlier build of another layout left behind.
    old = source / "build" / "lib" / "pycaffe_tools" / "gone.py"
    old.parent.mkdir(parents=True)
    old.write_text("")
    done = subprocess.run([sys.executable, "-c", "import sys; from setuptools import build_meta\n"
                                                 "print(build_meta.build_wheel(sys.argv[1]))", str(folder)],
                          cwd=str(source), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="session")
def installed(wheel):
    """Folder with the wheel's files and its program, to be put before everything else that Python imports."""
    pytest.importorskip("pip")
    place = wheel.parent / "installed"
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target",
                           str(place), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def program(installed, tmp_path):
    """Runs ``pycaffe-tools`` of the wheel in an empty folder."""
    def run(*arguments, **variables):
        environment = dict(os.environ, PYTHONPATH=str(installed), **variables)
        return subprocess.run([str(installed / "bin" / "pycaffe-tools"), *map(str, arguments)], capture_output=True,
                              text=True, cwd=str(tmp_path), env=environment)
    return run


def test_the_wheel_carries_networks_solvers_and_the_list_of_data_sets(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert "pycaffe_tools/py.typed" in names
        assert not any(name.startswith(("tests", "data", "solvers", "prototxt")) for name in names)
        for name in SHIPPED:
            files = [ROOT / name] if (ROOT / name).is_file() else [path for path in (ROOT / name).rglob("*") if path.is_file()]
            assert files
            for path in files:
                inside = f"pycaffe_tools/shipped/{path.relative_to(ROOT).as_posix()}"
                assert archive.read(inside) == path.read_bytes(), inside


def test_the_wheel_carries_the_page_of_the_watch(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for path in (ROOT / "pycaffe_tools" / "watch" / "page").iterdir():
            assert archive.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


def test_every_module_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
    assert names == {path.relative_to(ROOT).as_posix() for path in (ROOT / "pycaffe_tools").rglob("*.py")}


def test_the_program_knows_its_version_and_all_commands(program):
    assert program("--version").stdout == f"pycaffe-tools, version {__version__}\n"
    listed = program()
    assert listed.returncode == 0 and all(name in listed.stdout for name in COMMANDS)
    assert "Usage: pycaffe-tools evaluate" in program("evaluate", "--help").stdout
    unknown = program("segmnt")
    assert unknown.returncode == 2 and "segmnt" in unknown.stderr


def test_a_command_by_program_and_by_module_says_the_same(program, installed, tmp_path):
    by_program = program("segment", "no.tif", "-o", "p.tif", "--model", "none")
    by_module = subprocess.run([sys.executable, "-m", "pycaffe_tools.segment", "no.tif", "-o", "p.tif", "--model", "none"],
                               capture_output=True, text=True, cwd=str(tmp_path), env=dict(os.environ, PYTHONPATH=str(installed)))
    assert by_program.returncode == by_module.returncode == 1
    assert by_program.stderr == by_module.stderr != ""


def test_the_shell_completes_commands_and_options(program):
    def completed(words, number):
        found = program(_PYCAFFE_TOOLS_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(number))
        return [line.split(",")[1] for line in found.stdout.splitlines()]

    assert completed("pycaffe-tools se", 1) == ["segment"]
    assert "--mask-out" in completed("pycaffe-tools segment --ma", 2)
    assert "complete" in program(_PYCAFFE_TOOLS_COMPLETE="zsh_source").stdout


def test_the_list_of_data_sets_is_found_without_a_checkout(program):
    done = program("datasets", "list")
    assert done.returncode == 0, done.stderr
    assert [name for name in json.loads((ROOT / "data" / "datasets.json").read_text()) if f"{name}: " not in done.stdout] == []


@pytest.mark.skipif("onnxruntime" not in cases.AVAILABLE, reason="needs onnxruntime")
def test_the_wheel_segments_and_exports_without_caffe(program, tmp_path):
    grey = cases.grey_values(slices=1)
    cases.make_model(tmp_path / "model")
    cases.write_volume(tmp_path / "raw.tif", grey)
    done = program("segment", "raw.tif", "-o", "p.tif", "--model", "model", "--engine", "onnxruntime", "--workers", 1)
    assert done.returncode == 0, done.stderr
    pytest.importorskip("onnx")
    exported = program("export", "model", "-o", "net.onnx", "--dense")
    assert exported.returncode == 0 and "differ by at most" in exported.stdout, exported.stderr
    # The exported net, run here by itself, gives what the segmentation wrote.
    import onnxruntime
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    normalised = (grey[0].astype(np.float32) - np.float32(cases.MEAN)) / np.float32(cases.STD)
    expected = session.run(None, {"grey": np.pad(normalised, (16, 15), mode="reflect")[None, None]})[0][0, 0]
    with open_volume(tmp_path / "p.tif") as volume:
        assert np.abs(volume.read(0) - expected).max() < 1e-5

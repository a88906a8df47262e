"""Shared by all tests: markers, and where the optional real data lies."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

# One BLAS thread: the tests' matrices are small, and two threads on two cores only get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Caffe's INFO lines; the `caffe` program in child processes is not affected where tests need its log.
os.environ.setdefault("GLOG_minloglevel", "2")

ROOT = Path(__file__).resolve().parent.parent
HAS_CAFFE = importlib.util.find_spec("caffe") is not None


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "caffe" in item.keywords and not HAS_CAFFE:
            item.add_marker(pytest.mark.skip(reason="needs an installed Caffe"))
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: pass --slow"))


@pytest.fixture(scope="session")
def em_data():
    """Folder of real electron-microscopy stacks beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "em"
    if not folder.is_dir():
        pytest.skip("real EM data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A small patch database of a synthetic volume: 600 training and 200 validation patches."""
    from pycaffe_tools.datasets.scene import write_synthetic
    from pycaffe_tools.patches.making import make_database
    from pycaffe_tools.patches.sources import LabelledStack
    folder = tmp_path_factory.mktemp("volume")
    write_synthetic(folder / "synth", slices=4, size=128, seed=0)
    stack = LabelledStack(str(folder / "synth" / "raw.tif"), str(folder / "synth" / "membranes.tif"), val_slices="3:4")
    return make_database([stack], folder / "patches", "membrane", train=600, val=200)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A real Slurm of two nodes, of which an array holds three jobs at most."""
    from .cluster.real_slurm import Slurm, what_is_missing
    if what_is_missing():
        pytest.skip(what_is_missing())
    try:
        cluster = Slurm(tmp_path_factory.mktemp("slurm"), most=4)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"Slurm is installed, but its daemons do not start here: {error}")
    yield cluster
    cluster.close()

"""A tiny model and small volumes for the tests of segmentation."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pycaffe_tools import engines
from pycaffe_tools.base.command import main
from pycaffe_tools.nets import model, paper
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.netgraph import read_net
from pycaffe_tools.nets.running.runtime import random_weights
from pycaffe_tools.segment.__main__ import cli
from pycaffe_tools.segment.request import Request
from pycaffe_tools.volumes.creating import create_volume
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.pixel_size import PixelSize

from ..conftest import ROOT

COUNTS = {"c1": 4, "c2": 3, "c3": 3, "fc4": 5}
MEAN, STD = 128.0, 40.0
PIXEL_SIZE = PixelSize(50, 4, 5)

AVAILABLE = engines.available()
MODE = "dense" if {"native", "onnxruntime"} & set(AVAILABLE) else "patch"
"""The mode for tests in which it does not matter: whatever is installed."""

BY_PROCESSES = next((name for name in AVAILABLE if name not in engines.RUN_BY_THREADS and name != "patch"), None)
"""An engine that is run by processes."""

needs_processes = pytest.mark.skipif(BY_PROCESSES is None, reason="needs onnxruntime or Caffe")
needs_an_engine = pytest.mark.skipif(not AVAILABLE, reason="needs onnxruntime or Caffe")


def make_model(folder, seed=1, threshold=0.1, pixel_size=(50.0, 4.0, 5.0), padding=""):
    """A whole model directory with random weights; ``padding`` goes into the prototxt of c2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / model.DEPLOY).write_text(
        paper.deploy_prototxt(COUNTS, "tiny").replace("kernel_size: 5", f"kernel_size: 5 {padding}"))
    net = read_net(folder / model.DEPLOY)
    write_weights(folder / model.WEIGHTS, net, random_weights(net, seed))
    model.finish_model(folder, name="tiny", normalisation={"mean": MEAN, "std": STD}, patch_size=32,
                       pixel_size_nm=list(pixel_size), counts=COUNTS, threshold=threshold, provenance={})
    return folder


def grey_values(slices=3, rows=40, columns=52, seed=0):
    """Noise with some structure, uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    waves = 40 * np.sin(y / 5)[None] * np.sin(x / 7 + np.arange(slices)[:, None, None])
    return np.clip(MEAN + waves + generator.normal(0, 25, (slices, rows, columns)), 0, 255).astype(np.uint8)


def write_volume(path, array, pixel_size=PIXEL_SIZE):
    """A volume file that holds an array."""
    with create_volume(path, array.shape, array.dtype, pixel_size, force=True) as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    return path


GREY = grey_values()


def request(raw, out, model, **options):
    options = {"mode": MODE, "workers": 1, **options}
    return Request(str(raw), str(out), str(model), **options)


def run_cli(*arguments):
    """Exit code of the command line in this process."""
    return main(cli, "segment", [str(argument) for argument in arguments])


def start_cli(*arguments, **options):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen([sys.executable, "-m", "pycaffe_tools.segment", *map(str, arguments)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def read(path):
    with open_volume(path) as volume:
        return np.stack([volume.read(z) for z in range(volume.shape[0])])

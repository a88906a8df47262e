"""The loops that are preloaded into Caffe's training: the same bits as Caffe's own, on real Caffe."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pycaffe_tools.base.host import compiler
from pycaffe_tools.base.host.blas import blas_environment
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.running import loops
from pycaffe_tools.nets.running.process import run_caffe_train

pytestmark = [pytest.mark.caffe, pytest.mark.skipif(not loops.available() or not list(compiler.compilers()),
                                                    reason="needs Linux on x86-64 and a C++ compiler")]

# What the loops cover, and beside it what they hand to Caffe: other strides, edges that a window overlaps, padding, averages,
# a mask as a second top, a slope, dilation, groups.
LAYERS = """
layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ num_output: 4 {conv} }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "{relu_top}" relu_param {{ {relu} }} }}
layer {{ name: "p" type: "Pooling" bottom: "{relu_top}" top: "p" pooling_param {{ {pool} }} }}
layer {{ name: "d" type: "Convolution" bottom: "p" top: "d" convolution_param {{ num_output: 3 kernel_size: 1 }} }}
"""
CASES = [
    dict(conv="kernel_size: 3", relu="", relu_top="c", pool="pool: MAX kernel_size: 3 stride: 2"),
    dict(conv="kernel_size: 5", relu="", relu_top="r", pool="pool: MAX kernel_size: 2 stride: 2"),
    dict(conv="kernel_h: 2 kernel_w: 4", relu="", relu_top="c", pool="pool: MAX kernel_h: 2 kernel_w: 5 stride_h: 1 stride_w: 3"),
    dict(conv="kernel_size: 1", relu="", relu_top="c", pool="pool: MAX kernel_size: 4 stride: 4"),
    dict(conv="kernel_size: 3", relu="", relu_top="c", pool="pool: MAX kernel_size: 3 stride: 1"),
    dict(conv="kernel_size: 3", relu="", relu_top="c", pool="pool: MAX kernel_size: 5 stride: 5"),
    dict(conv="kernel_size: 3 pad: 1", relu="", relu_top="c", pool="pool: MAX kernel_size: 3 stride: 2 pad: 1"),
    dict(conv="kernel_size: 3 stride: 2", relu="negative_slope: 0.25", relu_top="c", pool="pool: AVE kernel_size: 3 stride: 2"),
    dict(conv="kernel_size: 3 dilation: 2", relu="negative_slope: -1", relu_top="r", pool="pool: MAX kernel_size: 3 stride: 2"),
    dict(conv="kernel_size: 3 group: 2", relu="", relu_top="c", pool="pool: MAX global_pooling: true"),
]

IN_CHILD = """
import ctypes, json, sys
import numpy as np
import caffe
caffe.set_mode_cpu()
shapes = json.loads(sys.argv[2])
digest = {}
for case, shape in enumerate(shapes):
    net = caffe.Net(sys.argv[1] % case, caffe.TRAIN)
    random = np.random.RandomState(case)
    for name in net.params:
        for blob in net.params[name]:
            blob.data[...] = random.standard_normal(blob.data.shape)
    for special in (False, True):
        x = random.standard_normal(shape).astype(np.float32)
        x[..., 0, :] = 0                                # equal values under a window
        if special:                                     # and what is no number, or hardly one
            at = random.permutation(x.size)[:60]
            x.ravel()[at] = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, -3.4e38], np.float32), 60)
        net.blobs["x"].reshape(*shape)
        net.reshape()
        net.blobs["x"].data[...] = x
        net.forward()
        last = list(net.blobs)[-1]
        diff = random.standard_normal(net.blobs[last].diff.shape).astype(np.float32)
        if special:
            diff.ravel()[::3] = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), diff.ravel()[::3].shape)
        net.blobs[last].diff[...] = diff
        if not special or "p" not in net.blobs:     # Caffe writes before the image where a window holds nothing but NaN
            net.backward()
        for name, blob in net.blobs.items():
            digest["%d %s %s" % (case, special, name)] = [blob.data.tobytes().hex(), blob.diff.tobytes().hex()]
        for name in net.params:
            for k, blob in enumerate(net.params[name]):
                digest["%d %s %s %d" % (case, special, name, k)] = blob.diff.tobytes().hex()
names = [line.split()[-1] for line in open("/proc/self/maps") if "libcaffe" in line]
pool = "_ZN5caffe12PoolingLayerIfE12Backward_cpuERKSt6vectorIPNS_4BlobIfEESaIS5_EERKS2_IbSaIbEES9_"
address = ctypes.cast(getattr(ctypes.CDLL(names[0]), pool), ctypes.c_void_p)
build = getattr(ctypes.CDLL(None), "loops_build", None)
print(json.dumps({"build": build and build(address), "digest": digest, "libcaffe": names[0]}))
"""


def in_child(folder, preload, shapes, python=sys.executable):
    """Forward and backward through every case, in a process with or without the loops."""
    variables = {**os.environ, **blas_environment(), **preload, "GLOG_minloglevel": "2"}
    done = subprocess.run([str(python), "-c", IN_CHILD, str(folder / "net%d.prototxt"), json.dumps(shapes)], env=variables,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A folder with a net for each case, and the shapes to give them."""
    folder = tmp_path_factory.mktemp("loops")
    shapes = [[2, 2, 17 + case, 20 + 2 * case] for case in range(len(CASES))]
    head = 'force_backward: true layer { name: "x" type: "Input" top: "x" input_param { shape { %s } } }'
    for number, (case, shape) in enumerate(zip(CASES, shapes)):
        text = head % " ".join(f"dim: {size}" for size in shape) + LAYERS.format(**case)
        if number % 2:
            text += 'layer { name: "s" type: "Softmax" bottom: "d" top: "s" }'
        (folder / f"net{number}.prototxt").write_text(text)
    shapes.append([2, 3, 5, 7])
    (folder / f"net{len(CASES)}.prototxt").write_text(
        head % "dim: 1 dim: 1 dim: 1 dim: 1" + 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }')
    return folder, shapes


@pytest.fixture(scope="module")
def plain(nets):
    return in_child(nets[0], {}, nets[1])


def known(library):
    """Whether the loops' sources know this build of Caffe."""
    notes = subprocess.run(["readelf", "-n", library], stdout=subprocess.PIPE, text=True).stdout
    return any(line.split()[-1] in loops.SOURCE.read_text() for line in notes.splitlines() if "Build ID" in line)


def test_every_number_has_the_bits_of_caffes_own(nets, plain):
    ours = in_child(nets[0], loops.loops_environment(), nets[1])
    assert plain["build"] is None and len(plain["digest"]) > 100
    if shutil.which("readelf"):
        assert bool(ours["build"]) == known(ours["libcaffe"]), "they are in use where the build is known"
    different = [name for name, value in plain["digest"].items() if ours["digest"][name] != value]
    assert different == []


def test_another_build_of_caffe_runs_its_own(nets, plain, tmp_path):
    real, python = Path(plain["libcaffe"]), Path(sys.executable)
    if real.parent.parent != python.parent.parent / "lib":
        pytest.skip("needs Caffe in the folder of its Python")
    # The same environment over again, of links, but for a libcaffe that says another build of itself.
    libraries = tmp_path / "lib" / real.parent.name
    libraries.mkdir(parents=True)
    for path in [*python.parent.parent.iterdir(), *(python.parent.parent / "lib").iterdir(), *real.parent.iterdir()]:
        if path.name not in ("bin", "lib", real.parent.name, real.name):
            (tmp_path / path.relative_to(python.parent.parent)).symlink_to(path)
    content = real.read_bytes()
    identity = content.index(b"GNU\0", content.index(b"\x14\0\0\0\x03\0\0\0")) + 4
    (libraries / real.name).write_bytes(content[:identity] + bytes(20) + content[identity + 20:])
    (tmp_path / "bin").mkdir()
    shutil.copy(python, tmp_path / "bin" / "python")
    ours = in_child(nets[0], loops.loops_environment(), nets[1], tmp_path / "bin" / "python")
    assert Path(ours["libcaffe"]) == libraries / real.name and ours["build"] == 0
    assert ours["digest"] == plain["digest"]


@pytest.mark.parametrize("network", ["N", "N7"])
def test_a_training_ends_with_the_same_weights(network, tmp_path, monkeypatch):
    random = np.random.default_rng(5)
    label = (np.arange(256) % 2).astype(np.float32)
    with h5py.File(tmp_path / "patches.h5", "w") as handle:
        handle["data"] = (random.standard_normal((256, 1, 32, 32)) + label[:, None, None, None]).astype(np.float32)
        handle["label"] = label
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'patches.h5'}\n")
    text = paper.train_val_prototxt(paper.counts_of(network), network)
    for split in ("train", "val"):
        text = text.replace(f"{paper.DATABASE}/{split}.txt", "list.txt")
    (tmp_path / "net.prototxt").write_text(text)
    weights, losses = [], []
    for choice in ("0", "1"):
        monkeypatch.setenv(loops.CHOICE, choice)
        solver = tmp_path / f"solver{choice}.prototxt"
        solver.write_text(f'net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01 max_iter: 8 '
                          f'display: 1 test_iter: 2 test_interval: 4 snapshot_prefix: "w{choice}" random_seed: 1 solver_mode: CPU\n')
        events = []
        assert run_caffe_train(solver, tmp_path / f"log{choice}", events.append) == 0
        weights.append((tmp_path / f"w{choice}_iter_8.caffemodel").read_bytes())
        losses.append(events)
    assert weights[0] == weights[1] and len(weights[0]) > 10_000
    assert losses[0] == losses[1] and len(losses[0]) > 10
    state = [(tmp_path / f"w{choice}_iter_8.solverstate").read_bytes().replace(b"w1_iter", b"w0_iter") for choice in "01"]
    assert state[0] == state[1]


def test_they_are_left_out_on_demand_and_where_nothing_compiles(monkeypatch, tmp_path):
    assert loops.loops_environment()["LD_PRELOAD"].split(":")[0] == str(loops.library_path())
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    assert loops.loops_environment()["LD_PRELOAD"].split(":")[1:] == ["other.so"]
    monkeypatch.setenv(loops.CHOICE, "0")
    assert loops.loops_environment() == {}
    monkeypatch.setenv(loops.CHOICE, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiler, "compilers", lambda: iter([]))
    assert loops.loops_environment() == {}
    assert loops.main() == 1
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a folder"))
    assert loops.loops_environment() == {}, "a name with a space cannot be preloaded"

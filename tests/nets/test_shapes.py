"""Shapes and memory are what Caffe makes of a net."""

import json
import os
import re
import subprocess
import sys

import pytest

from pycaffe_tools.nets import paper
from pycaffe_tools.nets.shapes import pooled_length

from ..conftest import ROOT
from .cases import TEXTS, graph

ASK_CAFFE = r"""
import json, sys, caffe
for path in sys.argv[1:]:
    print("NET", path, file=sys.stderr, flush=True)
    net = caffe.Net(path, caffe.TEST)
    print(json.dumps([{name: list(blob.data.shape) for name, blob in net.blobs.items()},
                      {name: [list(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}]))
"""


@pytest.fixture(scope="module")
def caffe_says(tmp_path_factory):
    """For each net: blob shapes, parameter shapes, and the last "Memory required for data" that Caffe logs."""
    pytest.importorskip("caffe")
    folder = tmp_path_factory.mktemp("nets")
    paths = []
    for name, text in TEXTS.items():
        paths.append(folder / f"{name}.prototxt")
        paths[-1].write_text(text)
    paths += [ROOT / "prototxt" / name / "deploy.prototxt" for name in paper.NAMES]
    environment = dict(os.environ, GLOG_minloglevel="0", GLOG_logtostderr="1")
    done = subprocess.run([sys.executable, "-c", ASK_CAFFE, *map(str, paths)], env=environment, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    logs = re.split(r"^NET .*$", done.stderr, flags=re.M)[1:]
    memory = [int(re.findall(r"Memory required for data: (\d+)", log)[-1]) for log in logs]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    names = list(TEXTS) + list(paper.NAMES)
    assert len(memory) == len(answers) == len(names)
    return {name: (blobs, params, bytes_) for name, (blobs, params), bytes_ in zip(names, answers, memory)}


@pytest.mark.caffe
@pytest.mark.parametrize("name", list(TEXTS) + ["N", "N7"])
def test_every_blob_has_the_shape_that_caffe_gives_it(name, caffe_says):
    net = graph(name)
    values = list(net.inputs) + [value for layer in net.layers for value in layer.outputs]
    own = {value.blob: list(net.shape(value)) for value in values}
    blobs = caffe_says[name][0]
    # Caffe's copies for several readers are called BLOB_LAYER_split_K.
    assert own == {blob: shape for blob, shape in blobs.items() if not re.search(r"_split_\d+$", blob)}


@pytest.mark.caffe
@pytest.mark.parametrize("name", list(TEXTS) + ["N", "N7"])
def test_every_weight_has_the_shape_that_caffe_gives_it(name, caffe_says):
    net = graph(name)
    own = {layer.name: [list(shape) for shape in net.parameter_shapes(layer)] for layer in net.layers
           if net.parameter_shapes(layer)}
    params = caffe_says[name][1]
    assert own == {layer: params[layer] for layer in params if net.layer(layer).type in
                   ("Convolution", "Deconvolution", "InnerProduct")}


@pytest.mark.caffe
@pytest.mark.parametrize("name", list(TEXTS) + list(paper.NAMES))
def test_memory_is_what_caffe_logs(name, caffe_says):
    assert graph(name).memory_bytes() == caffe_says[name][2]


def test_random_nets_hold_what_they_are_for():
    joined = "\n".join(TEXTS.values())
    for feature in ("stride: 2", "pad: 2", "dilation: 2", "group: 2", "Concat", "pool: AVE", "bias_term: false"):
        assert feature in joined
    assert any(layer.bottoms == layer.tops for name in TEXTS for layer in graph(name).layers)


@pytest.mark.parametrize("length, kernel, stride, pad, windows", [
    (26, 3, 2, 0, 13),  # the last window clipped
    (9, 3, 2, 0, 4), (2, 3, 2, 0, 1),
    (4, 2, 2, 1, 3),
    (5, 2, 3, 1, 2),    # a third window would begin in the padding
])
def test_pooling_windows_by_hand(length, kernel, stride, pad, windows):
    assert pooled_length(length, kernel, stride, pad) == windows

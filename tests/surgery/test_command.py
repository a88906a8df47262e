"""The command writes both forms whole or not at all, and names what is wrong."""

import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files.caffemodel import read_weights, write_weights
from pycaffe_tools.nets.files.schema import read_prototxt, schema
from pycaffe_tools.nets.netgraph import read_net, write_net
from pycaffe_tools.nets.running.runtime import random_weights
from pycaffe_tools.surgery import files
from pycaffe_tools.surgery.files import open_deploy, write_surgery
from pycaffe_tools.surgery.surgery import remove_features

from ..conftest import ROOT
from .cases import CONSTRUCTIONS, conv, fc, layer, net_of


@pytest.fixture
def trained(tmp_path):
    """A small model on disk, and a file of what to keep."""
    net = net_of(conv("a", "data", 4), layer("ReLU", "r", "a", tops="a"), fc("f", "a", 2), layer("Softmax", "prob", "f"))
    write_net(tmp_path / "deploy.prototxt", net.proto)
    write_weights(tmp_path / "weights.caffemodel", net, random_weights(net))
    (tmp_path / "keep.json").write_text('{"a": [3, 1]}')
    return tmp_path


def command(folder, *more):
    arguments = [str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"), str(folder / "out"),
                 "--keep-file", str(folder / "keep.json"), *more]
    return subprocess.run([sys.executable, "-m", "pycaffe_tools.surgery", *arguments], cwd=ROOT, text=True,
                          capture_output=True)


@pytest.mark.caffe
def test_the_command_writes_both_forms_and_caffe_runs_them(trained):
    done = command(trained)
    assert done.returncode == 0, done.stderr
    assert re.search(r"differ by at most [\d.e-]+ of the largest", done.stdout)
    out = trained / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "deploy.prototxt", "masked.caffemodel", "masked.prototxt", "weights.caffemodel"]
    from pycaffe_tools.nets.running.runtime import import_caffe
    caffe = import_caffe()
    outputs = []
    for proto, weights in (("masked.prototxt", "masked.caffemodel"), ("deploy.prototxt", "weights.caffemodel")):
        running = caffe.Net(str(out / proto), str(out / weights), caffe.TEST)
        running.blobs["data"].data[...] = np.random.default_rng(9).standard_normal(running.blobs["data"].data.shape)
        outputs.append(running.forward()["prob"].copy())
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5)
    again = command(trained)
    assert again.returncode == 1 and "out: exists already" in again.stderr
    training = read_prototxt(trained / "deploy.prototxt")
    training.layer[0].type, training.layer[-1].type = "HDF5Data", "SoftmaxWithLoss"
    training.layer[0].ClearField("input_param")
    training.layer[0].top.append("label")
    training.layer[-1].bottom.append("label")
    write_net(trained / "train_val.prototxt", training)
    assert command(trained, "--force", "--train-val", str(trained / "train_val.prototxt")).returncode == 0
    training.layer[1].convolution_param.num_output = 2
    assert read_prototxt(out / "train_val.prototxt") == training


@pytest.mark.caffe
def test_the_command_names_what_is_wrong_and_leaves_nothing(trained):
    def refused(*more):
        done = command(trained, *more)
        assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (trained / "out").exists() and not list(trained.glob(".out*"))
        return done.stderr

    (trained / "keep.json").write_text('{"a": [9]}')
    assert "keep.json: layer a: 9 is not one of its features" in refused()
    (trained / "keep.json").write_text("[1]")
    assert "keep.json: must hold the features to keep of each layer" in refused()
    (trained / "keep.json").write_text('{"a": [0]}')
    assert "train_val.prototxt: there is no such file" in refused("--train-val", str(trained / "train_val.prototxt"))
    whole = (trained / "weights.caffemodel").read_bytes()
    (trained / "weights.caffemodel").write_bytes(whole[:-100])
    assert "weights.caffemodel: is not a whole caffemodel" in refused()
    other = net_of(conv("a", "data", 5), fc("f", "a", 2))
    write_weights(trained / "weights.caffemodel", other, random_weights(other))
    assert "weights.caffemodel: layer a has blobs [(5, 3, 3, 3), (5,)]" in refused()


@pytest.mark.caffe
def test_a_net_that_caffe_itself_refuses_ends_in_a_sentence(trained):
    # Caffe's LRN takes odd sizes only, and ends the process that asks for another.
    net = net_of(conv("a", "data", 4), layer("LRN", "n", "a", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 4 }"),
                 fc("f", "n", 2))
    write_net(trained / "deploy.prototxt", net.proto)
    write_weights(trained / "weights.caffemodel", net, random_weights(net))
    done = command(trained)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert re.match(r"error: .*deploy\.prototxt: Caffe refuses it: .*odd values for local_size", done.stderr)
    assert not (trained / "out").exists() and not list(trained.glob(".out*"))


@pytest.mark.caffe
def test_weights_of_layers_that_the_net_has_not_are_left_out_aloud(trained):
    net = read_net(trained / "deploy.prototxt")
    more = net_of(*CONSTRUCTIONS["convolution, pooling, inner product"][0])
    blobs = {**random_weights(more), **random_weights(net)}
    write_weights(trained / "weights.caffemodel", net_of(
        conv("a", "data", 4), fc("f", "a", 2), fc("g", "f", 2)), {"a": blobs["a"], "f": blobs["f"], "g": blobs["g"]})
    done = command(trained)
    assert done.returncode == 0 and "left out" in done.stderr and "weights of g" in done.stderr
    assert "g" not in read_weights(trained / "out" / "weights.caffemodel")


def test_a_training_net_is_not_taken_for_a_deployed_one():
    with pytest.raises(UserError, match="train_val.prototxt: has the HDF5Data layer data, so it is a training net; "
                                        "give its deploy prototxt"):
        open_deploy(ROOT / "prototxt/N/train_val.prototxt")


def test_the_training_net_must_be_that_of_the_deployed_one(trained):
    net = read_net(ROOT / "prototxt/N7/deploy.prototxt")
    surgery = remove_features(net, random_weights(net), {"c1": [0, 1]})
    with pytest.raises(UserError, match="layer c1 has 100 features in the training net and 30 in the deployed one"):
        files.write_files(trained, surgery, read_prototxt(ROOT / "prototxt/N/train_val.prototxt"))


@pytest.mark.caffe
def test_a_failed_proof_leaves_nothing(trained, monkeypatch):
    net = read_net(trained / "deploy.prototxt")
    surgery = remove_features(net, random_weights(net), {"a": [0, 1]})
    surgery.slim_weights["a"][0][0] += 1
    with pytest.raises(UserError, match="nothing was written"):
        write_surgery(trained / "out", surgery)
    assert not (trained / "out").exists() and not list(trained.glob(".out*"))


KILLED = """
import sys, time
from pathlib import Path
from pycaffe_tools.nets.files.caffemodel import read_weights
from pycaffe_tools.surgery import files
from pycaffe_tools.surgery.surgery import remove_features
net = files.open_deploy(sys.argv[1])
result = remove_features(net, read_weights(sys.argv[2]), {"a": [0, 1]})
write = files.write_files
def halting(directory, *arguments):
    write(directory, *arguments)
    (Path(directory) / files.SLIM_WEIGHTS).unlink()
    print("half", flush=True)
    time.sleep(60)
files.write_files = halting
files.write_surgery(sys.argv[3], result)
"""


@pytest.mark.caffe
def test_a_killed_process_leaves_nothing_that_looks_whole(trained):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(trained / "deploy.prototxt"),
                                str(trained / "weights.caffemodel"), str(trained / "out")], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == "half"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (trained / "out").exists() and list(trained.glob(".out.partial-*"))
    net = open_deploy(trained / "deploy.prototxt")
    write_surgery(trained / "out", remove_features(net, read_weights(trained / "weights.caffemodel"), {"a": [0, 1]}))
    assert (trained / "out" / "weights.caffemodel").is_file() and not list(trained.glob(".out.partial-*"))


@pytest.mark.caffe
def test_a_pooling_that_rounds_down_is_operated_on_as_caffe_pools_it(trained):
    if "round_mode" not in schema().PoolingParameter.DESCRIPTOR.fields_by_name:
        pytest.skip("this Caffe does not know round_mode")
    net = net_of(conv("a", "data", 4), layer("Pooling", "p", "a", "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }"),
                 fc("f", "p", 2), layer("Softmax", "prob", "f"), shape=(1, 1, 16, 16))
    write_net(trained / "deploy.prototxt", net.proto)
    from pycaffe_tools.nets.running.runtime import import_caffe
    caffe = import_caffe()
    running = caffe.Net(str(trained / "deploy.prototxt"), caffe.TEST)       # its fillers leave zeros
    for blob in (blob for blobs in running.params.values() for blob in blobs):
        blob.data[...] = np.random.default_rng(0).normal(size=blob.data.shape)
    running.save(str(trained / "weights.caffemodel"))
    done = command(trained)
    assert done.returncode == 0, done.stderr
    assert "round_mode: FLOOR" in (trained / "out" / "deploy.prototxt").read_text()
    assert read_weights(trained / "out" / "weights.caffemodel")["f"][0].shape == (2, 2 * 6 * 6)


@pytest.mark.caffe
def test_every_refusal_names_the_file_it_is_about(trained):
    def refused(*more):
        done = command(trained, *more)
        assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (trained / "out").exists()
        return done.stderr

    deploy = (trained / "deploy.prototxt").read_text()
    assert re.match(f"error: {trained}/deploy.prototxt: net net: has no loss layer, so it is no training net",
                    refused("--train-val", str(trained / "deploy.prototxt")))
    (trained / "deploy.prototxt").write_text(deploy.replace("kernel_size: 3", "kernel_size: 0"))
    assert refused().startswith(f"error: {trained}/deploy.prototxt: layer a: has no kernel size")
    (trained / "deploy.prototxt").write_text(deploy)
    (trained / "keep.json").write_text('{"a": "' + "0" * 10_000 + '"}')
    assert f"{trained}/keep.json: layer a: the features to keep must be a list" in refused() and len(refused()) < 300
    weights = read_weights(trained / "weights.caffemodel")
    weights["f"][0][0] = np.nan
    write_weights(trained / "weights.caffemodel", read_net(trained / "deploy.prototxt"), weights)
    assert f"{trained}/weights.caffemodel: blob 0 of layer f holds values that are no numbers" in refused()

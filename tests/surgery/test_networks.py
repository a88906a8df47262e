"""Surgery makes the paper's networks of one another, their training nets, and takes nets of old files."""


import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.caffemodel import read_weights
from pycaffe_tools.nets.files.schema import parse_prototxt, read_prototxt
from pycaffe_tools.nets.netgraph import NetGraph, read_net
from pycaffe_tools.nets.running.runtime import random_weights
from pycaffe_tools.surgery.files import open_deploy, write_surgery
from pycaffe_tools.surgery.proof import TOLERANCE, prove
from pycaffe_tools.surgery.surgery import remove_features, slim_prototxt

from ..conftest import ROOT


def keep_of(name, seed=0):
    rng = np.random.default_rng(seed)
    return {layer: rng.permutation(paper.TABLE_1["N"][layer])[:count].tolist()
            for layer, count in paper.TABLE_1[name].items()}


@pytest.mark.caffe
@pytest.mark.parametrize("name", ["N1", "N7"])
def test_from_n_to_the_networks_of_table_1(name):
    net = read_net(ROOT / "prototxt/N/deploy.prototxt")
    surgery = remove_features(net, random_weights(net, seed=1), keep_of(name))
    assert prove(surgery) <= TOLERANCE
    slim, committed = NetGraph(surgery.slim_proto), read_net(ROOT / "prototxt" / name / "deploy.prototxt")
    assert slim.parameter_count() == committed.parameter_count()
    assert slim.memory_bytes() == committed.memory_bytes()
    # Layer by layer the slim net is the committed one, apart from its name.
    slim.proto.name = committed.proto.name
    assert slim.proto == committed.proto


def test_the_training_net_follows():
    proto = read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    slim = slim_prototxt(proto, keep_of("N7"), {"data": (1, 1, 32, 32)})
    wanted = read_prototxt(ROOT / "prototxt/N7/train_val.prototxt")
    wanted.name = "N"
    assert slim == wanted
    assert proto == read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    with pytest.raises(UserError, match="net N: has no layer c9, which is to be pruned"):
        slim_prototxt(proto, {"c9": [0]})


@pytest.mark.caffe
def test_an_obstacle_in_the_training_net_alone_is_found():
    proto = read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    proto.layer.add(name="norm", type="LRN", bottom=["p2"], top=["norm"]).include.add(phase=0)
    with pytest.raises(UserError, match="layer c2: .* LRN layer norm behind it normalises across channels"):
        slim_prototxt(proto, {"c2": [0]}, {"data": (1, 1, 32, 32)})


@pytest.mark.caffe
def test_old_layers_and_four_dimensional_blobs(tmp_path):
    text = """name: "old" input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
        layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
        layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
        layers { name: "ip" type: INNER_PRODUCT bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
        layers { name: "ip2" type: INNER_PRODUCT bottom: "ip" top: "ip2" inner_product_param { num_output: 2 } }"""
    model = parse_prototxt(text)
    rng = np.random.default_rng(0)
    for name, shapes in {"conv": [(4, 3, 3, 3), (1, 1, 1, 4)], "ip": [(1, 1, 5, 36), (1, 1, 1, 5)],
                         "ip2": [(1, 1, 2, 5), (1, 1, 1, 2)]}.items():
        for shape in shapes:
            blob = next(one for one in model.layers if one.name == name).blobs.add()
            blob.num, blob.channels, blob.height, blob.width = shape
            blob.data.extend(rng.standard_normal(int(np.prod(shape))).astype(np.float32).tolist())
    (tmp_path / "deploy.prototxt").write_text(text)
    (tmp_path / "old.caffemodel").write_bytes(model.SerializeToString())
    surgery = remove_features(open_deploy(tmp_path / "deploy.prototxt"), read_weights(tmp_path / "old.caffemodel"),
                              {"conv": [1, 3], "ip": [0, 1, 4]})
    assert write_surgery(tmp_path / "out", surgery) <= TOLERANCE
    slim = read_weights(tmp_path / "out" / "weights.caffemodel")
    assert [blob.shape for blob in slim["conv"] + slim["ip"]] == [(2, 3, 3, 3), (2,), (3, 18), (3,)]
    ip = np.array(model.layers[3].blobs[0].data).reshape(5, 4, 9)
    np.testing.assert_allclose(slim["ip"][0], ip[[0, 1, 4]][:, [1, 3]].reshape(3, 18), rtol=1e-6)

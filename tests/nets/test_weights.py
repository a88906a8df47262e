"""Weights in and out of caffemodels, new and old, as Caffe reads and writes them."""


import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files.caffemodel import read_weights, write_weights
from pycaffe_tools.nets.files.schema import parse_prototxt, schema
from pycaffe_tools.nets.files.upgrade import upgraded
from pycaffe_tools.nets.netgraph import NetGraph, write_net
from pycaffe_tools.nets.running.runtime import load_net, random_weights

from .cases import graph


@pytest.mark.caffe
def test_caffe_reads_the_written_weights_and_we_read_what_caffe_writes(tmp_path):
    from pycaffe_tools.nets.running.runtime import import_caffe
    caffe = import_caffe()
    net = graph("N7")
    weights = random_weights(net, seed=2)
    write_net(tmp_path / "deploy.prototxt", net.proto, "two lines\nof comment")
    write_weights(tmp_path / "own.caffemodel", net, weights)
    running = caffe.Net(str(tmp_path / "deploy.prototxt"), str(tmp_path / "own.caffemodel"), caffe.TEST)
    for name, arrays in weights.items():
        for blob, array in zip(running.params[name], arrays):
            np.testing.assert_array_equal(blob.data, array)
    running.save(str(tmp_path / "caffe.caffemodel"))
    again = read_weights(tmp_path / "caffe.caffemodel")
    assert list(again) == list(weights)
    for name, arrays in weights.items():
        for first, second in zip(again[name], arrays):
            np.testing.assert_array_equal(first, second)


OLD_NET = """
name: "old"
input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 4 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "norm" type: LRN bottom: "conv" top: "norm" lrn_param { local_size: 3 } }
layers { name: "pool" type: POOLING bottom: "norm" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
layers { name: "prob" type: SOFTMAX bottom: "ip" top: "prob" }
"""


def old_caffemodel():
    """A caffemodel as Caffe wrote it in 2014: ``layers`` with 4-D blobs."""
    rng = np.random.default_rng(3)
    arrays = {"conv": [rng.standard_normal((4, 3, 3, 3)), rng.standard_normal((1, 1, 1, 4))],
              "ip": [rng.standard_normal((1, 1, 5, 36)), rng.standard_normal((1, 1, 1, 5))]}
    model = parse_prototxt(OLD_NET)
    for layer in model.layers:
        for array in arrays.get(layer.name, ()):
            blob = layer.blobs.add()
            blob.num, blob.channels, blob.height, blob.width = array.shape
            blob.data.extend(array.astype(np.float32).ravel().tolist())
    return model


@pytest.mark.caffe
def test_old_layers_and_blobs_are_upgraded_as_caffe_upgrades_them(tmp_path):
    from pycaffe_tools.nets.running.runtime import import_caffe
    caffe = import_caffe()
    (tmp_path / "old.prototxt").write_text(OLD_NET)
    (tmp_path / "old.caffemodel").write_bytes(old_caffemodel().SerializeToString())
    net = NetGraph(parse_prototxt(OLD_NET))
    weights = read_weights(tmp_path / "old.caffemodel")
    assert [[array.shape for array in weights[name]] for name in ("conv", "ip")] == [
        [(4, 3, 3, 3), (4,)], [(5, 36), (5,)]]
    theirs = caffe.Net(str(tmp_path / "old.prototxt"), str(tmp_path / "old.caffemodel"), caffe.TEST)
    ours = load_net(net.proto, weights)
    for running in (ours, theirs):
        running.blobs["data"].data[...] = np.random.default_rng(1).standard_normal((2, 3, 8, 8))
        running.forward()
    assert list(ours._layer_names) == list(theirs._layer_names)
    np.testing.assert_array_equal(ours.blobs["prob"].data, theirs.blobs["prob"].data)
    assert ours.blobs["prob"].data.std() > 0.01


@pytest.mark.caffe
def test_every_old_layer_type_has_its_modern_name():
    from pycaffe_tools.nets.running.runtime import import_caffe
    known = set(import_caffe().layer_type_list())
    for name in schema().V1LayerParameter.LayerType.keys():
        text = f'layers {{ name: "x" type: {name} }}'
        if name == "NONE":
            with pytest.raises(UserError, match="layer x: .*type"):
                upgraded(parse_prototxt(text))
        else:
            assert upgraded(parse_prototxt(text)).layer[0].type in known, name


@pytest.mark.caffe
def test_learning_rates_of_old_layers_become_parameter_specs():
    layer = upgraded(parse_prototxt(OLD_NET)).layer[0]
    assert [(spec.lr_mult, spec.decay_mult) for spec in layer.param] == [(1, 1), (2, 0)]
    assert not upgraded(parse_prototxt(OLD_NET)).layers


@pytest.mark.caffe
def test_old_and_new_layers_at_once_are_refused():
    text = OLD_NET + 'layer { name: "x" type: "ReLU" bottom: "prob" top: "x" }'
    with pytest.raises(UserError, match="mixes old 'layers' and new 'layer'"):
        NetGraph(parse_prototxt(text))


def test_weights_that_end_early_are_refused(tmp_path):
    net = graph("N7")
    write_weights(tmp_path / "whole.caffemodel", net, random_weights(net))
    content = (tmp_path / "whole.caffemodel").read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(content[:len(content) // 2])
    with pytest.raises(UserError, match="cut.caffemodel: is not a whole caffemodel"):
        read_weights(tmp_path / "cut.caffemodel")
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    with pytest.raises(UserError, match="empty.caffemodel: holds no weights"):
        read_weights(tmp_path / "empty.caffemodel")


@pytest.mark.parametrize("count", [0, 1, 31, 32, 5000])
@pytest.mark.parametrize("name", ["data", "double_data"])
def test_numbers_pass_as_bytes_unchanged(count, name, tmp_path):
    numbers = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    model = schema().NetParameter()
    blob = model.layer.add(name="ip", type="InnerProduct").blobs.add()
    blob.shape.dim.append(count)
    getattr(blob, name).extend(numbers.tolist())
    (tmp_path / "x.caffemodel").write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(read_weights(tmp_path / "x.caffemodel")["ip"][0], numbers)
    net = NetGraph(parse_prototxt('name: "x" input: "d" input_shape { dim: 1 dim: 2 } layer { name: "ip" '
                                  'type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 1 } }'))
    write_weights(tmp_path / "y.caffemodel", net, {"ip": [numbers]})
    written = schema().NetParameter.FromString((tmp_path / "y.caffemodel").read_bytes())
    assert list(written.layer[0].blobs[0].data) == numbers.tolist()


def test_a_blob_whose_shape_is_not_its_content_is_refused(tmp_path):
    model = schema().NetParameter(name="n")
    blob = model.layer.add(name="ip", type="InnerProduct").blobs.add()
    blob.shape.dim.extend([4, 5])
    blob.data.extend([1.0] * 19)
    (tmp_path / "odd.caffemodel").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"odd.caffemodel: is damaged, layer ip: blob 0 .*\(4, 5\).* 19 numbers"):
        read_weights(tmp_path / "odd.caffemodel")

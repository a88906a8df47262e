"""A prototxt as a graph: who feeds whom, phases, parts cut out."""


import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files.schema import parse_prototxt, read_prototxt, schema, to_text
from pycaffe_tools.nets.netgraph import NetGraph, read_net, write_net
from pycaffe_tools.nets.running.runtime import load_net, random_weights

from ..conftest import ROOT
from .cases import LENET, graph


def test_in_place_layers_make_values_of_their_own():
    net = graph("N")
    c1, relu1, p1 = (net.layer(name) for name in ("c1", "relu1", "p1"))
    assert net.consumers(c1) == [relu1] and net.consumers(relu1) == [p1]
    assert net.producer(p1.inputs[0]) is relu1
    assert [layer.name for layer in net.chain()] == (
        "c1 relu1 p1 c2 relu2 p2 c3 relu3 p3 fc4 relu4 fc5 prob".split())


def test_a_branch_is_no_chain():
    with pytest.raises(UserError, match="not a single chain"):
        net = NetGraph(parse_prototxt(LENET.replace('bottom: "ip2"', 'bottom: "ip1"')))
        net.chain()


def test_phases_choose_layers():
    proto = read_prototxt(ROOT / "prototxt/N/train_val.prototxt")
    assert "accuracy" in [layer.name for layer in NetGraph(proto, "TEST").layers]
    assert "accuracy" not in [layer.name for layer in NetGraph(proto, "TRAIN").layers]


def test_a_layer_of_unknown_type_is_named_only_where_its_shape_is_asked_for():
    net = NetGraph(parse_prototxt(LENET.replace('type: "Softmax"', 'type: "Riddle"')))
    for _ in range(2):
        assert net.output_shape(net.layer("ip2")) == (3, 10)
        with pytest.raises(UserError, match="layer prob: layers of type Riddle"):
            net.output_shape(net.layer("prob"))


def test_a_blob_that_nothing_makes_is_named():
    with pytest.raises(UserError, match="layer conv2: reads the blob 'nowhere'"):
        NetGraph(parse_prototxt(LENET.replace('bottom: "pool1"', 'bottom: "nowhere"')))


@pytest.mark.caffe
@pytest.mark.parametrize("name, at", [("N7", ["p1", "relu3", "fc4"]), ("lenet", ["relu1"])])
def test_parts_one_after_the_other_are_the_whole_net(name, at):
    net = graph(name)
    weights = random_weights(net, seed=5)
    names = [layer.name for layer in net.layers]
    whole = load_net(net.cut(names[0], names[-1], batch=2), weights)
    data = np.random.default_rng(0).standard_normal(whole.blobs["data"].data.shape)
    whole.blobs["data"].data[...] = data
    whole.forward()
    edges = [0] + [names.index(last) + 1 for last in at] + [len(names)]
    signal = whole.blobs["data"].data.copy()
    for start, stop in zip(edges, edges[1:]):
        part = load_net(net.cut(names[start], names[stop - 1], batch=2), weights)
        part.blobs[part.inputs[0]].data[...] = signal
        part.forward()
        for layer in net.layers[start:stop]:
            # A blob that is rewritten in place in a later part differs there by intent.
            if not any(later.bottoms == layer.tops == later.tops for later in net.layers[stop:]):
                np.testing.assert_array_equal(part.blobs[layer.tops[0]].data, whole.blobs[layer.tops[0]].data)
        signal = part.blobs[net.layers[stop - 1].tops[0]].data.copy()
    assert signal.std() > 0


def test_writing_a_prototxt_and_reading_it_changes_nothing(tmp_path):
    net = graph("oddities") if "reshape_param" in schema().LayerParameter.DESCRIPTOR.fields_by_name else graph("lenet")
    write_net(tmp_path / "net.prototxt", net.proto, "comment")
    assert to_text(read_prototxt(tmp_path / "net.prototxt")) == to_text(net.proto)


def test_a_layer_that_is_not_understood_is_told_with_its_file(tmp_path):
    path = tmp_path / "strange.prototxt"
    path.write_text((ROOT / "prototxt" / "N" / "deploy.prototxt").read_text().replace('"Convolution"', '"Convolutoin"', 1))
    net = read_net(path)
    with pytest.raises(UserError, match="strange.prototxt: layer c1: layers of type Convolutoin are not understood"):
        net.parameter_count()

"""What the package derives from a prototxt is what Caffe makes of it: shapes, memory, parts, weights."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.caffemodel import read_weights, write_weights
from pycaffe_tools.nets.netgraph import NetGraph, read_net, write_net
from pycaffe_tools.nets.runtime import load_net, random_weights
from pycaffe_tools.nets.schema import parse_prototxt, read_prototxt, schema, to_text
from pycaffe_tools.nets.shapes import pooled_length
from pycaffe_tools.nets.upgrade import upgraded

from ..conftest import ROOT

# -- nets to ask Caffe about -----------------------------------------------------------------------------------

LENET = """
name: "lenet"
input: "data" input_dim: 3 input_dim: 1 input_dim: 28 input_dim: 28
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 20 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param { num_output: 50 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param { num_output: 500 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }
"""

ODDITIES = """
name: "oddities"
layer { name: "data" type: "Input" top: "data" top: "other" input_param { shape { dim: 2 dim: 6 dim: 15 dim: 11 } } }
layer { name: "grouped" type: "Convolution" bottom: "data" top: "grouped"
  convolution_param { num_output: 9 group: 3 kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2 stride_h: 2 stride_w: 1 } }
layer { name: "twice" type: "Convolution" bottom: "data" bottom: "other" top: "t1" top: "t2"
  convolution_param { num_output: 4 kernel_size: 3 dilation: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "t1" top: "up"
  convolution_param { num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2 } }
layer { name: "size" type: "Crop" bottom: "up" bottom: "t2" top: "crop" crop_param { axis: 2 offset: 1 } }
layer { name: "norm" type: "LRN" bottom: "crop" top: "norm" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 } }
layer { name: "cut" type: "Slice" bottom: "grouped" top: "s1" top: "s2" top: "s3" slice_param { axis: 1 slice_point: 2 slice_point: 6 } }
layer { name: "third" type: "Slice" bottom: "t2" top: "u1" top: "u2" }
layer { name: "sum" type: "Eltwise" bottom: "u1" bottom: "u2" top: "sum" }
layer { name: "all" type: "Pooling" bottom: "s2" top: "all" pooling_param { pool: AVE global_pooling: true } }
layer { name: "flat" type: "Flatten" bottom: "s3" top: "flat" flatten_param { axis: -2 } }
layer { name: "shape" type: "Reshape" bottom: "s1" top: "shape" reshape_param { shape { dim: 0 dim: -1 dim: 4 } } }
layer { name: "gone" type: "Silence" bottom: "sum" }
layer { name: "ip" type: "InnerProduct" bottom: "all" top: "ip" inner_product_param { num_output: 3 axis: 2 transpose: true } }
layer { name: "soft" type: "Softmax" bottom: "flat" top: "soft" }
"""


def random_net(seed):
    """Text of a net of random convolutions, poolings, branches and in-place layers that fits together."""
    rng = np.random.default_rng(seed)
    size, channels = int(rng.integers(13, 24)), int(rng.integers(1, 4)) * 2
    text = [f'name: "random{seed}" layer {{ name: "data" type: "Input" top: "data" input_param {{ '
            f'shape {{ dim: {rng.integers(1, 4)} dim: {channels} dim: {size} dim: {size + 2} }} }} }}']
    blob, names = "data", iter(f"n{number}" for number in range(1000))

    def add(kind, bottoms, options="", top=None):
        name = next(names)
        text.append(f'layer {{ name: "{name}" type: "{kind}" ' + "".join(f'bottom: "{b}" ' for b in bottoms)
                    + f'top: "{top or name}" {options} }}')
        return top or name

    def height():
        net = NetGraph(parse_prototxt("\n".join(text)))
        return min(min(net.shape(value)[2:]) for value in net.outputs) if net.layers else size

    def convolution(bottom, channels, pads=None):
        kernel, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        pad = (kernel - 1) * dilation // 2 if pads == "same" else int(rng.integers(0, 3))
        if pads == "same" and (kernel - 1) * dilation % 2:
            kernel, pad = 3, dilation
        stride = 1 if pads == "same" else int(rng.integers(1, 3))
        return add("Convolution", [bottom], f"convolution_param {{ num_output: {channels} kernel_size: {kernel} pad: {pad} "
                                            f"stride: {stride} dilation: {dilation} group: {rng.choice([1, 2])} "
                                            f"bias_term: {rng.choice(['true', 'false'])} }}")

    while height() > 5 and len(text) < 14:
        step = rng.integers(4)
        if step == 0:
            blob = convolution(blob, 2 * int(rng.integers(1, 4)))
        elif step == 1:
            kernel = int(rng.integers(2, 4))
            blob = add("Pooling", [blob], f"pooling_param {{ pool: {rng.choice(['MAX', 'AVE'])} kernel_size: {kernel} "
                                          f"stride: {rng.integers(1, 4)} pad: {rng.integers(0, kernel)} }}")
        elif step == 2:
            kind = str(rng.choice(["ReLU", "Dropout", "PReLU", "LRN", "TanH", "BatchNorm"]))
            in_place = blob != "data" and kind != "LRN" and rng.integers(2)
            blob = add(kind, [blob], top=blob if in_place else None)
        else:
            blob = add("Concat", [convolution(blob, 2, "same"), blob, convolution(blob, 4, "same")])
    flat = add("InnerProduct", [blob], "inner_product_param { num_output: 3 }")
    add("Softmax", [add("Flatten", [flat])])
    return "\n".join(text)


TEXTS = {"lenet": LENET, "oddities": ODDITIES, **{f"random{seed}": random_net(seed) for seed in range(16)}}

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


def graph(name):
    if name in TEXTS:
        return NetGraph(parse_prototxt(TEXTS[name]))
    return read_net(ROOT / "prototxt" / name / "deploy.prototxt")


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


# -- the graph -------------------------------------------------------------------------------------------------

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


# -- parts -----------------------------------------------------------------------------------------------------

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


# -- weights ---------------------------------------------------------------------------------------------------

@pytest.mark.caffe
def test_caffe_reads_the_written_weights_and_we_read_what_caffe_writes(tmp_path):
    from pycaffe_tools.nets.runtime import import_caffe
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
    from pycaffe_tools.nets.runtime import import_caffe
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
    from pycaffe_tools.nets.runtime import import_caffe
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

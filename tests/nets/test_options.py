"""Each option of a layer has the effect it has in Caffe, and what Caffe refuses is refused in a sentence before it runs."""

import numpy as np
import pytest

from pycaffe_tools.base.child import ChildDied, call_in_fork
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files.schema import parse_prototxt, schema
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.nets.running.runtime import check_weights, load_net, random_weights

pytestmark = pytest.mark.caffe

SIZES = [(14, 13), (2, 2), (11, 11)]

POOLINGS = [
    "kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 2 stride: 3", "kernel_size: 1 stride: 6",
    "kernel_h: 2 kernel_w: 1 stride_h: 1 stride_w: 6 pad_h: 1 pad_w: 0",        # padding up there, a window less across
    "kernel_h: 1 kernel_w: 2 stride_h: 6 stride_w: 1 pad_h: 0 pad_w: 1",
    "kernel_size: 3 stride: 2 round_mode: FLOOR", "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
    "kernel_size: 3 stride: 5 pad: 2 round_mode: FLOOR", "kernel_size: 3 stride: 2 round_mode: CEIL",
    "kernel_size: 5 stride: 2", "kernel_size: 4 stride: 3", "global_pooling: true", "global_pooling: true round_mode: FLOOR",
    "kernel_h: 3", "kernel_size: 3 stride_h: 2", "kernel_size: 3 pad_h: 2", "kernel_size: 3 kernel_h: 3 kernel_w: 3",
    "kernel_size: 3 stride: 2 stride_h: 1 stride_w: 1", "kernel_size: 3 stride: 0", "kernel_size: 3 pad: 3", "stride: 2",
    "kernel_size: 3 global_pooling: true", "stride: 2 global_pooling: true", "kernel_size: 3 pad: 1 pool: STOCHASTIC",
]
CONVOLUTIONS = [
    "num_output: 2 kernel_size: 3", "num_output: 2 kernel_size: 3 kernel_size: 2", "num_output: 2 kernel_h: 3 kernel_w: 1",
    "num_output: 2 kernel_size: 3 pad_h: 2", "num_output: 2 kernel_size: 3 pad: 2 pad: 1 stride: 2 stride: 1",
    "num_output: 2 kernel_size: 2 dilation: 2 dilation: 1", "num_output: 4 kernel_size: 2 group: 2 bias_term: false",
    "num_output: 2 kernel_size: 2 axis: -3", "num_output: 2 kernel_size: 2 force_nd_im2col: true",
    "num_output: 2 kernel_h: 3", "num_output: 2", "kernel_size: 3", "num_output: 0 kernel_size: 3",
    "num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3", "num_output: 2 kernel_size: 3 stride: 0",
    "num_output: 2 kernel_size: 3 stride: 1 stride: 1 stride: 1", "num_output: 3 kernel_size: 1 group: 2",
    "num_output: 2 kernel_size: 3 group: 0", "num_output: 2 kernel_size: 3 stride_h: 2", "num_output: 2 kernel_size: 20",
]
INNER_PRODUCTS = ["num_output: 3", "num_output: 3 axis: 2", "num_output: 3 axis: -1 transpose: true", "num_output: 3 axis: 5",
                  "num_output: 0", "num_output: 3 axis: 1 bias_term: false"]
CASES = ([("Pooling", "pooling_param", options, size) for options in POOLINGS for size in SIZES]
         + [("Convolution", "convolution_param", options, (9, 8)) for options in CONVOLUTIONS]
         + [("InnerProduct", "inner_product_param", options, (4, 3)) for options in INNER_PRODUCTS])


def net_text(kind, message, options, size):
    return (f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 2 dim: {size[0]} '
            f'dim: {size[1]} }} }} }}\nlayer {{ name: "x" type: "{kind}" bottom: "data" top: "x" {message} {{ {options} }} }}')


def caffe_says(path):
    """Shapes of the layer's top and of its blobs."""
    import faulthandler

    import caffe
    faulthandler.disable()      # pytest's: an abort is what is waited for
    net = caffe.Net(str(path), caffe.TEST)
    net.forward()
    return net.blobs["x"].data.shape, [blob.data.shape for blob in net.params.get("x", ())]


@pytest.mark.parametrize("kind, message, options, size", CASES)
def test_an_option_means_what_it_means_in_caffe(kind, message, options, size, tmp_path):
    import caffe  # noqa: F401  (once here, not in every fork)
    if "round_mode" in options and "round_mode" not in schema().PoolingParameter.DESCRIPTOR.fields_by_name:
        pytest.skip("this Caffe does not know round_mode")
    text = net_text(kind, message, options, size)
    (tmp_path / "net.prototxt").write_text(text)
    try:
        theirs = call_in_fork(caffe_says, tmp_path / "net.prototxt")
    except ChildDied:
        theirs = None
    try:
        net = NetGraph(parse_prototxt(text))
        ours = net.output_shape(net.layer("x")), net.parameter_shapes(net.layer("x"))
    except UserError as error:
        assert str(error).startswith("layer x: ")
        ours = None
    assert ours == theirs


@pytest.mark.parametrize("layers, sentence", [
    ('layer { name: "a" type: "ReLU" bottom: "data" } ', "layer a: makes no blob"),
    ('layer { name: "a" type: "ReLU" top: "a" } ', "layer a: reads no blob"),
    ('layer { name: "" type: "ReLU" bottom: "data" top: "a" } ', "its ReLU layer after the input has no name"),
    ('layer { name: "a" type: "ReLU" bottom: "data" top: "a" } layer { name: "a" type: "TanH" bottom: "a" top: "b" }',
     "two of its layers are called a"),
    ('layer { name: "a" type: "ReLU" bottom: "data" top: "a" } layer { name: "b" type: "TanH" bottom: "data" top: "a" }',
     "layer b: makes the blob 'a' that another layer made"),
    ('layer { name: "a" type: "Pooling" bottom: "data" bottom: "data" top: "a" pooling_param { kernel_size: 2 } }',
     "layer a: reads 2 blobs, where layers of type Pooling read one"),
    ('layer { name: "a" type: "ReLU" bottom: "data" top: "a" top: "b" }', "layer a: makes 1 blob, but has 2 tops"),
    ('layer { name: "a" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { slice_point: 2 } }',
     r"layer a: cannot cut 2 elements of axis 1 at \[2\] into 2 blobs"),
    ('layer { name: "a" type: "Reshape" bottom: "data" top: "a" reshape_param { shape { dim: 7 } } }',
     "layer a: cannot make 7 of a blob of 1x2x6x6"),
    ('layer { name: "a" type: "Reshape" bottom: "data" top: "a" reshape_param { shape { dim: -1 dim: -1 } } }',
     "layer a: cannot make"),
    ('layer { name: "a" type: "Crop" bottom: "data" top: "a" }', "layer a: needs two blobs"),
    ('layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 } } '
     'layer { name: "a" type: "Eltwise" bottom: "data" bottom: "p" top: "a" }', "layer a: cannot combine blobs of 1x2x6x6, 1x2x5x5"),
    ('layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 } } '
     'layer { name: "a" type: "Concat" bottom: "data" bottom: "p" top: "a" }', "layer a: cannot join blobs"),
    ('layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param { num_output: 4000000000 } }',
     "layer a: would make a blob of 1x4000000000, more than the 2,147,483,647 elements"),
    ('layer { name: "a" type: "Dropout" bottom: "data" top: "a" phase: TRAIN }', "layer a: is to work in another phase"),
])
def test_a_net_that_is_none_is_refused_by_the_layer(layers, sentence):
    head = 'name: "n" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } } '
    with pytest.raises(UserError, match=sentence):
        net = NetGraph(parse_prototxt(head + layers))
        for value in net.outputs:
            net.shape(value)


@pytest.mark.parametrize("dims", ["dim: 1 dim: 0 dim: 5 dim: 5", "dim: 1 dim: -3 dim: 5 dim: 5", "dim: 65536 dim: 65536"])
def test_an_input_that_cannot_be_is_refused(dims):
    with pytest.raises(UserError, match="its input 'data' has the shape"):
        NetGraph(parse_prototxt(f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}'))


def test_stages_choose_layers_as_in_caffe(tmp_path):
    text = '''name: "n" state { stage: "deploy" stage: "fast" }
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { stage: "deploy" } }
        layer { name: "b" type: "ReLU" bottom: "data" top: "b" include { stage: "deploy" not_stage: "fast" } }
        layer { name: "c" type: "ReLU" bottom: "data" top: "c" exclude { stage: "slow" } }
        layer { name: "d" type: "ReLU" bottom: "data" top: "d" exclude { stage: "fast" } }
        layer { name: "e" type: "ReLU" bottom: "data" top: "e" include { min_level: 1 } }'''
    (tmp_path / "net.prototxt").write_text(text)

    def layers(path):
        import caffe
        return [name for name in caffe.Net(str(path), caffe.TEST)._layer_names if len(name) == 1]

    assert [layer.name for layer in NetGraph(parse_prototxt(text)).layers] == call_in_fork(layers, tmp_path / "net.prototxt") == [
        "a", "c"]


# -- weights -------------------------------------------------------------------------------------------------------

SHARED = '''name: "twins"
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
    layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" } param { name: "b" }
            convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
    layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" } param { name: "b" }
            convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }'''


def test_twins_that_share_parameters_have_to_be_alike():
    net = NetGraph(parse_prototxt(SHARED))
    weights = random_weights(net)
    with pytest.raises(UserError, match="^w.caffemodel: layers a and b share a parameter in net twins, but hold different"):
        check_weights(net, weights, "w.caffemodel")
    check_weights(net, {"a": weights["a"], "b": weights["a"]}, "w.caffemodel")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value):
    net = NetGraph(parse_prototxt(SHARED))
    weights = random_weights(net)
    weights["b"][1][0] = value
    with pytest.raises(UserError, match="^w.caffemodel: blob 1 of layer b holds values that are no numbers"):
        check_weights(net, weights, "w.caffemodel")


def test_an_engine_that_this_caffe_has_not_is_no_reason_to_end():
    text = net_text("Convolution", "convolution_param", "num_output: 2 kernel_size: 3 engine: CUDNN", (9, 8))
    assert call_in_fork(lambda: load_net(parse_prototxt(text)).blobs["x"].data.shape) == (2, 2, 7, 6)

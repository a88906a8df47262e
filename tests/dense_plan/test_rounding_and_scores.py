"""Poolings that round down, and nets that end in scores, in every form of the dense net, against real Caffe patch by patch."""

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.dense_plan.caffe_printer import OUTPUT, dense_net, dense_weights
from pycaffe_tools.dense_plan.kernels import kernels
from pycaffe_tools.dense_plan.onnx_printer import dense_model
from pycaffe_tools.dense_plan.plan import make_plan
from pycaffe_tools.dense_plan.steps import Softmax
from pycaffe_tools.export.onnx_patch import patch_model
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.classifier import lacks_softmax, note

from ..dense_cases import (
    HAS_ROUND_MODE,
    TOLERANCE,
    all_patches,
    graph_of,
    interpret,
    lively_weights,
    random_net,
    reference,
)

rounding = pytest.mark.skipif(not HAS_ROUND_MODE, reason="this Caffe does not know round_mode")
SEEDS = [*range(20), 53, 90, 110, 123, 141, 166]        # the last ones: an edge that a later pooling leaves unread


def image_for(graph, rows=6, columns=10):
    shape = next(iter(graph.inputs.values()))
    return np.random.default_rng(1).standard_normal((shape[1], rows + shape[2] - 1, columns + shape[3] - 1))


def patch_by_patch_in_caffe(graph, weights, image):
    """Channel 1 of the net's last blob for every patch of an image, by Caffe alone."""
    from pycaffe_tools.nets.running.runtime import forward_patches, load_net
    shape = next(iter(graph.inputs.values()))
    rows, columns = image.shape[1] - shape[2] + 1, image.shape[2] - shape[3] + 1
    net = load_net(graph.with_batch(rows * columns), weights)
    patches = all_patches(image.astype(np.float32), *shape[2:])
    found = forward_patches(net, patches, graph.chain()[-1].tops[0])
    return found.reshape(len(patches), -1)[:, 1].reshape(rows, columns)


def dense_in_caffe(graph, weights, image):
    from pycaffe_tools.nets.running.runtime import load_net
    plan = make_plan(graph)
    tile = [image.shape[1 + axis] - plan.input.reach[axis] for axis in (0, 1)]
    whole = tuple(-(-side // stride) * stride for side, stride in zip(tile, plan.first_stride))
    net = load_net(dense_net(plan, whole), dense_weights(plan, kernels(graph, weights)))
    net.blobs["data"].data[...] = 0
    net.blobs["data"].data[0, :, :image.shape[1], :image.shape[2]] = image
    net.forward()
    return net.blobs[OUTPUT].data[0, 0, :tile[0], :tile[1]].copy()


def dense_in_onnx_runtime(graph, weights, image):
    pytest.importorskip("onnxruntime")
    from pycaffe_tools.export.onnx_net import run_model
    made = dense_model(make_plan(graph), kernels(graph, weights), "test")
    return run_model(made, image[None].astype(np.float32))[0, 0]


def patches_in_onnx_runtime(graph, weights, image):
    pytest.importorskip("onnxruntime")
    from pycaffe_tools.export.onnx_net import run_model
    shape = next(iter(graph.inputs.values()))
    rows, columns = image.shape[1] - shape[2] + 1, image.shape[2] - shape[3] + 1
    patches = all_patches(image.astype(np.float32), *shape[2:])
    return run_model(patch_model(graph, weights, "test"), patches).reshape(len(patches), -1)[:, 1].reshape(rows, columns)


# -- poolings that round down --------------------------------------------------------------------------------------

@rounding
@pytest.mark.parametrize("seed", SEEDS)
def test_plans_with_poolings_that_round_down_are_exact(seed):
    graph = random_net(seed, rounded_down=True)
    weights, image = lively_weights(graph), image_for(graph)
    np.testing.assert_allclose(interpret(make_plan(graph), graph, weights, image), reference(graph, weights, image),
                               atol=1e-12)


@rounding
def test_the_draws_hold_edges_that_a_pooling_leaves_unread_and_edges_that_it_reads():
    met = set()
    for seed in SEEDS:
        graph = random_net(seed, rounded_down=True)
        clipped = [False, False]
        for layer in graph.chain():
            if layer.type == "Pooling":
                size, count = graph.input_shape(layer)[2:], graph.output_shape(layer)[2:]
                for axis in (0, 1):
                    over = (count[axis] - 1) * layer.geometry.stride[axis] + layer.geometry.kernel[axis] - size[axis]
                    if layer.geometry.rounds_down and clipped[axis]:
                        met.add("unread edge" if over < 0 else "read edge")
                    if layer.geometry.rounds_down and over < 0:
                        met.add("unread rows")
                    clipped[axis] = (clipped[axis] and over >= 0) or over > 0
    assert met == {"unread edge", "read edge", "unread rows"}


@pytest.mark.caffe
@rounding
@pytest.mark.parametrize("seed", SEEDS[-10:])
def test_rounding_down_is_that_of_caffe_in_every_engine(seed):
    graph = random_net(seed, rounded_down=True)
    weights, image = lively_weights(graph), image_for(graph)
    expected = patch_by_patch_in_caffe(graph, weights, image)
    assert expected.std() > 0.01
    for way in (dense_in_caffe, dense_in_onnx_runtime, patches_in_onnx_runtime):
        np.testing.assert_allclose(way(graph, weights, image), expected, atol=TOLERANCE, err_msg=way.__name__)


@rounding
def test_the_round_mode_is_never_written_for_caffe():
    for seed in range(5):
        plan = make_plan(random_net(seed, rounded_down=True))
        assert "round_mode" not in str(dense_net(plan, tuple(2 * stride for stride in plan.first_stride)))
    assert "round_mode" not in paper.deploy_prototxt(paper.TABLE_1["N"], "N")


# -- nets that end in scores ---------------------------------------------------------------------------------------

def scores_net():
    return graph_of("""
        name: "scores"
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 12 dim: 12 } } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 3 stride: 2 } }
        layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 3 } }
        layer { name: "d" type: "Dropout" bottom: "f" top: "f" }""")


@pytest.mark.caffe
def test_scores_become_probabilities_in_every_form():
    graph = scores_net()
    weights, image = lively_weights(graph), image_for(graph)
    scores = reference(graph, weights, image)
    expected = (np.exp(scores) / np.exp(scores).sum(0))[1]
    assert abs(scores[1] - expected).max() > 0.5
    for way in (dense_in_caffe, dense_in_onnx_runtime, patches_in_onnx_runtime):
        np.testing.assert_allclose(way(graph, weights, image), expected, atol=TOLERANCE, err_msg=way.__name__)


@pytest.mark.caffe
def test_the_engine_patch_gives_probabilities_too():
    from pycaffe_tools import engines
    graph = scores_net()
    weights, image = lively_weights(graph), image_for(graph)
    scores = reference(graph, weights, image)
    found = engines.create("patch", graph, weights, (6, 10)).predict(image[0].astype(np.float32))
    np.testing.assert_allclose(found, (np.exp(scores) / np.exp(scores).sum(0))[1], atol=TOLERANCE)


def test_it_is_said_that_a_softmax_was_added():
    assert note(scores_net()) == ("The net itself ends in the scores of layer f, without a Softmax; one was added here, "
                                  "as its loss has it inside.")
    assert isinstance(make_plan(scores_net()).steps[-1], Softmax)
    assert note(random_net(0)) == ""


LAST = {
    'type: "Sigmoid"': "layer last: is of type Sigmoid, so the net ends neither in probabilities",
    'type: "InnerProduct" inner_product_param { num_output: 1 }': "layer last: gives 1 class for a patch, where two",
    'type: "Softmax" softmax_param { axis: 0 }': "layer last: is a Softmax over another axis than the channels",
    'type: "Softmax" softmax_param { axis: 7 }': "layer last: works on axis 7, but its input has 2 axes",
}


@pytest.mark.parametrize("last", LAST)
def test_an_end_that_gives_no_probabilities_of_two_classes_is_refused(last):
    text = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 12 dim: 12 } } }
        layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 2 } }
        layer { name: "last" bottom: "f" top: "last" """ + last + " }"
    with pytest.raises(UserError, match=LAST[last]):
        lacks_softmax(graph_of(text))


def test_a_softmax_counted_from_the_end_is_one_over_the_classes():
    assert not lacks_softmax(graph_of("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 12 dim: 12 } } }
        layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 2 } }
        layer { name: "last" type: "Softmax" bottom: "f" top: "last" softmax_param { axis: -1 } }"""))

"""The exact dense plan gives the patch-wise numbers, by a literal float64 interpreter that knows no engine."""

import numpy as np
import pytest

from pycaffe_tools.base.command import main
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.dense import cli
from pycaffe_tools.dense_plan.plan import make_plan
from pycaffe_tools.dense_plan.steps import Combine, Convolve
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.netgraph import write_net

from ..dense_cases import (
    LENET_LIKE,
    graph_of,
    has_clipped_windows,
    interpret,
    lively_weights,
    paper_net,
    random_net,
    reference,
)

SEEDS = range(40)


def image_for(graph, rows=6, columns=9, seed=1):
    shape = next(iter(graph.inputs.values()))
    return np.random.default_rng(seed).standard_normal((shape[1], rows + shape[2] - 1, columns + shape[3] - 1))


def assert_exact(graph, rows=6, columns=9):
    weights, image = lively_weights(graph), image_for(graph, rows, columns)
    expected = reference(graph, weights, image)
    assert expected.std() > 0.01, "the test's probabilities are too much alike to show anything"
    np.testing.assert_allclose(interpret(make_plan(graph), graph, weights, image), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["N", "N7"])
def test_paper_nets_are_exact(name):
    assert_exact(paper_net(name, divided_by=5), 4, 5)


def test_lenet_like_net_without_clipped_windows_is_exact_and_needs_no_edges():
    graph = graph_of(LENET_LIKE)
    assert not has_clipped_windows(graph)
    assert_exact(graph)
    assert not any(isinstance(step, Combine) for step in make_plan(graph).steps)


@pytest.mark.parametrize("seed", SEEDS)
def test_nets_drawn_at_random_are_exact(seed):
    assert_exact(random_net(seed))


def test_the_draws_have_nets_with_and_without_clipped_windows():
    clipped = [has_clipped_windows(random_net(seed)) for seed in SEEDS]
    assert 10 <= sum(clipped) <= len(clipped) - 5


def test_rectangular_patches_of_several_channels_are_exact():
    assert_exact(graph_of("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 15 dim: 12 } } }
        layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 4 kernel_size: 2 } }
        layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 3 stride: 2 } }
        layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "p2" type: "Pooling" bottom: "c2" top: "p2" pooling_param { kernel_size: 2 stride: 2 pool: AVE } }
        layer { name: "fc" type: "InnerProduct" bottom: "p2" top: "fc" inner_product_param { num_output: 2 } }
        layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" } """))


def test_the_usual_dense_net_which_ignores_clipped_windows_is_wrong():
    # What the edges are for: without them N's probabilities are off by far more than rounding.
    graph = paper_net("N", divided_by=5)
    weights, image = lively_weights(graph), image_for(graph, 4, 5)
    usual = make_plan(graph, exact=False)
    assert not any(isinstance(step, Combine) for step in usual.steps[:-3])
    wrong = interpret(usual, graph, weights, image)
    assert np.abs(wrong - reference(graph, weights, image)).max() > 1e-3


def test_n_takes_the_derived_number_of_multiply_accumulates_per_pixel():
    # (k + 1)^2 taps for c2 and c3, k^2 for c1, one for the inner products; patch by patch it is 18.65 million.
    counts = paper.TABLE_1["N"]
    by_hand = (49 * counts["c1"] + 36 * counts["c1"] * counts["c2"] + 16 * counts["c2"] * counts["c3"]
               + counts["c3"] * counts["fc4"] + 2 * counts["fc4"])
    plan = make_plan(paper_net("N"))
    assert plan.multiply_accumulates() == by_hand == 345_300
    assert sum(isinstance(step, Convolve) for step in plan.steps) == 11


REFUSED = [
    ("strided", 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 stride: 2 }'),
    ("padded", 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 pad: 1 }'),
    ("padded", 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 pad: 1 }'),
    ("random", 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 pool: STOCHASTIC }'),
    ("everything", 'type: "Pooling" pooling_param { global_pooling: true }'),
    ("gaps", 'type: "Pooling" pooling_param { kernel_size: 1 stride: 6 }'),
    ("leaky", 'type: "ReLU" relu_param { negative_slope: 0.1 }'),
    ("tanh", 'type: "TanH"'),
    ("normalised", 'type: "LRN"'),
]


@pytest.mark.parametrize("name, options", REFUSED)
def test_other_layers_are_refused_by_name(name, options):
    text = f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 1 dim: 11 dim: 11 }} }} }}
        layer {{ name: "{name}" bottom: "data" top: "a" {options} }}
        layer {{ name: "fc" type: "InnerProduct" bottom: "a" top: "fc" inner_product_param {{ num_output: 2 }} }}"""
    with pytest.raises(UserError, match=f"layer {name}: "):
        make_plan(graph_of(text))


def test_a_net_that_gives_more_than_one_value_for_a_patch_is_refused():
    text = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 11 dim: 11 } } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }"""
    with pytest.raises(UserError, match="layer c: the net ends in 9x9"):
        make_plan(graph_of(text))


def test_windows_that_start_inside_are_accepted_even_with_gaps_between_them():
    assert_exact(graph_of("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 13 dim: 13 } } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 kernel_size: 3 } }
        layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 3 } }
        layer { name: "fc" type: "InnerProduct" bottom: "p" top: "fc" inner_product_param { num_output: 2 } }
        layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" } """))


# -- the command line ------------------------------------------------------------------------------------------

def write_patch_net(folder, graph):
    weights = lively_weights(graph)
    write_net(folder / "deploy.prototxt", graph.proto)
    write_weights(folder / "weights.caffemodel", graph, weights)
    return weights


def dense_command(folder, *options):
    return main(cli, "dense", [str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"),
                                     str(folder / "dense"), *options])


@pytest.mark.caffe
@pytest.mark.parametrize("make", [lambda: paper_net("N", 4), lambda: graph_of(LENET_LIKE)])
def test_the_written_files_are_all_that_stock_caffe_needs(tmp_path, make):
    import caffe
    graph = make()
    weights = write_patch_net(tmp_path, graph)
    assert dense_command(tmp_path, "--tile", "6x8") == 0
    net = caffe.Net(str(tmp_path / "dense" / "dense.prototxt"), str(tmp_path / "dense" / "dense.caffemodel"), caffe.TEST)
    image = image_for(graph, 6, 8).astype(np.float32)
    net.blobs["data"].data[0] = image
    found = net.forward()["membrane"][0, 0]
    np.testing.assert_allclose(found, reference(graph, weights, image)[1], atol=1e-5)
    # Stock Caffe only: nothing that Caffe 1.0 has not (Debian's build knows round_mode, 1.0 does not).
    assert "round_mode" not in (tmp_path / "dense" / "dense.prototxt").read_text()


def test_memory_decides_the_tile(tmp_path, capsys):
    write_patch_net(tmp_path, paper_net("N7"))
    assert dense_command(tmp_path, "--max-memory", "1G") == 0
    large = capsys.readouterr().out
    assert dense_command(tmp_path, "--max-memory", "200M", "--force") == 0
    small = capsys.readouterr().out
    sides = [int(text.split("tiles of ")[1].split("x")[0]) for text in (large, small)]
    assert sides[0] > sides[1] >= 16


def test_wrong_use_ends_in_a_sentence_and_leaves_nothing(tmp_path, capsys):
    graph = paper_net("N7")
    write_patch_net(tmp_path, graph)
    assert dense_command(tmp_path, "--tile", "5x8") == 1
    assert "--tile 5x8: must be a multiple of the first pooling's stride, 2x2; take 6x8" in capsys.readouterr().err
    assert dense_command(tmp_path, "--max-memory", "1M") == 1
    assert "needs at least" in capsys.readouterr().err
    text = (tmp_path / "deploy.prototxt").read_text().replace("kernel_size: 7", "kernel_size: 7 stride: 1 pad: 1")
    (tmp_path / "deploy.prototxt").write_text(text)
    assert dense_command(tmp_path) == 1
    error = capsys.readouterr().err
    assert "layer c1: " in error or "layer c2: " in error
    assert not (tmp_path / "dense").exists()


def test_a_finished_folder_is_kept_unless_forced(tmp_path, capsys):
    write_patch_net(tmp_path, paper_net("N7"))
    assert dense_command(tmp_path, "--tile", "4x4") == 0
    before = (tmp_path / "dense" / "dense.caffemodel").read_bytes()
    assert dense_command(tmp_path, "--tile", "4x4") == 1
    assert "exists already" in capsys.readouterr().err
    assert dense_command(tmp_path, "--tile", "4x4", "--force") == 0
    assert (tmp_path / "dense" / "dense.caffemodel").read_bytes() == before

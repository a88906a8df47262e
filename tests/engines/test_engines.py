"""The equality contract: every engine gives what the net gives patch by patch, for any tile size."""

import subprocess
import sys

import numpy as np
import pytest

from pycaffe_tools import engines
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.dense_plan.plan import make_plan
from pycaffe_tools.engines import engine as engine_module
from pycaffe_tools.nets import paper

from ..conftest import ROOT
from ..dense_cases import LATE_CLIPS, LENET_LIKE, TOLERANCE, graph_of, lively_weights, paper_net, random_net, reference

INSTALLED = engines.available()
DENSE = [pytest.param(name, marks=pytest.mark.skipif(name not in INSTALLED, reason=f"needs {name} installed"))
         for name in ("native", "onnxruntime", "caffe")]
ALL = DENSE + [pytest.param("patch", marks=pytest.mark.skipif("patch" not in INSTALLED, reason="needs Caffe"))]
NETS = {"N": lambda: paper_net("N", 4), "N7": lambda: paper_net("N7"), "lenet_like": lambda: graph_of(LENET_LIKE),
        "late_clips": lambda: graph_of(LATE_CLIPS)}


def grey_for(graph, rows, columns, seed=3):
    side = engine_module.patch_size(graph)
    return np.random.default_rng(seed).standard_normal((rows + side - 1, columns + side - 1)).astype(np.float32)


def assert_contract(found, expected, threshold=0.5):
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE
    sure = np.abs(expected - threshold) > TOLERANCE
    assert ((found > threshold) == (expected > threshold))[sure].all()


@pytest.mark.parametrize("engine", ALL)
@pytest.mark.parametrize("net", NETS)
def test_probabilities_are_those_of_each_patch_by_itself(engine, net):
    graph = NETS[net]()
    weights, grey = lively_weights(graph), grey_for(graph, 9, 12)
    expected = reference(graph, weights, grey[None])[paper.MEMBRANE]
    assert expected.std() > 0.05
    assert_contract(engines.create(engine, graph, weights, (9, 12)).predict(grey), expected)


@pytest.mark.parametrize("engine", DENSE)
def test_nets_drawn_at_random_keep_the_contract(engine):
    for seed in range(30):
        graph = random_net(seed)
        weights, grey = lively_weights(graph, seed), grey_for(graph, 7, 10, seed)
        expected = reference(graph, weights, grey[None])[paper.MEMBRANE]
        assert_contract(engines.create(engine, graph, weights, (7, 10)).predict(grey), expected)


@pytest.mark.caffe
@pytest.mark.parametrize("engine", DENSE)
@pytest.mark.parametrize("name", ["N", "N7"])
def test_the_full_paper_nets_agree_with_caffe_patch_by_patch(engine, name):
    graph = paper_net(name)
    weights, grey = lively_weights(graph), grey_for(graph, 8, 11)
    expected = engines.create("patch", graph, weights, (8, 11)).predict(grey)
    assert_contract(engines.create(engine, graph, weights, (8, 11)).predict(grey), expected)


@pytest.mark.caffe
@pytest.mark.parametrize("engine", DENSE)
@pytest.mark.parametrize("patch_size, p3", [(30, 1), (33, 1), (40, 2), (45, 2), (48, 3)])
def test_for_other_patch_sizes_they_agree_with_caffe_patch_by_patch(engine, patch_size, p3):
    graph = paper_net("N", 6, patch_size)
    assert graph.output_shape(graph.layer("p3"))[2:] == (p3, p3)
    weights, grey = lively_weights(graph), grey_for(graph, 9, 13)
    expected = engines.create("patch", graph, weights, (9, 13)).predict(grey)
    assert expected.std() > 0.05
    np.testing.assert_allclose(expected, reference(graph, weights, grey[None])[paper.MEMBRANE], atol=TOLERANCE)
    assert_contract(engines.create(engine, graph, weights, (9, 13)).predict(grey), expected)


@pytest.mark.parametrize("engine", DENSE)
def test_tile_size_does_not_matter(engine):
    graph = paper_net("N7")
    weights, grey = lively_weights(graph), grey_for(graph, 23, 30)
    rim = sum(engine_module.halo(graph))
    whole = engines.create(engine, graph, weights, (23, 30)).predict(grey)
    for rows, columns in [(1, 1), (2, 2), (5, 7), (8, 16), (16, 9)]:
        cut = engines.create(engine, graph, weights, (rows, columns))
        if rows * columns < 4:
            grid = [(0, 0), (11, 17), (22, 29)]
        else:
            grid = [(y, x) for y in range(0, 23, rows) for x in range(0, 30, columns)]
        for y, x in grid:
            bottom, right = min(y + rows, 23), min(x + columns, 30)
            tile = cut.predict(grey[y:bottom + rim, x:right + rim])
            assert tile.shape == (bottom - y, right - x)
            assert np.abs(tile - whole[y:bottom, x:right]).max() <= TOLERANCE


@pytest.mark.parametrize("engine", ALL)
def test_the_same_call_gives_the_same_bytes(engine):
    graph = paper_net("N7")
    weights, grey = lively_weights(graph), grey_for(graph, 8, 8)
    first, second = (engines.create(engine, graph, weights, (8, 8)) for _ in range(2))
    before = first.predict(grey)
    first.predict(np.ones_like(grey))       # what ran in between leaves no trace
    assert before.tobytes() == first.predict(grey).tobytes() == second.predict(grey).tobytes()


@pytest.mark.parametrize("engine", DENSE)
def test_a_smaller_tile_is_not_touched_by_what_a_larger_one_left_behind(engine):
    graph = paper_net("N7")
    weights, grey = lively_weights(graph), grey_for(graph, 12, 12)
    ready = engines.create(engine, graph, weights, (12, 12))
    whole = ready.predict(grey)
    small = ready.predict(grey[:5 + 31, :7 + 31])
    assert np.abs(small - whole[:5, :7]).max() <= TOLERANCE


def test_the_centre_of_an_even_patch_is_at_half_its_size():
    assert engine_module.halo(paper_net("N7")) == (16, 15)
    assert engine_module.halo(paper_net("N7", patch_size=40)) == (20, 19)
    assert engine_module.halo(paper_net("N7", patch_size=33)) == (16, 16)
    assert engine_module.halo(graph_of(LENET_LIKE)) == (14, 13)


@pytest.mark.parametrize("engine", ALL)
def test_memory_is_predicted_before_it_is_taken(engine):
    # A fresh process with one tile; predicted must not fall short, nor be so high that tiles get needlessly small.
    tile = (16, 16) if engine == "patch" else (96, 112)
    code = (
        "import sys, numpy as np\n"
        "sys.path[:0] = ['.']\n"
        "from tests.dense_cases import paper_net\n"
        "from pycaffe_tools import engines\n"
        "from pycaffe_tools.nets.running.runtime import random_weights\n"
        "graph = paper_net('N')\n"
        f"tile = {tile}\n"
        f"engine = engines.create('{engine}', graph, random_weights(graph), tile)\n"
        "for _ in range(2): engine.predict(np.zeros((tile[0] + 31, tile[1] + 31), np.float32))\n"
        "from pycaffe_tools.base.host.machine import peak_so_far\n"
        f"print(peak_so_far(), engines.predicted_bytes('{engine}', graph, tile))")
    answer = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                            check=True, cwd=str(ROOT)).stdout.split()
    taken, predicted = int(answer[-2]), int(answer[-1])
    assert taken <= predicted <= 2 * taken


@pytest.mark.parametrize("engine", ALL)
def test_the_best_tile_fits_and_shrinks_with_the_memory(engine):
    graph = paper_net("N")
    last = None
    for allowed in (10**9, 500 * 10**6, 390 * 10**6):
        tile = engines.best_tile(engine, graph, allowed)
        assert engines.predicted_bytes(engine, graph, tile) <= allowed
        assert last is None or tile <= last
        last = tile
    with pytest.raises(UserError, match="needs at least"):
        engines.best_tile(engine, graph, 10**7)


def test_unknown_engines_and_missing_packages_are_told(monkeypatch):
    graph = paper_net("N7")
    with pytest.raises(UserError, match="engine quick: is unknown; choose one of native, onnxruntime, caffe, patch"):
        engines.predicted_bytes("quick", graph, (8, 8))
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda package: None)
    monkeypatch.setattr("pycaffe_tools.engines.native.library.available", lambda: False)
    with pytest.raises(UserError, match="package onnxruntime is not installed"):
        engines.create("onnxruntime", graph, {}, (8, 8))
    with pytest.raises(UserError, match="neither onnxruntime nor Caffe"):
        engines.default_name()


@pytest.mark.parametrize("engine", DENSE)
def test_weights_of_another_net_are_refused(engine):
    with pytest.raises(UserError, match="layer c1"):
        engines.create(engine, paper_net("N7"), lively_weights(paper_net("N", 4)), (8, 8))


def test_onnx_runtime_leaves_no_change_of_layout_inside_the_net(tmp_path):
    """Why it is fast: between the first convolution and the last nothing leaves the blocked layout."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from pycaffe_tools.dense_plan.kernels import kernels
    from pycaffe_tools.dense_plan.onnx_printer import dense_model
    graph = paper_net("N7")
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 3
    model = dense_model(make_plan(graph), kernels(graph, lively_weights(graph)), "N7")
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
    if "ReorderOutput" not in kinds:
        pytest.skip("this processor's ONNX Runtime has no blocked layout")
    assert kinds.count("ReorderOutput") == 1 and "ReorderInput" not in kinds and "Max" not in kinds

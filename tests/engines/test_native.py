"""The native engine: its programs give what the dense plan gives in float64, on every kind of processor that is here."""

import subprocess
import sys

import numpy as np
import pytest

from pycaffe_tools import engines
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.host import compiler
from pycaffe_tools.dense_plan.kernels import kernels
from pycaffe_tools.dense_plan.plan import make_plan
from pycaffe_tools.engines import dense_native
from pycaffe_tools.engines.native import build, library
from pycaffe_tools.engines.native.items import Convolution, Lines
from pycaffe_tools.engines.native.lowering import lower
from pycaffe_tools.engines.native.program import make_program
from pycaffe_tools.engines.native.winograd import POINTS, filtering, make_filtering
from pycaffe_tools.nets.paper import MEMBRANE

from ..conftest import ROOT
from ..dense_cases import (
    LATE_CLIPS,
    LENET_LIKE,
    TOLERANCE,
    graph_of,
    interpret,
    lively_weights,
    paper_net,
    random_net,
    reference,
)

HERE = library.kinds_here()
KINDS = [pytest.param(kind, marks=pytest.mark.skipif(kind not in HERE, reason=f"no library for {kind} runs here"))
         for kind in build.kinds()]
needs_library = pytest.mark.skipif(not HERE, reason="the native engine is not built")

COLOURS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 25 dim: 14 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 7 kernel_size: 2 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { num_output: 13 kernel_h: 4 kernel_w: 3 } }
layer { name: "relu" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "p2" type: "Pooling" bottom: "c2" top: "p2" pooling_param { kernel_size: 2 stride: 2 pool: AVE } }
layer { name: "fc" type: "InnerProduct" bottom: "p2" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
"""Three channels, patches that are not square, three classes, a kernel of four rows."""

TALL_KERNELS = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 1 dim: 23 dim: 23 }} }} }}
layer {{ name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param {{ num_output: 6 kernel_size: 2 }} }}
layer {{ name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "p1" top: "p1" }}
layer {{ name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param {{ num_output: 16 kernel_h: {0} kernel_w: 4 }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "c2" top: "c2" }}
layer {{ name: "fc" type: "InnerProduct" bottom: "c2" top: "fc" inner_product_param {{ num_output: 2 }} }}
layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
"""

NETS = {"N": lambda: paper_net("N", 3), "N7": lambda: paper_net("N7"), "lenet_like": lambda: graph_of(LENET_LIKE),
        "late_clips": lambda: graph_of(LATE_CLIPS), "colours": lambda: graph_of(COLOURS),
        **{f"rows_{rows}": lambda rows=rows: graph_of(TALL_KERNELS.format(rows)) for rows in (4, 5, 6, 7)},
        **{f"drawn_{seed}": lambda seed=seed: random_net(seed) for seed in range(12)}}


def picture(graph, rows, columns, seed=1):
    shape = next(iter(graph.inputs.values()))
    return np.random.default_rng(seed).standard_normal(
        (shape[1], rows + shape[2] - 1, columns + shape[3] - 1)).astype(np.float32)


def computed(graph, weights, image, winograd=True):
    """One strip by the library."""
    plan = make_plan(graph)
    compiled = library.Compiled(make_program(lower(plan, kernels(graph, weights)), winograd))
    out = np.full([image.shape[1 + axis] - plan.input.reach[axis] for axis in (0, 1)], np.nan, np.float32)
    compiled.run(compiled.workspace(out.shape[1]), image, out)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("net", NETS)
def test_programs_give_what_the_plan_gives_in_float64(monkeypatch, kind, net):
    monkeypatch.setenv(library.CHOICE, kind)
    graph = NETS[net]()
    weights, image = lively_weights(graph), picture(graph, 21, 37)
    expected = interpret(make_plan(graph), graph, weights, image)[MEMBRANE]
    assert expected.std() > 0.01
    for winograd in (True, False):
        assert np.abs(computed(graph, weights, image, winograd) - expected).max() < TOLERANCE


@needs_library
def test_a_large_tile_of_several_strips_is_that_of_small_ones_and_of_several_threads(monkeypatch):
    monkeypatch.setattr(dense_native, "STRIP", 50)
    graph = paper_net("N7", 2)
    weights, grey = lively_weights(graph), picture(graph, 70, 131)[0]
    whole = engines.create("native", graph, weights, (70, 131)).predict(grey)
    assert engines.create("native", graph, weights, (70, 131), threads=3).predict(grey).tobytes() == whole.tobytes()
    monkeypatch.setattr(dense_native, "STRIP", 1000)
    assert np.abs(engines.create("native", graph, weights, (70, 131)).predict(grey) - whole).max() < 5e-6
    assert np.abs(reference(graph, weights, grey[None, 60:94, 97:])[1] - whole[60:63, 97:]).max() <= TOLERANCE


@pytest.mark.parametrize("rows", [4, 5, 6, 7])
def test_the_filterings_matrices_make_a_correlation(rows):
    how = filtering(rows)
    generator = np.random.default_rng(rows)
    data, kernel = generator.standard_normal(len(POINTS)), generator.standard_normal(rows)
    assert how.tile == len(POINTS) - rows + 1
    np.testing.assert_allclose(how.combine @ ((how.kernel @ kernel) * (how.data @ data)),
                               np.correlate(data, kernel, "valid"), atol=1e-12)


def test_a_filtering_worked_out_by_hand():
    # F(2, 3) with the points 0, 1, -1 and infinity, as Lavin and Gray print it but for signs and halves.
    how = make_filtering((0, 1, -1, None), 3)
    np.testing.assert_array_equal(how.data, [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
    np.testing.assert_array_equal(how.combine, [[1, 1, 1, 0], [0, 1, -1, 1]])


def scaled(weights, factor):
    return {**weights, "fc5": [array * np.float32(factor) for array in weights["fc5"]]}


@needs_library
@pytest.mark.skipif("onnxruntime" not in engines.available(), reason="needs onnxruntime")
@pytest.mark.parametrize("factor", [1, 20])
def test_nets_with_large_scores_keep_the_contract_as_far_as_float32_does(factor):
    # Random nets, whose scores differ little from patch to patch: scaled up, all of float32's rounding shows.
    graph = paper_net("N", 4)
    weights, grey = scaled(lively_weights(graph), factor), picture(graph, 16, 24)[0]
    expected = reference(graph, weights, grey[None])[1]
    off = {name: np.abs(engines.create(name, graph, weights, (16, 24)).predict(grey) - expected).max()
           for name in ("native", "onnxruntime")}
    assert off["native"] <= max(TOLERANCE, 1.5 * off["onnxruntime"])
    assert off["onnxruntime"] > TOLERANCE or factor == 1


@needs_library
def test_where_rounding_comes_near_the_tolerance_convolutions_are_taken_directly():
    graph = paper_net("N", 3)
    weights = scaled(lively_weights(graph), 0.2)
    assert engines.create("native", graph, weights, (8, 8)).winograd
    rounding = dense_native.rounding_of_winograd(make_plan(graph), kernels(graph, weights))
    assert 0 < rounding < 2e-6
    factor = 2 * dense_native.LARGEST_ROUNDING / rounding
    assert not engines.create("native", graph, scaled(weights, factor), (8, 8)).winograd
    assert dense_native.rounding_of_winograd(make_plan(graph_of(LATE_CLIPS)), kernels(
        graph_of(LATE_CLIPS), lively_weights(graph_of(LATE_CLIPS)))) == 0


def test_n_becomes_seven_convolutions_that_make_all_sums_on_the_way():
    graph = paper_net("N", 5)
    lowered = lower(make_plan(graph), kernels(graph, lively_weights(graph)))
    convolutions = [item for item in lowered.items if isinstance(item, Convolution)]
    assert [link.out for item in convolutions for link in item.links] == [
        "relu1", "c2", "c2_right", "relu2_bottom", "relu2_corner", "c3", "c3_right", "relu3_bottom", "relu3_corner", "relu4",
        "fc5"]
    assert [link.addends for item in convolutions for link in item.links if link.addends] == [
        ("c2",), ("c2_right",), ("c3",), ("c3_right",)]
    # Of the four 3 x 3 poolings with clipped variants: two of vertical pairs and threes, four across, four differences.
    first = next(item for item in lowered.items if isinstance(item, Lines))
    assert [operation.kind for operation in first.operations].count("MAX") == 6 and len(first.operations) == 10


@needs_library
def test_a_program_that_is_cut_off_or_altered_is_refused():
    graph = paper_net("N7")
    program = make_program(lower(make_plan(graph), kernels(graph, lively_weights(graph))))
    for numbers in (program.numbers[:-1], np.append(program.numbers, 0), np.where(np.arange(len(program.numbers)) == 6,
                                                                                -1, program.numbers)):
        with pytest.raises(UserError, match="program is refused"):
            library.Compiled(program._replace(numbers=numbers))
    with pytest.raises(UserError, match="program is refused"):
        library.Compiled(program._replace(values=program.values[:-1]))


def test_an_unknown_kind_of_processor_is_refused(monkeypatch):
    monkeypatch.setenv(library.CHOICE, "abacus")
    with pytest.raises(UserError, match="PYCAFFE_TOOLS_NATIVE=abacus"):
        engines.create("native", paper_net("N7"), lively_weights(paper_net("N7")), (8, 8))


# -- building ----------------------------------------------------------------------------------------------------

def test_without_a_compiler_the_sentence_says_what_to_do_and_onnx_runtime_stays(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compiler, "compilers", lambda: iter([]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(library.CHOICE, raising=False)
    with pytest.raises(UserError, match="no C.. compiler works here .there is none.; install g.. or clang, or `pip install ziglang`"):
        build.build()
    assert not library.available()
    for _ in range(2):
        library.prepare()
    said = capsys.readouterr().err
    assert said.count("half to a quarter of the speed") == 1, "a failure is told once"
    if "onnxruntime" in engines.available():
        assert engines.default_name() == "onnxruntime"


def test_a_compiler_that_fails_is_named_with_its_error(monkeypatch, tmp_path):
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\necho 'run.cpp: error: no vectors today'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(compiler, "compilers", lambda: iter([[str(broken)]]))
    with pytest.raises(UserError, match="broken-c.*no vectors today"):
        build.build(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not list(compiler.compilers()), reason="needs a C++ compiler")
def test_builds_at_the_same_time_end_in_one_whole_library(tmp_path):
    code = ("import sys\nfrom pathlib import Path\nfrom pycaffe_tools.engines.native import build\n"
            "build._FLAGS[1] = '-O0'\nbuild._KINDS_X86.pop('avx512', None)\nbuild._KINDS_X86.pop('avx2', None)\n"
            "build.build(Path(sys.argv[1]))")
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=str(ROOT)) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["dense-plain.so"]
    assert library.ctypes.CDLL(str(tmp_path / "dense-plain.so")).native_version() == 1

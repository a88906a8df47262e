"""Exports to ONNX hold the trained network: the same probabilities, in a form that other programs accept."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pycaffe_tools import engines
from pycaffe_tools.base.command import main
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.engines import engine
from pycaffe_tools.export.__main__ import cli
from pycaffe_tools.export.dense_caffe import PROTOTXT, write_dense
from pycaffe_tools.export.onnx_net import TOLERANCE, check, export, onnx_of, run_model
from pycaffe_tools.export.onnx_patch import patch_model
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.model import DEPLOY, WEIGHTS, finish_model
from pycaffe_tools.nets.netgraph import write_net

from ..conftest import ROOT
from ..dense_cases import LENET_LIKE, graph_of, lively_weights, paper_net, patchwise, random_net, reference

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def make_model(folder, graph, pixel_size=(50.0, 4.0, 5.0)):
    folder.mkdir(exist_ok=True)
    write_net(folder / DEPLOY, graph.proto)
    write_weights(folder / WEIGHTS, graph, lively_weights(graph))
    return finish_model(folder, name=graph.name, normalisation={"mean": 120.0, "std": 30.0},
                        patch_size=engine.patch_size(graph), pixel_size_nm=list(pixel_size),
                        counts={layer.name: layer.num_output for layer in graph.layers if layer.is_parametric},
                        threshold=0.4, provenance={})


@pytest.fixture
def n7(tmp_path):
    return make_model(tmp_path / "N7", paper_net("N7"))


def noise(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("make", [lambda: paper_net("N7"), lambda: graph_of(LENET_LIKE)])
def test_the_patch_net_gives_the_probabilities_of_any_number_of_patches(tmp_path, make):
    graph = make()
    made = onnx_of(make_model(tmp_path / "model", graph), dense=False)
    side = engine.patch_size(graph)
    for count in (1, 5):
        patches = np.random.default_rng(count).standard_normal((count, 1, side, side)).astype(np.float32)
        found = run_model(made, patches).reshape(count, -1)
        np.testing.assert_allclose(found, patchwise(graph, lively_weights(graph), patches), atol=TOLERANCE)


def test_patch_nets_drawn_at_random_are_exported_right():
    # Average pooling with clipped windows, groups, dilation, rectangular windows, layers without bias.
    for seed in range(25):
        graph = random_net(seed)
        weights, side = lively_weights(graph, seed), engine.patch_size(graph)
        made = patch_model(graph, weights, "drawn")
        onnx.checker.check_model(made, full_check=True)
        patches = np.random.default_rng(seed).standard_normal((3, 1, side, side)).astype(np.float32)
        np.testing.assert_allclose(run_model(made, patches), patchwise(graph, weights, patches), atol=TOLERANCE)


def test_the_dense_net_takes_tiles_of_any_size(n7):
    made = onnx_of(n7, dense=True)
    onnx.checker.check_model(made, full_check=True)
    graph, weights = n7.net(), n7.load_weights()
    for rows, columns in [(1, 1), (3, 8), (9, 4)]:
        grey = noise(rows + 31, columns + 31)
        found = run_model(made, grey[None, None])
        assert found.shape == (1, 1, rows, columns)
        np.testing.assert_allclose(found[0, 0], reference(graph, weights, grey[None])[1], atol=TOLERANCE)


def test_the_mirrored_dense_net_pads_as_the_segmentation_does(n7):
    grey = noise(20, 23)
    padded = np.pad(grey, (16, 15), mode="reflect")
    expected = run_model(onnx_of(n7, dense=True), padded[None, None])
    found = run_model(onnx_of(n7, dense=True, mirrored=True), grey[None, None])
    assert found.shape == (1, 1, 20, 23)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_standard_operators_are_written(n7):
    made = onnx_of(n7, dense=True)
    assert {node.domain for node in made.graph.node} == {""}
    assert [entry.domain for entry in made.opset_import] == [""]


def test_the_file_says_how_its_input_is_to_be_normalised(n7, tmp_path):
    export(n7.directory, tmp_path / "net.onnx", dense=True)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(str(tmp_path / "net.onnx")).metadata_props}
    assert facts["normalisation_mean"] == 120.0 and facts["normalisation_std"] == 30.0
    assert facts["halo_before_after"] == [16, 15] and facts["pixel_size_nm_zyx"] == [50.0, 4.0, 5.0]


def test_a_wrong_export_is_found_and_not_written(n7, tmp_path, monkeypatch):
    from pycaffe_tools.dense_plan import onnx_printer
    from pycaffe_tools.export import onnx_net as module
    right = onnx_printer.dense_model

    def wrong(plan, kernels, name, mirrored=None):
        # Clipped windows ignored: the usual dense net.
        from pycaffe_tools.dense_plan.steps import Combine
        steps = [step._replace(operands=tuple(each._replace(coefficient=0.0) for each in step.operands))
                 if isinstance(step, Combine) and step.out.name.endswith("_difference") else step for step in plan.steps]
        return right(plan._replace(steps=tuple(steps)), kernels, name, mirrored)

    monkeypatch.setattr(module, "dense_model", wrong)
    with pytest.raises(UserError, match="differ from"):
        export(n7.directory, tmp_path / "net.onnx", dense=True)
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.caffe
@pytest.mark.parametrize("dense", [False, True])
def test_the_check_is_against_caffe_where_there_is_one(n7, dense):
    result = check(onnx_of(n7, dense), n7, dense)
    assert "Caffe patch by patch" in result.against and result.largest_difference <= TOLERANCE


def test_without_caffe_the_two_printers_check_each_other(n7, monkeypatch):
    monkeypatch.setattr(engines, "available", lambda: ["onnxruntime"])
    for dense, other in [(False, "the dense net"), (True, "the patch net")]:
        result = check(onnx_of(n7, dense), n7, dense)
        assert other in result.against and result.largest_difference <= TOLERANCE


def test_exporting_imports_no_caffe(n7, tmp_path):
    code = ("import sys\n"
            "sys.modules['caffe'] = None\n"          # importing it fails
            "from pycaffe_tools import engines\n"
            "engines.available = lambda: ['onnxruntime']\n"
            "from pycaffe_tools.export.onnx_net import export\n"
            f"print(export({str(n7.directory)!r}, {str(tmp_path / 'net.onnx')!r}, dense=True).sentence())\n")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "net.onnx").exists()


def test_the_command_says_what_it_wrote_and_keeps_what_is_there(n7, tmp_path, capsys):
    arguments = [str(n7.directory), "-o", str(tmp_path / "net.onnx"), "--dense"]
    assert main(cli, "export", arguments) == 0
    printed = capsys.readouterr().out
    assert "input  grey: 1 x 1 x rows x columns" in printed and "differ by at most" in printed
    before = (tmp_path / "net.onnx").read_bytes()
    assert main(cli, "export", arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(cli, "export", arguments + ["--force"]) == 0
    assert (tmp_path / "net.onnx").read_bytes() == before


def test_layers_without_an_onnx_form_are_refused_by_name():
    graph = graph_of("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 9 dim: 9 } } }
        layer { name: "odd" type: "Pooling" bottom: "data" top: "odd" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }""")
    with pytest.raises(UserError, match="layer odd: "):
        patch_model(graph, {}, "odd")


SCORES = """
    name: "scores"
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 12 dim: 12 } } }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 5 } }
    layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 2 } }"""


@pytest.mark.caffe
@pytest.mark.parametrize("dense", [False, True])
def test_a_net_that_ends_in_scores_is_exported_with_a_softmax_and_says_so(tmp_path, dense):
    model = make_model(tmp_path / "model", graph_of(SCORES))
    export(model.directory, tmp_path / "net.onnx", dense=dense)       # compared with Caffe before it is written
    made = onnx.load(str(tmp_path / "net.onnx"))
    facts = {entry.key: json.loads(entry.value) for entry in made.metadata_props}
    assert facts["softmax"].startswith("The net itself ends in the scores of layer f")
    grey = noise(12, 12)
    scores = patchwise(model.net(), model.load_weights(), grey[None, None])[0]
    expected = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(run_model(made, grey[None, None]).ravel(), expected[1:] if dense else expected, atol=TOLERANCE)


def test_a_net_with_its_own_softmax_says_nothing_of_one(n7):
    assert "softmax" not in {entry.key for entry in onnx_of(n7, dense=True).metadata_props}


@pytest.mark.caffe
def test_the_head_of_a_dense_prototxt_says_that_a_softmax_was_added(tmp_path):
    model = make_model(tmp_path / "model", graph_of(SCORES))
    write_dense(model.deploy, model.weights, tmp_path / "dense", (8, 8))
    head = (tmp_path / "dense" / PROTOTXT).read_text()
    assert "# The net itself ends in the scores of layer f, without a Softmax; one was added here" in head


def test_a_refusal_names_the_prototxt(tmp_path):
    model = make_model(tmp_path / "model", graph_of(SCORES))
    text = model.deploy.read_text().replace("kernel_size: 5", "kernel_size: 5 stride: 2")
    model.deploy.write_text(text)
    with pytest.raises(UserError, match="model/deploy.prototxt: .*layer f has blobs"):
        write_dense(model.deploy, model.weights, tmp_path / "dense", (8, 8))
    assert not (tmp_path / "dense").exists()


# -- bioimage.io -----------------------------------------------------------------------------------------------

@pytest.fixture
def package(n7, tmp_path):
    path = tmp_path / "N7.zip"
    assert main(cli, "export", [str(n7.directory), "-o", str(path), "--bioimageio"]) == 0
    return path


def test_the_package_reproduces_its_test_output_from_raw_grey_values(package):
    with zipfile.ZipFile(package) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(files["rdf.yaml"].decode())
    grey, expected = (np.load(io.BytesIO(files[each["test_tensor"]["source"]]))
                      for each in (description["inputs"][0], description["outputs"][0]))
    assert grey.shape == expected.shape and 50 < grey.mean() < 200 and expected.std() > 0.01
    step = description["inputs"][0]["preprocessing"][0]
    assert step["id"] == "fixed_zero_mean_unit_variance" and step["kwargs"] == {"mean": 120.0, "std": 30.0}
    normalised = ((grey - 120) / 30).astype(np.float32)
    found = run_model(onnx.load_model_from_string(files["net.onnx"]), normalised)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    axes = description["outputs"][0]["axes"]
    assert [axis.get("halo") for axis in axes[2:]] == [16, 16]
    assert [(axis["unit"], axis["scale"]) for axis in axes[2:]] == [("nanometer", 4.0), ("nanometer", 5.0)]


def test_equal_models_give_equal_packages(package, n7, tmp_path):
    again = tmp_path / "again.zip"
    assert main(cli, "export", [str(n7.directory), "-o", str(again), "--bioimageio"]) == 0
    assert again.read_bytes() == package.read_bytes()


def test_unknown_pixel_sizes_stay_unknown(tmp_path):
    from pycaffe_tools.export.bioimageio import description
    model = make_model(tmp_path / "model", paper_net("N7"), (None, None, None))
    for axis in description(model)["inputs"][0]["axes"][2:]:
        assert "unit" not in axis and "scale" not in axis


def test_a_package_is_a_zip_file(n7, tmp_path, capsys):
    assert main(cli, "export", [str(n7.directory), "-o", str(tmp_path / "N7.onnx"), "--bioimageio"]) == 1
    assert "ends in .zip" in capsys.readouterr().err


def test_the_package_is_valid_by_the_rules_of_bioimageio(package, tmp_path):
    spec = pytest.importorskip("bioimageio.spec")

    def judged(path):
        with spec.ValidationContext(perform_io_checks=True):
            return spec.load_description(path)

    found = judged(package)
    assert not isinstance(found, spec.InvalidDescr), found.validation_summary.format()
    assert found.type == "model" and [str(axis.id) for axis in found.outputs[0].axes] == ["batch", "channel", "y", "x"]
    # The same judge refuses a package that lacks what it describes.
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(package) as archive, zipfile.ZipFile(broken, "w") as copy:
        for name in set(archive.namelist()) - {"test_output.npy"}:
            copy.writestr(name, archive.read(name))
    assert isinstance(judged(broken), spec.InvalidDescr)


def test_the_bioimageio_tools_accept_the_package(package):
    core = pytest.importorskip("bioimageio.core", reason="needs bioimageio.core installed")
    summary = core.test_model(package)
    assert summary.status == "passed", summary.format()

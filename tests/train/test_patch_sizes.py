"""Networks for patches of another size, and of own counts: trained, pruned, retrained and segmented with, or refused."""

import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

pytestmark = pytest.mark.caffe

from pycaffe_tools import darkness, segment
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.calibrate import cli as calibrate_cli
from pycaffe_tools.correctness import cli as correctness_cli
from pycaffe_tools.datasets.scene import write_synthetic
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.schema import read_prototxt
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.ordering.__main__ import cli as ordering_cli
from pycaffe_tools.patches.making import make_database
from pycaffe_tools.patches.sources import LabelledStack
from pycaffe_tools.prune.door import prune
from pycaffe_tools.train.__main__ import cli as train_cli
from pycaffe_tools.train.training import train

from ..dense_cases import reference

COUNTS = {"c1": 6, "c2": 5, "c3": 4, "fc4": 8}
TEXT = "c1=6,c2=5,c3=4,fc4=8"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volume") / "synth"
    write_synthetic(folder, slices=4, size=96, seed=0)
    return LabelledStack(str(folder / "raw.tif"), str(folder / "membranes.tif"), val_slices="3:4")


@pytest.fixture(scope="module")
def databases(stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    return {size: make_database([stack], folder / str(size), "membrane", train=400, val=100, patch_size=size)
            for size in (24, 32, 40, 48)}


@pytest.fixture(scope="module")
def models(databases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {size: train(COUNTS, databases[size].directory, folder / str(size), max_iter=6, tests=1) for size in (32, 40, 48)}


def test_the_network_has_the_size_of_the_patches(models):
    for size, p3 in ((32, 1), (40, 2), (48, 3)):
        net = models[size].net()
        assert models[size].patch_size == size and net.input_shape(net.layer("c1")) == (1, 1, size, size)
        assert models[size].load_weights()["fc4"][0].shape == (8, 4 * p3 ** 2)


def test_the_network_of_own_counts_was_trained_with_the_committed_solver(models):
    made = models[40]
    assert (made.name, made.counts) == ("custom-6-5-4-8", COUNTS)
    solver = read_prototxt(made.directory / "training" / "solver.prototxt", "SolverParameter")
    assert (round(solver.base_lr, 6), solver.lr_policy, round(solver.weight_decay, 6)) == (0.001, "poly", 0.01)
    assert "Table 1" not in (made.directory / "deploy.prototxt").read_text()
    assert made.info["provenance"]["step"] == "train" and made.info["provenance"]["counts"] == COUNTS


def test_accuracy_is_that_of_an_independent_forward_pass(models, databases):
    import caffe
    import h5py
    for size in (40, 48):
        with h5py.File(databases[size].val[0], "r") as shard:
            data, label = shard["data"][:], shard["label"][:]
        net = caffe.Net(str(models[size].deploy), str(models[size].weights), caffe.TEST)
        net.blobs["data"].reshape(*data.shape)
        net.blobs["data"].data[...] = data
        predicted = net.forward()["prob"].argmax(axis=1)
        assert models[size].info["validation"]["accuracy"] == pytest.approx(np.mean(predicted == label), abs=1e-6)


def test_networks_of_table_1_take_the_size_as_well(databases, tmp_path):
    made = train("N7", databases[40].directory, tmp_path / "N7", max_iter=1, tests=1)
    assert (made.name, made.patch_size, made.counts) == ("N7", 40, paper.TABLE_1["N7"])
    assert made.load_weights()["fc4"][0].shape == (10, 40)


def test_the_command_takes_counts_and_a_name_in_place_of_a_network(databases, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(train_cli, [*arguments, "--data", str(databases[40].directory), "--out", str(tmp_path / "out"),
                                              "--max-iter", "1", "--tests", "1"])

    for wrong in ([], ["N7", "--counts", TEXT]):
        assert "exactly one of NET and --counts" in run(*wrong).output
    assert run("--counts", TEXT, "--name", "narrow").exit_code == 0
    assert (open_model(tmp_path / "out").name, open_model(tmp_path / "out").counts) == ("narrow", COUNTS)
    assert run("--counts", TEXT, "--name", "narrow", "--resume").exit_code == 0


@pytest.mark.parametrize("network, name, said", [
    ({"c1": 6}, None, "--counts c1=6: give each of c1, c2, c3, fc4 a count from 1 on"),
    ({**COUNTS, "c4": 2}, None, "c4=2: give each of"), ({**COUNTS, "c2": 0}, None, "c2=0,.*a count from 1 on"),
    (COUNTS, "N7", "--name N7: is a network of Table 1"), (COUNTS, 'a"b', "use letters, digits"),
    ("N7", "mine", "--name mine: N7 has a name already"),
    ({**COUNTS, "c1": 10_000, "c2": 10_000}, None, r"layer c2 would have 2,500,000,000 weights, more than .* Caffe can hold"),
    ({**COUNTS, "c1": 100_000}, None, "c1: would make a blob of .*ask for fewer features")])
def test_counts_and_names_that_cannot_be_are_refused_before_anything_is_written(databases, tmp_path, network, name, said):
    with pytest.raises(UserError, match=said):
        train(network, databases[40].directory, tmp_path / "out", name=name, max_iter=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("network", ["N", COUNTS])
def test_patches_of_24_leave_nothing_for_the_third_convolution(databases, tmp_path, network):
    with pytest.raises(UserError, match=r"patches of 24 x 24 pixels do not suit .* \(layer c3: its kernel is larger than its 2x2 "
                                        r"input\); it needs at least 30 x 30, .* --patch-size 30"):
        train(network, databases[24].directory, tmp_path / "out", max_iter=1)
    assert not (tmp_path / "out").exists()


def test_30_is_the_smallest_size_at_which_caffe_itself_makes_every_layer(stack, tmp_path):
    made = make_database([stack], tmp_path / "30", "membrane", train=100, val=100, patch_size=30)
    assert train(COUNTS, made.directory, tmp_path / "out", max_iter=1, tests=1).patch_size == 30
    made = make_database([stack], tmp_path / "29", "membrane", train=100, val=100, patch_size=29)
    with pytest.raises(UserError, match="29 x 29 pixels do not suit .*layer p3.*at least 30 x 30"):
        train(COUNTS, made.directory, tmp_path / "none", max_iter=1)


def test_weights_for_another_patch_size_are_refused_with_both_sizes(models, databases, tmp_path):
    data, out = databases[40].directory, tmp_path / "out"
    for given in (models[32].directory, models[32].weights):
        with pytest.raises(UserError, match="patches have 40 x 40 pixels, but .*/32.* is for patches of 32 x 32"):
            train(COUNTS, data, out, weights=given, max_iter=1)
    bare = tmp_path / "bare.caffemodel"
    bare.write_bytes(models[48].weights.read_bytes())
    with pytest.raises(UserError, match="bare.caffemodel: holds weights for patches of 46 to 53 pixels a side, but .* have 40"):
        train(COUNTS, data, out, weights=bare, max_iter=1)
    assert not out.exists()


def test_a_model_is_pruned_and_retrained_at_its_size_and_refused_at_another(models, databases, tmp_path):
    options = {"batches": 2, "batch_size": 20, "workers": 1}
    for size in (40, 48):
        out = tmp_path / str(size)
        pruned = prune({"c1": 4, "c3": 2, "fc4": 5}, models[size].directory, databases[size].directory, out, **options)
        assert pruned.patch_size == size and pruned.load_weights()["fc4"][0].shape == (5, 2 * (size // 8 - 3) ** 2)
        assert json.loads((out / "pruning.json").read_text())["masked_slim_difference"] < 1e-5
        again = train(str(out), databases[size].directory, tmp_path / f"again{size}", weights=out, max_iter=1, tests=1)
        assert (again.patch_size, again.counts) == (size, {"c1": 4, "c2": 5, "c3": 2, "fc4": 5})
    with pytest.raises(UserError, match="patches have 48 x 48 pixels, but .* is for patches of 40 x 40"):
        train(str(tmp_path / "40"), databases[48].directory, tmp_path / "none", max_iter=1)
    with pytest.raises(UserError, match="patches have 48 x 48 pixels, but .* is for patches of 40 x 40"):
        prune({"c1": 4}, models[40].directory, databases[48].directory, tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_the_other_readers_of_a_database_refuse_a_model_for_another_size(models, databases, tmp_path):
    model, right, wrong = str(models[40].directory), str(databases[40].directory), str(databases[32].directory)
    for command, more in ((correctness_cli, ["-o"]), (ordering_cli, ["--layer", "fc4", "--batches", "1", "--workers", "1", "-o"])):
        refused = CliRunner().invoke(command, [model, "--data", wrong, *more, str(tmp_path / "out.json")])
        assert isinstance(refused.exception, UserError) and "32 x 32 pixels, but" in str(refused.exception)
        assert CliRunner().invoke(command, [model, "--data", right, *more, str(tmp_path / "out.json")]).exit_code == 0
        content = json.loads((tmp_path / "out.json").read_text())
        assert command is ordering_cli or "by_slice" in content
        (tmp_path / "out.json").unlink()
    assert "32 x 32 pixels, but" in str(CliRunner().invoke(calibrate_cli, [model, "--data", wrong]).exception)
    assert CliRunner().invoke(calibrate_cli, [model, "--data", right]).exit_code == 0


def test_darkness_looks_at_the_centre_of_larger_patches(databases):
    # The drawn pixels are the same, and so is the smoothed grey value around each but for the kernel's far tail.
    usual, larger = darkness.darkness(databases[32]), darkness.darkness(databases[40])
    assert larger.sigma == usual.sigma and larger.accuracy == pytest.approx(usual.accuracy, abs=0.011)


@pytest.mark.parametrize("size", [40, 48])
def test_a_segmentation_is_that_of_each_patch_by_itself(models, stack, tmp_path, size):
    segment(stack.raw, tmp_path / "p.tif", model=models[size].directory, slices="3:4", crop="0:9,50:58")
    found = tifffile.imread(tmp_path / "p.tif")
    grey = models[size].normalisation.apply(tifffile.imread(stack.raw)[3])
    padded = np.pad(grey, (size // 2, size - size // 2 - 1), mode="reflect")
    expected = reference(models[size].net(), models[size].load_weights(), padded[None, :9 + size - 1, 50:58 + size - 1])[1]
    np.testing.assert_allclose(found.reshape(9, 8), expected, atol=1e-5)

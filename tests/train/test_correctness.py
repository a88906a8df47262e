"""Which validation patches are right: as Caffe counts them, and as they are kept."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from pycaffe_tools.correctness import cli
from pycaffe_tools.train.correctness import by_slice, packed, unpacked
from pycaffe_tools.train.training import train
from pycaffe_tools.train.validation import is_correct


@pytest.mark.parametrize("count", [1, 8, 13])
def test_right_and_wrong_come_back_as_they_were(count):
    right = np.random.RandomState(count).rand(count) > 0.5
    content = json.loads(json.dumps(packed(right)))
    assert np.array_equal(unpacked(content), right) and content["accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def test_right_patches_are_counted_slice_by_slice_of_each_stack():
    pixels = np.array([[0, 4, 1, 1], [1, 4, 2, 2], [0, 4, 3, 3], [0, 2, 9, 9], [0, 4, 5, 5]])
    assert by_slice(np.array([True, True, False, False, True]), pixels) == [[0, 2, 1, 0], [0, 4, 3, 2], [1, 4, 1, 1]]


def test_a_tie_is_the_lower_class():
    assert is_correct(np.array([0.5, 0.5, 0.6, 0.4]), np.array([0, 1, 1, 1])).tolist() == [True, False, True, False]


@pytest.mark.caffe
def test_the_share_of_right_patches_is_the_models_accuracy(database, tmp_path):
    trained = train("N7", database.directory, tmp_path / "N7", max_iter=3, tests=1)
    out = tmp_path / "right.json"
    answer = CliRunner().invoke(cli, [str(trained.directory), "--data", str(database.directory), "-o", str(out)])
    assert answer.exit_code == 0, answer.output
    content = json.loads(out.read_text())
    assert content["accuracy"] == pytest.approx(trained.info["validation"]["accuracy"], abs=1e-6)
    assert sum(part[2] for part in content["by_slice"]) == database.val_count
    assert sum(part[3] for part in content["by_slice"]) == unpacked(content).sum()
    assert content["patches"] == database.val_count and content["weights_sha256"] == trained.info["files"]["weights.caffemodel"]

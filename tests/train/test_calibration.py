"""Calibration: fitted as an independent optimiser fits it, applied as Bayes' rule says."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import minimize

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.fields import Fields
from pycaffe_tools.calibrate import cli
from pycaffe_tools.nets.calibration import Calibration, read_calibration
from pycaffe_tools.train.calibration import fit_calibration
from pycaffe_tools.train.training import train


def sample(count=4000, temperature=2.0, seed=0):
    """Probabilities of a network that is too sure of itself by a temperature, and true labels, half of them 1."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=count) * 2
    labels = rng.random(count) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-odds * temperature)), labels.astype(int)


def test_the_fit_is_that_of_another_optimiser():
    probabilities, labels = sample()
    found = fit_calibration(probabilities, labels, 0.03)

    def loss(slope):
        predicted = 1 / (1 + np.exp(-(slope[0] * np.log(probabilities / (1 - probabilities)) + slope[1])))
        right = np.where(labels == 1, predicted, 1 - predicted)
        return -np.mean([np.log(right[labels == side]).mean() for side in (0, 1)])
    slope = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    assert (1 / found.temperature, found.offset) == pytest.approx(tuple(slope), abs=1e-4)
    assert found.temperature == pytest.approx(2.0, rel=0.1) and found.membrane_share == 0.03


def test_a_balanced_probability_becomes_that_of_the_volume_by_bayes():
    found = Calibration(1.0, 0.0, 0.1).apply(np.array([0.5, 0.9, 0.1], np.float32))
    # Odds times 0.1 / 0.9: 1, 9 and 1/9 become 1/9, 1 and 1/81.
    assert found == pytest.approx([0.1, 0.5, 1 / 82], abs=1e-6) and found.dtype == np.float32
    same = np.linspace(0.01, 0.99, 9).astype(np.float32)
    assert Calibration(1.0, 0.0, 0.5).apply(same) == pytest.approx(same, abs=1e-6)
    ends = Calibration(1.5, 0.2, 0.03).apply(np.array([0.0, 1.0], np.float32))
    assert np.isfinite(ends).all() and 0 <= ends[0] < 1e-4 and 0.9 < ends[1] <= 1


def test_patches_that_are_separated_without_error_leave_a_temperature_that_is_a_number():
    found = fit_calibration(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]), 0.1)
    assert np.isfinite(found).all() and found.temperature > 0


@pytest.mark.parametrize("change", [{"temperature": 0}, {"temperature": "1"}, {"offset": None}, {"membrane_share": 0},
                                    {"membrane_share": 1.5}])
def test_a_calibration_that_cannot_be_is_refused(change):
    with pytest.raises(UserError, match="model.json.*" + next(iter(change))):
        read_calibration(Fields({"temperature": 1.0, "offset": 0.0, "membrane_share": 0.1, **change}, "model.json"))


@pytest.mark.caffe
def test_training_keeps_it_and_the_command_fits_the_same(database, tmp_path):
    trained = train("N7", database.directory, tmp_path / "N7", max_iter=3, tests=1)
    first = trained.calibration
    assert first is not None and first.membrane_share == pytest.approx(database.info["class_balance"], abs=1e-6)
    path = trained.directory / "model.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "calibration"}))
    answer = CliRunner().invoke(cli, [str(trained.directory), "--data", str(database.directory), "--membrane-share", "0.25"])
    assert answer.exit_code == 0, answer.output
    again = json.loads(path.read_text())["calibration"]
    assert again["temperature"] == pytest.approx(first.temperature, rel=1e-5) and again["membrane_share"] == 0.25

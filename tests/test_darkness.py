"""The darkness baseline, by hand on a few values, and the times scaled to the paper's slice."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from pycaffe_tools import timing
from pycaffe_tools.darkness import best_dark_threshold, darkness, weights_around_centre
from pycaffe_tools.nets import paper


def test_the_threshold_separates_what_can_be_separated():
    values = np.array([1.0, 2.0, 5.0, 6.0])
    assert best_dark_threshold(values, np.array([True, True, False, False])) == (3.5, 1.0)


def test_dark_is_membrane_and_not_the_reverse():
    """Bright membranes gain nothing: calling almost nothing membrane is the best that is left."""
    values = np.array([1.0, 2.0, 5.0, 6.0])
    threshold, accuracy = best_dark_threshold(values, np.array([False, False, True, True]))
    assert accuracy == 0.5


def test_equal_values_fall_on_one_side():
    values = np.array([1.0, 1.0, 1.0, 2.0])
    threshold, accuracy = best_dark_threshold(values, np.array([True, False, True, False]))
    assert (threshold, accuracy) == (1.5, 0.75)
    assert np.mean((values <= threshold) == np.array([True, False, True, False])) == 0.75


def test_the_best_of_all_thresholds_by_trying_each():
    generator = np.random.RandomState(0)
    values, membrane = generator.randint(0, 12, 200).astype(float), generator.rand(200) < 0.5
    tried = max(np.mean((values <= cut) == membrane) for cut in np.arange(0, 13))
    assert best_dark_threshold(values, membrane)[1] == pytest.approx(tried)


def test_the_gaussian_is_around_the_classified_pixel():
    for size, centre in ((32, 16), (40, 20), (33, 16)):
        assert weights_around_centre(0, size)[centre, centre] == 1
        kernel = weights_around_centre(2.0, size)
        assert kernel.sum() == pytest.approx(1, abs=1e-6) and kernel.argmax() == centre * (size + 1)
        assert kernel[centre, centre + 2] / kernel.max() == pytest.approx(np.exp(-0.5), rel=1e-5)


def test_on_a_database_it_is_better_than_chance_and_repeatable(database):
    found = darkness(database)
    assert 0.6 < found.accuracy <= 1 and 0.6 < found.auc <= 1 and found.patches == 200
    # The threshold is in grey values of the volume, on the dark side of its mean.
    assert 0 < found.threshold < database.normalisation.mean
    assert darkness(database) == found


def test_stacks_normalised_one_by_one_have_their_threshold_in_standard_deviations(database):
    found = darkness(database._replace(normalisation=None))
    mean, std = database.normalisation
    assert found.threshold == pytest.approx((darkness(database).threshold - mean) / std)


@pytest.mark.caffe
def test_times_are_scaled_to_the_papers_slice(tmp_path, monkeypatch):
    from pycaffe_tools.nets.files.caffemodel import write_weights
    from pycaffe_tools.nets.model import finish_model
    from pycaffe_tools.nets.netgraph import read_net
    from pycaffe_tools.nets.running.runtime import random_weights
    folder, counts = tmp_path / "small", {"c1": 2, "c2": 2, "c3": 2, "fc4": 2}
    folder.mkdir()
    (folder / "deploy.prototxt").write_text(paper.deploy_prototxt(counts, "small"))
    net = read_net(folder / "deploy.prototxt")
    write_weights(folder / "weights.caffemodel", net, random_weights(net))
    finish_model(folder, name="small", normalisation={"mean": 0, "std": 1}, patch_size=32, pixel_size_nm=[5, 5, 5],
                 counts=counts, threshold=0.5, provenance={})
    # One second for every repetition, whatever it takes: 64 patches in one second.
    monkeypatch.setattr(timing, "_repeated", lambda work, repetitions: work() is None or [1.0, 2.0])
    answer = CliRunner().invoke(timing.cli, [str(folder), "-o", str(tmp_path / "t.json"), "--patches", "64",
                                             "--dense-tile", "32"], catch_exceptions=False)
    assert answer.exit_code == 0
    times = json.loads((tmp_path / "t.json").read_text())["models"]["small"]
    assert times["patch"]["seconds"] == pytest.approx(3069 * 2301 / 64, abs=0.01)
    assert times["patch"]["longest"] == pytest.approx(2 * 3069 * 2301 / 64, abs=0.01)
    assert times["dense"]["seconds"] == pytest.approx(3069 * 2301 / 1024, abs=0.01)

"""The time model gives back a machine that is linear, and says what it was measured on."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import read_json, write_json
from pycaffe_tools.base.host.machine import cores
from pycaffe_tools.ordering.cost import dense_time, measuring, model as cost
from pycaffe_tools.ordering.cost.dense_time import dense_work, measure_time, read_time, stored_time, write_time
from pycaffe_tools.ordering.cost.model import ArithmeticCost
from pycaffe_tools.ordering.cost.names import cost_model

from ..oracle_nets import graph

SPEED = {"c1": 4e-10, "c2": 1e-10, "c3": 2e-10, "fc4": 3e-10, "fc5": 0.0}


def seconds(net, engine, tile, workers):
    """The time on an imagined machine."""
    work, traffic = dense_work(net)
    return 1e-7 + 5e-11 * traffic + sum(SPEED[layer] * number for layer, number in work.items())


def test_work_is_the_dense_nets_arithmetic_and_the_maps_that_it_moves():
    net = graph("small")
    work, traffic = dense_work(net)
    assert sum(work.values()) == ArithmeticCost(net).cost({})
    # c1: 49 taps on one channel; c2 and c3: one kernel more along each axis for the exact edges; fc4 and fc5: one pixel.
    assert work == {"c1": 9 * 49, "c2": 9 * 7 * 36, "c3": 7 * 6 * 16, "fc4": 6 * 11, "fc5": 22}
    assert traffic > 9 + 1 + 2 * 9


def test_a_linear_machine_is_found_again_and_predicts_counts_that_were_not_measured():
    net, rounds = graph("small"), []
    model = measure_time(net, "onnxruntime", 2, seconds, rounds.append)
    assert len(rounds) == dense_time.ROUNDS and len({str(entry.counts) for entry in model.measured}) == len(model.measured) > 6
    for counts in ({}, {"c1": 8}, {"c2": 3, "fc4": 2}, {"c1": 1, "c2": 1, "c3": 1, "fc4": 1}):
        smaller = cost.with_counts(net, counts)
        assert model.cost(counts) == pytest.approx(seconds(smaller, "", None, 1), rel=1e-3)
    assert min(model.per_multiply_accumulate.values()) >= 0 <= model.per_element


def test_noise_makes_no_coefficient_negative_and_the_shortest_time_counts():
    net, generator = graph("small"), np.random.default_rng(0)

    def disturbed(smaller, engine, tile, workers):
        return seconds(smaller, engine, tile, workers) * (1 + abs(generator.normal(0, 0.3)))

    model = measure_time(net, "onnxruntime", seconds=disturbed)
    assert min(model.constant, model.per_element, *model.per_multiply_accumulate.values()) >= 0
    assert all(entry.seconds >= seconds(cost.with_counts(net, entry.counts), "", None, 1) for entry in model.measured)
    assert model.cost({}) == pytest.approx(seconds(net, "", None, 1), rel=0.3)


def test_a_file_comes_back_as_it_was_and_is_measured_once(tmp_path, monkeypatch):
    net = graph("small")
    monkeypatch.setattr(dense_time, "seconds_per_pixel", seconds)
    model = cost_model("time", net, None, tmp_path, "onnxruntime")
    assert (tmp_path / f"time-onnxruntime-{cores()}.json").exists() and model.unit == "seconds per pixel"
    monkeypatch.setattr(dense_time, "seconds_per_pixel", None)
    again = stored_time(tmp_path / f"time-onnxruntime-{cores()}.json", net)
    assert again == model and again.as_json() == model.as_json() == read_json(tmp_path / f"time-onnxruntime-{cores()}.json")
    write_time(tmp_path / "copy.json", again)
    assert cost_model("time", net, tmp_path / "copy.json", tmp_path).as_json() == model.as_json()


def test_files_of_another_form_or_net_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dense_time, "seconds_per_pixel", seconds)
    write_time(tmp_path / "time.json", measure_time(graph("small"), "onnxruntime"))
    with pytest.raises(UserError, match="time.json: was measured on a net with the layers c1, c2, c3, fc4, fc5, not c1, c2, ip1"):
        read_time(tmp_path / "time.json", graph("lenet"))
    write_json(tmp_path / "other.json", {"format": 1, "cost": "parameters"})
    with pytest.raises(UserError, match="other.json: is not a time model"):
        read_time(tmp_path / "other.json", graph("small"))


def test_a_real_engine_is_measured_by_its_name():
    assert 0 < measuring.seconds_per_pixel(graph("small"), "onnxruntime", (32, 48), 2) < 1e-3

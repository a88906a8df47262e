"""The benchmark's arithmetic, and that it measures what it says on a small net."""

import pytest

caffe = pytest.importorskip("caffe")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.bench_pruning import Fast, Plain, Row, as_json, measure, table
from pycaffe_tools.ordering.sample import Sample

from .oracle_nets import LENET, pruning_problem


def test_ratio_is_the_extrapolated_plain_time_over_the_whole_fast_ordering():
    row = Row("c1", 10, Plain(3.0, 0), Plain(2.0, 0), Fast(0.5, 0.1, 0, 9, 0), Fast(0.75, 0.1, 0, 10, 0))
    assert row.ratio(row.full, row.fast) == 60 and row.ratio(row.start, row.fast) == 40
    assert row.ratio(row.full, row.undropped) == 40
    other = row._replace(layer="c2", fast=row.fast._replace(seconds=1.0))
    assert as_json([row, other], 5)["ratio_to_full"] == pytest.approx(60 / 1.5)


def test_measured_figures_are_of_the_whole_ordering_and_what_is_extrapolated_is_marked():
    known = pruning_problem("small", "c3")
    sample = Sample(known.data, known.labels, list(range(50)), 2, 25, 0)
    row = measure(known.graph, known.weights, "c3", sample, candidates=3, max_memory=1 << 30)
    assert row.evaluations == 21 and row.fast.evaluated <= row.evaluations == row.undropped.evaluated
    assert row.fast.peak > 0 and 0 < row.fast.preparation < row.fast.seconds and row.full.seconds > 0
    text = table([row], 50)
    assert "50 patches" in text and text.count("~") == 5


def test_a_layer_without_a_fast_way_is_refused():
    known = pruning_problem(LENET.replace('type: "ReLU"', 'type: "Sigmoid"'), "ip1")
    sample = Sample(known.data, known.labels, list(range(50)), 2, 25, 0)
    with pytest.raises(UserError, match="ip1.*Sigmoid"):
        measure(known.graph, known.weights, "ip1", sample, 2, 1 << 30)

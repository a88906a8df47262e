"""The front: its networks are of the budgets asked for, and all of its runs work on real Caffe."""

import json

import pytest

from pycaffe_tools.datasets.scene import write_synthetic
from pycaffe_tools.dense_plan.plan import make_plan
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.reproduce import catalogue
from pycaffe_tools.reproduce.front import WAYS, uniform
from pycaffe_tools.reproduce.plan import plan
from pycaffe_tools.reproduce.runner import Runner
from pycaffe_tools.reproduce.store import RunStore


def macs(counts):
    return make_plan(NetGraph(parse_prototxt(paper.deploy_prototxt(counts, "N")))).multiply_accumulates()


@pytest.mark.parametrize("share", [0.5, 0.1, 0.025])
def test_the_uniform_network_takes_as_much_of_its_budget_as_one_factor_can(share):
    whole, counts = macs(paper.counts_of("N")), uniform(share)
    assert 0.8 * share < macs(counts) / whole <= share
    factors = [counts[layer] / count for layer, count in paper.counts_of("N").items()]
    assert max(factors) - min(factors) < 0.02


@pytest.mark.slow
@pytest.mark.caffe
def test_every_way_runs_and_keeps_to_the_budget(tmp_path, monkeypatch):
    tiny = catalogue.SCALES["tiny"]
    monkeypatch.setitem(catalogue.SCALES, "tiny", {**tiny, "synthetic": tiny["synthetic"]._replace(
        retrain_iterations=3, front=(0.3,), front_seeds=(1,), controls=())})
    write_synthetic(tmp_path / "em", slices=3, size=128, seed=0)
    nodes = [node for node in plan("synthetic", "tiny") if node.stage in ("data", "train", "front")]
    with RunStore(tmp_path / "runs" / "synthetic-tiny", tmp_path / "em") as store:
        outcome = Runner(nodes, store, tmp_path / "results", 1, say=lambda line: None).run()
    assert not outcome.failed and not outcome.blocked
    logs = tmp_path / "results" / "logs" / "nodes"
    timing = json.loads((logs / "front-timing-s1.json").read_text())["result"]["models"]
    for way in WAYS:
        made = json.loads((logs / f"front-{way}-m300-s1.json").read_text())
        assert macs(made["result"]["counts"]) <= 0.3 * macs(paper.counts_of("N")), way
        assert 0 < timing[f"front-{way}-m300-s1"]["dense"]["seconds"] < timing["N-s1"]["dense"]["seconds"]

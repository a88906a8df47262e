"""Published models and their cards: the files are those of the logs, and every number on a card comes from there."""

import json
import re
import shutil

import pytest

pytest.importorskip("matplotlib")

from pycaffe_tools.base.command import main
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import sha256
from pycaffe_tools.cards import cli
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.report.cards import MODELS, NETWORKS, card, publish, write_cards
from pycaffe_tools.report.results import Results

from ..conftest import ROOT

LOGS = ROOT / "results" / "vnc" / "logs"
NODES = {"N": "N-s1", "N6": "N6-loss-s1", "N7": "N7-loss-s1"}


@pytest.fixture
def reproduction(tmp_path):
    """A copy of the committed logs, and a store with models that they tell of."""
    logs = tmp_path / "results" / "vnc" / "logs"
    shutil.copytree(LOGS, logs)
    plan = json.loads((logs / "plan.json").read_text())
    store = tmp_path / "runs" / f"vnc-{plan['scale']['name']}"
    for node in NODES.values():
        (store / node).mkdir(parents=True)
        for name in ("deploy.prototxt", "weights.caffemodel", "model.json"):
            (store / node / name).write_text(f"{node} {name}")
        path = logs / "nodes" / f"{node}.json"
        log = json.loads(path.read_text())
        log["result"]["files"] = {name: sha256(store / node / name) for name in ("deploy.prototxt", "weights.caffemodel")}
        path.write_text(json.dumps(log))
    return Results(logs.parent), tmp_path


def test_models_are_copied_and_get_cards(reproduction):
    results, folder = reproduction
    publish(results, folder / "runs", folder / "models")
    write_cards(results, folder / "models")
    for network, node in NODES.items():
        model = folder / "models" / f"vnc-{network}"
        assert sorted(path.name for path in model.iterdir()) == ["README.md", "deploy.prototxt", "model.json", "weights.caffemodel"]
        assert (model / "weights.caffemodel").read_text() == f"{node} weights.caffemodel"
        text = (model / "README.md").read_text(encoding="utf-8")
        log = json.loads((results.logs / "nodes" / f"{node}.json").read_text())["result"]
        assert f"{100 * log['validation']['accuracy']:.2f} % of {log['validation']['patches']:,} held-out patches" in text
        assert f"{log['parameters']:,} parameters" in text and "NonCommercial-ShareAlike 3.0" in text and "figshare.856713" in text


def test_what_the_logs_do_not_tell_of_is_refused(reproduction):
    results, folder = reproduction
    store = next((folder / "runs").iterdir())
    (store / "N6-loss-s1" / "weights.caffemodel").write_text("another")
    with pytest.raises(UserError, match=r"N6-loss-s1/weights.caffemodel: is not the one that .* tells of"):
        publish(results, folder / "runs", folder / "models")
    assert not (folder / "models").exists()
    (store / "N6-loss-s1" / "weights.caffemodel").unlink()
    with pytest.raises(UserError, match="is missing"):
        publish(results, folder / "runs", folder / "models")


def test_models_of_images_without_terms_are_not_passed_on(tmp_path, capfd):
    command = [str(ROOT / "results" / "epfl"), "--runs", str(tmp_path), "--out", str(tmp_path / "models")]
    assert main(cli, "cards", command) == 1
    assert not list(tmp_path.iterdir())
    assert "terms of its images are not established" in capfd.readouterr().err


PUBLISHED = sorted(path.parent for path in (ROOT / MODELS).glob("*/model.json"))


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_the_committed_models_are_those_of_the_committed_logs(model):
    data_set, network = model.name.split("-")
    results = Results(ROOT / "results" / data_set)
    assert network in NETWORKS
    assert (model / "README.md").read_text(encoding="utf-8") == card(results, network), "run `make report`"
    opened = open_model(model)
    assert {name: sha256(model / name) for name in opened.info["files"]} == results.first(network)["result"]["files"]
    assert sum(path.stat().st_size for path in model.iterdir()) < 2_000_000
    assert f"--model data/models/{model.name}" in (model / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\S)/(?:work|var|root|home)\b", (model / "model.json").read_text(encoding="utf-8"))

"""The documents: what they name is there, the tutorial runs, and files hold the fields that are described."""

import json
import os
import re
import subprocess
import sys

import pytest

import pycaffe_tools
from pycaffe_tools.__main__ import COMMANDS

from .conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
HISTORY = "CHANGELOG.md"
"""Tells of what was, so it may name what is gone."""
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXTS["docs/tutorial.md"], re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|<img src=\"([^\"]+)\"", TEXTS[page]):
        target = "".join(target)
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", [page for page in TEXTS if page != HISTORY])
def test_files_that_are_named_are_there(page):
    for path in re.findall(r"`((?:pycaffe_tools|tests|docs|environment|prototxt|solvers|results)/[\w./*-]*)", TEXTS[page]):
        assert list(ROOT.glob(path.rstrip("/"))), f"{page} names {path}"


def symbols(text):
    """Pairs of a name and the file that a page says it is in: `name` in `file`."""
    return re.findall(r"`([\w.]+)` in\s+`(pycaffe_tools/[\w./]+\.py)`", text)


@pytest.mark.parametrize("page", [page for page in TEXTS if page != HISTORY])
def test_functions_that_are_named_are_in_their_files(page):
    for name, file in symbols(TEXTS[page]):
        text = (ROOT / file).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^\s*((def|class) {part}\b|{part} = )", text, re.MULTILINE), f"{page}: {name} is not in {file}"


def test_the_four_ways_name_their_functions():
    text = TEXTS["docs/architecture.md"]
    ways = text[text.index("## Four ways"):text.index("## Decisions")]
    assert len(re.findall(r"^\*\*Where ", ways, re.MULTILINE)) == 4 and len(symbols(ways)) >= 8
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert named == {path.parent.name for path in (ROOT / "pycaffe_tools").glob("*/__init__.py")}


@pytest.mark.parametrize("page", [page for page in TEXTS if page != HISTORY])
def test_commands_and_targets_that_are_named_exist(page):
    text = TEXTS[page]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    targets |= {f"reproduce-{stage}" for stage in ("data", "train", "prune", "retrain", "segment")}
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"{page} names make {target}"
    for command in re.findall(r"(?:-m pycaffe_tools\.|^pycaffe-tools |`pycaffe-tools )([a-z_]+)", text, re.MULTILINE):
        assert command in COMMANDS, f"{page} names the command {command}"


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {pycaffe_tools.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {pycaffe_tools.__version__}" in TEXTS[HISTORY]


def test_documents_name_no_place_of_one_machine():
    tracked = subprocess.run(["git", "ls-files", "docs", "*.md"], cwd=str(ROOT), capture_output=True, text=True).stdout.split()
    for page in {*tracked, *TEXTS}:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.search(r"/(root|home|work|var/tmp)/", text), page


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """The folder in which all blocks of the tutorial ran, one after the other, and what they printed."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("tutorial")
    done = subprocess.run([sys.executable, "-c", "\n".join(BLOCKS)], cwd=str(folder), capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


@pytest.mark.caffe
def test_the_tutorial_runs_and_prints_what_it_promises(tutorial):
    folder, printed = tutorial
    promised = re.findall(r"# (\{.*|\[\(.*|no-such.*)", "".join(BLOCKS))
    assert len(BLOCKS) > 10 and len(promised) == 3
    for line in promised:
        assert line in printed, f"the tutorial promises {line}"
    assert sorted(path.name for path in folder.iterdir()) == [
        "N7.onnx", "mask.tif", "mask.tif.json", "membranes.tif", "membranes.tif.json", "patches", "runs", "synthetic"]


def documented(heading):
    """Fields in the first table below a heading of file-formats.md; those with a dot lie deeper."""
    text = TEXTS["docs/file-formats.md"]
    assert f"\n### {heading}\n" in text, heading
    section = text.split(f"\n### {heading}\n")[1].split("\n#")[0]
    table = re.search(r"^\| (?:field|column) \|.*?(?=\n\n|\Z)", section, re.MULTILINE | re.DOTALL)[0]
    rows = table.splitlines()[2:]
    fields = {name for row in rows for name in re.findall(r"`([\w]+)`", row.split("|")[1])}
    deeper = {name for row in rows for name in re.findall(r"`([a-z_]+\.[a-z_0-9]+)`", row.split("|", 2)[2])}
    return fields, deeper


def compare(heading, content, more=()):
    fields, deeper = documented(heading)
    assert fields == set(content) - set(more), heading
    for name in deeper:
        upper, lower = name.split(".")
        if upper in content:    # the others are names of files
            assert lower in content[upper], f"{heading}: {name}"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.caffe
def test_the_files_of_the_tutorial_hold_what_is_documented(tutorial):
    folder, _ = tutorial
    compare("`patches.json`", read(folder / "patches" / "patches.json"))
    for name in ("N", "N7"):
        compare("`model.json`", read(folder / "runs" / name / "model.json"))
    compare("`model.json`", {"calibration": {"temperature": 1, "offset": 0, "membrane_share": 0.1},
                             **read(folder / "runs" / "N7-pruned" / "model.json")})
    compare("`pruning.json`", read(folder / "runs" / "N7-pruned" / "pruning.json"))
    for name in ("N", "N7"):
        compare("`options.json`", read(folder / "runs" / name / "training" / "options.json"))
    compare("`OUT.tif.json`", read(folder / "membranes.tif.json"))
    curve = (folder / "runs" / "N" / "train.csv").read_text().splitlines()
    compare("`train.csv`", dict.fromkeys(curve[0].split(",")))
    log = next((folder / "runs" / "N" / "orderings").glob("c1-loss-*.log")).read_text().splitlines()
    compare("Log of an ordering", json.loads(log[1]))
    assert set(json.loads(log[0])) == {"format", "layer", "criterion", "plain", "key", "loss_before"}


def test_the_committed_results_hold_what_is_documented():
    for folder in (ROOT / "results" / "epfl", ROOT / "results" / "vnc"):
        logs = folder / "logs"
        compare("`logs/plan.json`", read(logs / "plan.json"))
        compare("`logs/machine.json`", read(logs / "machine.json"))
        for claim in read(folder / "claims.json"):
            compare("`claims.json`", claim)
        for path in (logs / "nodes").glob("*.json"):
            node = read(path)
            fields, _ = documented("`logs/nodes/NAME.json`")
            assert fields <= set(node), path
            assert f"| `{node['kind']}` |" in TEXTS["docs/file-formats.md"], node["kind"]
            if node["kind"] == "segmentation":
                compare("Scores", node["result"], more=("crop", "across_slices", "map"))      # in the text around the tables


def test_an_ordering_file_holds_what_is_documented():
    from pycaffe_tools.ordering.ordering import Ordering
    assert documented("Ordering file")[0] == {"format", *Ordering._fields}

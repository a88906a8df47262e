"""What the documents name is there: files, functions, links, make targets, commands."""

import os
import re
import subprocess
import sys

import pytest

from pycaffe_tools.__main__ import COMMANDS

from .conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
HISTORY = "CHANGELOG.md"
"""Tells of what was, so it may name what is gone."""


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
            assert re.search(rf"^\s*(def|class) {part}\b", text, re.MULTILINE), f"{page}: {name} is not in {file}"


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


def test_documents_name_no_place_of_one_machine():
    tracked = subprocess.run(["git", "ls-files", "docs", "*.md"], cwd=str(ROOT), capture_output=True, text=True).stdout.split()
    for page in {*tracked, *TEXTS}:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.search(r"/(root|home|work|var/tmp)/", text), page


@pytest.mark.caffe
def test_the_tutorial_runs(tmp_path):
    """All its blocks, one after the other, in an empty folder."""
    pytest.importorskip("onnxruntime")
    blocks = re.findall(r"^```python\n(.*?)^```", TEXTS["docs/tutorial.md"], re.MULTILINE | re.DOTALL)
    assert len(blocks) > 10
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=str(tmp_path), capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line.split("# ", 1)[1] for line in "".join(blocks).splitlines() if "# {" in line or "# no-such" in line or "# [(" in line]
    assert len(said) == 3
    for line in said:
        assert line in done.stdout, f"the tutorial promises {line}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "N7.onnx", "mask.tif", "mask.tif.json", "membranes.tif", "membranes.tif.json", "patches", "runs", "synthetic"]

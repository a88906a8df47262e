"""The committed results: what the reports say comes from their logs, and the README says the same."""

import re
import shutil

import pytest

pytest.importorskip("matplotlib")
import matplotlib
import PIL

from pycaffe_tools.report.__main__ import write_report
from pycaffe_tools.report.results import Results
from pycaffe_tools.report.tables import table_summary
from pycaffe_tools.reproduce.catalogue import DATA_SETS

from ..conftest import ROOT

FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/logs"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIMIT = 2_000_000
"""Bytes of the largest file that belongs here."""


def draws_alike():
    """Whether pictures come out byte for byte: the versions of `make env` draw here."""
    lock = (ROOT / "environment" / "requirements-py39.lock").read_text(encoding="utf-8")
    locked = {name.lower(): version for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", lock, re.MULTILINE)}
    return (locked["matplotlib"], locked["pillow"]) == (matplotlib.__version__, PIL.__version__)


def files_below(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_both_data_sets_are_there_and_the_learning_curve():
    assert [folder.name for folder in FOLDERS] == ["epfl", "epfl-curve", "vnc"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_report_comes_from_the_logs_byte_for_byte(folder, tmp_path):
    copy = tmp_path / folder.name
    shutil.copytree(folder / "logs", copy / "logs")
    write_report(copy)
    assert files_below(copy) == files_below(folder)
    for file in files_below(copy):
        # The page holds the pictures.
        if draws_alike() or file.suffix not in (".png", ".html"):
            assert (copy / file).read_bytes() == (folder / file).read_bytes(), f"{file}: run `make report`"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_run_of_the_plan_was_done_by_committed_code(folder):
    results = Results(folder)
    stages = {node["name"]: node["stage"] for node in results.plan["nodes"]}
    assert {stages[name] for name in results.missing()} <= {"front", "transfer"}, "the rest of the plan is done"
    assert all(node["code"]["commit"] for node in results.nodes.values())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_model_and_no_large_file_is_committed(folder):
    for file in files_below(folder):
        assert (folder / file).stat().st_size <= LIMIT, file
        assert file.suffix in (".json", ".csv", ".md", ".png", ".html", ".txt"), file


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_micrographs_are_there_only_with_their_licence(folder):
    crops = folder / "logs" / "crops"
    licence = DATA_SETS[Results(folder).plan["data_set"]["name"]].licence
    assert (crops / "input.png").is_file() == (crops / "LICENCE.txt").is_file() == (licence is not None)
    if licence:
        for beside in (crops, folder / "figures"):
            assert licence in (beside / "LICENCE.txt").read_text(encoding="utf-8")


def test_the_readme_opens_with_the_table_and_figure_4():
    table = table_summary(Results(ROOT / "results" / "vnc")).as_markdown()
    assert table in README, "the README's table is results/vnc/tables/summary.md"
    start = README.index("## Start")
    assert README.index(table) < start
    figure = README.index('"results/vnc/figures/figure4.png"')
    beside = README[figure:start]
    assert "Attribution-NonCommercial-ShareAlike 3.0" in beside and "figshare.856713" in beside and figure < start


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder.name in DATA_SETS], ids=lambda folder: folder.name)
def test_the_readme_says_what_the_reports_say_of_the_claims(folder):
    report = (folder / "report.md").read_text(encoding="utf-8")
    sentence = re.search(r"Of \d+ statements of the paper[^.]*", report)[0]
    assert sentence in " ".join(README.split())

"""The report: every number from the logs, beside the paper's; the same logs give the same bytes; nothing from outside."""

import json
import re
import shutil
from html import escape

import pytest

pytest.importorskip("matplotlib")
from PIL import Image

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.report.__main__ import write_report
from pycaffe_tools.report.figures import figure_3_curves, figure_4_panels
from pycaffe_tools.report.front import table_front
from pycaffe_tools.report.markup import Bullets, Heading, Listing, Paragraph, Verdict, html, markdown
from pycaffe_tools.report.page import _wall
from pycaffe_tools.report.results import Results
from pycaffe_tools.report.tables import (
    Table,
    all_tables,
    seeds,
    table_2_accuracy,
    table_2_cost,
    table_controls,
    with_interval,
)
from pycaffe_tools.reproduce.plan import plan

from .logs import write_logs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "epfl"
    write_logs(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return Results(folder)


def row(table, net):
    return next(dict(zip(table.head, cells)) for cells in table.rows if cells[0] == net)


def test_accuracies_stand_with_their_spread_beside_the_papers(results):
    n6 = row(table_2_accuracy(results), "N6")
    # 92.8 with seeds 0.01 apart: mean 92.80, standard deviation 0.01, three seeds, so half an interval of 0.0248.
    assert n6["A loss"] == "92.80 ± 0.02" and n6["seeds"] == "3" and n6["paper"] == "92.87" and n6["paper [16]"] == "93.00"
    assert n6["lost"] == "0.20 ± 0.00" and n6["before retraining: loss"] == "87.80 ± 0.02"
    assert row(table_2_accuracy(results), "N7")["A APoZ"] == "90.80 ± 0.02"
    assert row(table_2_accuracy(results), "N1")["A loss"] == "92.91"        # one seed has no spread


def test_cost_is_what_the_networks_really_have(results):
    n7 = row(table_2_cost(results), "N7")
    assert n7["pruned %"] == "92.2" and n7["M kB"] == "196.6" and n7["parameters"] == "18,462"
    assert n7["T patch by patch"] == "2,360" and n7["paper (GPU)"] == "29.5"


def test_all_of_table_2_is_there(results):
    assert [cells[0] for cells in table_2_accuracy(results).rows] == ["N", "N1", "N2", "N3", "N4", "N5", "N6", "N7"]
    # N retrained as long as N6 and as long as N7, then N6 and N7 in five ways each.
    rows = table_controls(results).rows
    assert len(rows) == 12 and [cells[2] for cells in rows[:2]] == ["400", "1,000"]


def test_cells_have_students_interval():
    # 4.303 for two degrees of freedom, times a standard deviation of 1, over the root of 3.
    assert with_interval({1: 1.0, 2: 2.0, 3: 3.0}) == "2.00 ± 2.48"
    assert with_interval({1: 1.0}) == "1.00" and with_interval({}) == ""


def test_the_number_of_seeds_is_said_where_cells_of_a_row_differ_in_it():
    three, one = {1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0}
    assert seeds(three, {}, three) == "3" and seeds(three, one, three) == "3, 1" and seeds({}) == ""


@pytest.fixture(scope="module")
def main_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main") / "epfl"
    write_logs(folder, scale="main")
    write_report(folder)
    return folder


def test_claims_are_computed_from_the_same_numbers(main_folder):
    found = {(claim["key"], claim["reading"]): claim for claim in json.loads((main_folder / "claims.json").read_text())}
    kept = found["N1-N6", "N retrained alike"]
    assert kept["verdict"] == "reproduced" and [figure["count"] for figure in kept["figures"]] == [5] * 6
    # N retrained is 0.1 better than N, and N6 0.2 worse.
    assert kept["figures"][5]["value"] == pytest.approx(0.3, abs=0.01)
    lost = found["N7", "N as trained"]
    assert lost["verdict"] == "reproduced" and lost["figures"][0]["value"] == pytest.approx(1.9)
    assert lost["figures"][1]["value"] == pytest.approx(1.1, abs=0.03), "above what grey values reach"
    assert found["faster", None]["verdict"] == "reproduced"       # the paper's own ratio
    assert found["better", "APoZ"]["figures"][0]["value"] == pytest.approx(0.3, abs=0.01)
    assert found["blurred", None]["verdict"] == found["maps-alike", None]["verdict"] == "reproduced"
    # A rise of 0.5 * s ** (1 to 4) reaches 0.01 sooner where the power is lower: from c1 to fc4.
    shares = [figure["value"] for figure in found["steepness", None]["figures"]]
    assert shares[1:] == pytest.approx([0.02, 0.02 ** 0.5, 0.02 ** (1 / 3), 0.02 ** 0.25], abs=0.03)
    assert not [claim for claim in found.values() if claim["verdict"] == "not run"]


def test_thresholds_of_the_main_scale_come_from_other_slices(main_folder):
    text = (main_folder / "report.md").read_text()
    assert "at the best threshold of the other slices" in text and "| N, seed 3 | 0.580 | 0.500 | 0.690 | 0.800, 0.900 |" in text
    titles = [title for title, _ in figure_4_panels(Results(main_folder))]
    assert "N: membrane from 0.80" in titles      # of slice 20, chosen on slice 22


def test_statements_are_counted_once_whatever_their_readings(main_folder):
    claims = json.loads((main_folder / "claims.json").read_text())
    distinct = {claim["key"] for claim in claims if not claim["control"]}
    assert f"Of {len(distinct)} statements of the paper" in (main_folder / "report.md").read_text()


def test_the_front_has_every_way_at_every_budget_and_says_which_wins(main_folder):
    found = Results(main_folder)
    rows = table_front(found).rows
    assert len(rows) == 6 * 6 and rows[0][1:] == ["50", "92.58 ± 0.02", "5.00 ± 0.00", "3"]
    text = (main_folder / "report.md").read_text()
    assert "50 % of the arithmetic: best: in rounds, one order of all layers" in text
    assert "5 % of the arithmetic: best: narrower by one factor, from random weights" in text
    assert "At 5, 2.5 % of the arithmetic, training from scratch is better than the best way of pruning." in text
    with Image.open(main_folder / "figures" / "front.png") as image:
        assert image.size[0] > 600


def test_learning_curve_and_stability_are_tables_where_they_were_run(main_folder, tmp_path):
    assert "(Jaccard index" in (main_folder / "report.md").read_text()
    assert "| N | vnc | 92.90 ± 0.02 | 3 |" in (main_folder / "report.md").read_text()
    write_logs(tmp_path / "epfl", scale="curve")
    write_report(tmp_path / "epfl")
    text = (tmp_path / "epfl" / "report.md").read_text()
    assert "| 30,000 | 93.01 |" in text and "From 10,000 to 30,000 iterations accuracy changes by +0.00 points" in text
    with Image.open(tmp_path / "epfl" / "figures" / "curve.png") as image:
        assert image.size[0] > 500


def test_logs_of_another_plan_are_not_of_this_reproduction(tmp_path):
    """A smaller scale before this one left its logs in the same folder."""
    folder = tmp_path / "epfl"
    write_logs(folder, leave_out=["N-s1"])
    path = folder / "logs" / "nodes" / "N-s2.json"
    other = json.loads(path.read_text())
    other["commands"][0][other["commands"][0].index("--max-iter") + 1] = "5"
    path.write_text(json.dumps(other))
    results = Results(folder)
    assert results.missing() == ["N-s1", "N-s2"] and set(results.accuracies("N", None)) == {3}


def test_a_claim_says_on_which_networks_it_was_judged(tmp_path):
    write_logs(tmp_path / "vnc", "vnc")
    texts = [claim.text for claim in write_report(tmp_path / "vnc")]
    assert any(text.endswith("judged on N6 alone") for text in texts)


def test_figure_3_has_every_network_and_layer_and_begins_before_the_first_removal(results):
    curves = figure_3_curves(results)
    assert len(curves) == 8 * 4 and {curve.losses[0] for curve in curves} == {0.2}
    assert [len(curve.losses) for curve in curves if curve.net == "N"] == [101, 76, 51, 201]


def test_figure_3_over_all_seeds_is_their_mean_with_its_interval(main_folder):
    curve = next(curve for curve in figure_3_curves(Results(main_folder)) if (curve.net, curve.layer) == ("N6", "c2"))
    assert len(curve.losses) == 76 and curve.band is not None
    # The made-up orders are the same for every seed, so the interval has no width.
    for end in curve.band:
        assert end == pytest.approx(curve.losses)


def test_micrographs_are_shown_only_under_a_licence(results, folder, tmp_path):
    """EPFL: probability and mask for N and three N7; VNC: the input as well."""
    assert len(figure_4_panels(results)) == 4 * 2
    vnc = tmp_path / "vnc"
    write_logs(vnc, "vnc")
    Image.new("L", (64, 64)).save(vnc / "logs" / "crops" / "input.png")
    assert len(figure_4_panels(Results(vnc))) == 4 * 3
    write_report(vnc)
    page = (vnc / "report.md").read_text()
    assert "figshare.856713" in page and "Attribution-NonCommercial-ShareAlike 3.0" in page


def test_equal_logs_give_equal_bytes(folder, tmp_path):
    copy = tmp_path / "epfl"
    shutil.copytree(folder / "logs", copy / "logs")
    write_report(copy)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
    assert len(files) > 100
    for file in files:
        assert (folder / file).read_bytes() == (copy / file).read_bytes(), file


def test_the_page_needs_nothing_else(folder):
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"<(script|link|iframe)|@import|url\(|src=\"(?!data:)|href=", page)
    assert 'name="viewport"' in page and "@media print" in page


def test_the_markdown_says_the_same(folder, results):
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for table in [table for table in all_tables(results) if table.rows or table.name not in ("curve", "stability", "transfer")]:
        assert table.title in text and all(escape(cell) in page for cells in table.rows for cell in cells)
    for picture in re.findall(r"\]\((figures/[^)]*)\)", text):
        assert (folder / picture).is_file()


def test_commands_seeds_and_versions_are_stated(folder):
    text = (folder / "report.md").read_text()
    for statement in ("prune N7 --from {runs}/N-s1", "Seeds: 1, 2, 3", "caffe 1.0.0", "a processor, 2 cores",
                      "1 h 06 min", "60,000 for training", "300,000 and 300,000", "commit 0123456789ab"):
        assert statement in text, statement


def test_an_unfinished_reproduction_has_a_report_with_empty_cells(tmp_path):
    missing = ["N7-loss-s1", "timing", "segment-N7-loss-s1", "N7-random-s1"]
    write_logs(tmp_path / "epfl", leave_out=missing)
    write_report(tmp_path / "epfl")
    text = (tmp_path / "epfl" / "report.md").read_text()
    assert f"{len(missing)} of {len(plan('epfl', 'small'))} runs are not done" in text
    assert row(table_2_cost(Results(tmp_path / "epfl")), "N7")["T dense"] == ""


def test_an_empty_reproduction_has_a_report(tmp_path):
    write_logs(tmp_path / "epfl", leave_out=[node.name for node in plan("epfl", "small")])
    assert {claim.verdict for claim in write_report(tmp_path / "epfl")} == {"not run"}


def test_no_logs_are_said_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="reproduce first"):
        write_report(tmp_path)


@pytest.mark.parametrize("file", ["plan.json", "machine.json", "nodes/N-s1.json", "nodes/N-s1.json result",
                                  "orderings/N7-loss-s1-pruned.json"])
def test_a_log_that_is_none_is_named(tmp_path, file):
    write_logs(tmp_path / "epfl")
    file, _, emptied = file.partition(" ")
    path = tmp_path / "epfl" / "logs" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), emptied: {}} if emptied else {}))
    with pytest.raises(UserError, match=f"{file}: is no log of a reproduction"):
        write_report(tmp_path / "epfl")


def test_text_is_escaped_in_the_page(tmp_path):
    blocks = [Heading(1, "a < b"), Paragraph("x & y"), Bullets(["<i>"]), Verdict("not reproduced", "p < q", ["d > e"]),
              Table("t", "<title>", ["h|1"], [["<cell>"]]), Listing("<s>", ["<pre>"])]
    page = html("<t>", blocks, tmp_path)
    body = page[page.index("<body>"):]
    assert not re.search(r"<(i|cell|title|s|t)>", body) and 'class="claim not-reproduced"' in body
    assert "h\\|1" in markdown(blocks)


def test_sessions_at_the_same_time_are_one_wall_time():
    def session(start, seconds):
        return {"started": f"2026-01-01 {start} UTC", "seconds": seconds}
    assert _wall([]) == 0
    assert _wall([session("00:00", 60), session("00:00", 60)]) == 60
    assert _wall([session("01:00", 1), session("00:00", 600), session("00:05", 600), session("00:05", 60)]) == 901

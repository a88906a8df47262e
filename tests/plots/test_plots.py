"""The figures hold the numbers that they were given."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import write_json
from pycaffe_tools.plots import __main__ as plots_command, figure_3, panels


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_curves_of_a_pruned_model_begin_with_the_loss_before(tmp_path):
    steps = [{"feature": 1, "loss": 0.3}, {"feature": 0, "loss": 0.5}]
    write_json(tmp_path / "pruning.json", {"layers": [{"layer": "c1", "features": 4, "loss_before": 0.25, "steps": steps}]})
    assert figure_3.read_curves("N7", tmp_path) == [figure_3.Curve("N7", "c1", [0.25, 0.3, 0.5])]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither ordering files nor a pruning.json"):
        figure_3.read_curves("N7", tmp_path / "empty")


def test_figure_3_has_its_numbers_beside_it_and_is_the_same_twice(tmp_path):
    curves = [figure_3.Curve("N", "c1", [0.1, 0.2]), figure_3.Curve("N7", "c1", [0.1, 0.3]),
              figure_3.Curve("N", "fc4", [0.1, 0.15, 0.4])]
    for name in ("a", "b"):
        figure_3.draw_figure_3(curves, tmp_path / f"{name}.png", tmp_path / f"{name}.csv")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with open(tmp_path / "a.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["net", "layer", "discarded", "loss"]
    assert rows[1:3] == [["N", "c1", "0", "0.1"], ["N", "c1", "1", "0.2"]] and len(rows) == 1 + 2 + 2 + 3
    width, height = png_size(tmp_path / "a.png")
    assert width > height


def test_figure_4_has_a_row_for_each_net(tmp_path):
    raw = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    probability = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    sizes = []
    for count in (1, 2):
        maps = {f"net {number}": (probability, 0.5) for number in range(count)}
        panels.draw_figure_4(raw, maps, tmp_path / "f.png")
        sizes.append(png_size(tmp_path / "f.png"))
    assert sizes[0][0] == sizes[1][0] and sizes[1][1] == pytest.approx(2 * sizes[0][1], abs=2)


def test_steps_are_drawn_all_or_none(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "raw.tif", np.zeros((2, 40, 40), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((2, 20, 40), np.uint8), photometric="minisblack")
    raw, small = str(tmp_path / "raw.tif"), str(tmp_path / "small.tif")

    def steps(*arguments):
        plots_command.cli.main(["steps", str(tmp_path), "--data", "x", "-o", str(tmp_path / "out"), *arguments], standalone_mode=False)

    for arguments, sentence in ((["--raw", raw, "--labels", raw, "--slice", "9"], "no slice 9"),
                                (["--raw", raw, "--labels", small], "give the labels of this stack"),
                                (["--raw", raw, "--labels", raw], "probabilities.tif: .* train, prune, retrain and segment")):
        with pytest.raises(UserError, match=sentence):
            steps(*arguments)
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "overview.png").touch()
    with pytest.raises(UserError, match="overview.png: exists already"):
        steps("--raw", raw, "--labels", raw)


def test_figure_4_refuses_what_does_not_belong_together(tmp_path, capsys):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "raw.tif", np.zeros((2, 40, 40), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((2, 40, 40), np.float32), photometric="minisblack")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((2, 20, 40), np.float32), photometric="minisblack")

    def fig4(net, *more):
        arguments = ["fig4", "--raw", str(tmp_path / "raw.tif"), "--net", net, "-o", str(tmp_path / "f.png"), *more]
        plots_command.cli.main(arguments, standalone_mode=False)

    for net, more, sentence in (("N=%s@0.5" % (tmp_path / "p.tif"), ["--slice", "9"], "no slice 9"),
                                ("N=%s@x" % (tmp_path / "p.tif"), [], "threshold from 0 to 1"),
                                ("N=%s@0.5" % (tmp_path / "small.tif"), [], "has shape")):
        with pytest.raises(UserError, match=sentence):
            fig4(net, *more)
    with pytest.raises(UserError, match="--crop 0:50,0:10"):
        fig4("N=%s@0.5" % (tmp_path / "p.tif"), "--crop", "0:50,0:10")
    fig4("N=%s@0.5" % (tmp_path / "p.tif"))
    with pytest.raises(UserError, match="exists already"):
        fig4("N=%s@0.5" % (tmp_path / "p.tif"))
    fig4("N=%s@0.5" % (tmp_path / "p.tif"), "--force")


def test_figure_3_of_several_seeds_has_its_band_beside_it(tmp_path):
    curves = [figure_3.Curve("N", "c1", [0.1, 0.2], ([0.05, 0.1], [0.15, 0.3])), figure_3.Curve("N7", "c1", [0.1, 0.3])]
    figure_3.draw_figure_3(curves, tmp_path / "a.png", tmp_path / "a.csv")
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows[0][-2:] == ["low", "high"] and rows[2] == ["N", "c1", "1", "0.2", "0.1", "0.3"]
    assert rows[4] == ["N7", "c1", "1", "0.3", "", ""]


def test_reliability_is_drawn_from_scores(tmp_path):
    bins = [{"predicted": 0.05 + 0.1 * n, "observed": (0.05 + 0.1 * n) ** 2, "pixels": 100} for n in range(10)]
    write_json(tmp_path / "a.json", {"reliability": {"bins": bins}})
    write_json(tmp_path / "b.json", {"auc": 0.9})
    out = tmp_path / "r.png"
    answer = CliRunner().invoke(plots_command.cli, ["reliability", "--scores", f"before={tmp_path / 'a.json'}", "-o", str(out)])
    assert answer.exit_code == 0, answer.output
    assert png_size(out)[0] > 400
    refused = CliRunner().invoke(plots_command.cli, ["reliability", "--scores", f"b={tmp_path / 'b.json'}", "-o", f"{out}2.png"])
    assert "b.json: holds no reliability" in str(refused.exception)

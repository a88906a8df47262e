"""The benchmark runs the real engines and reports what its columns claim; its times are not tested."""

import json

import pytest

from pycaffe_tools import engines
from pycaffe_tools.base.command import main
from pycaffe_tools.bench_segment import cli

INSTALLED = engines.available()


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="needs onnxruntime")
def test_every_installed_way_gives_a_row_of_figures(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(cli, "bench_segment", ["N7", "--seconds", "0.3", "--workers", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = {row["way"]: row for row in json.loads(out.read_text())}
    expected = {"onnxruntime", "inexact"} | ({"patch", "caffe"} if "caffe" in INSTALLED else set()) | (
        {"native"} & set(INSTALLED))
    assert set(rows) == expected
    for row in rows.values():
        assert row["seconds"] > 0 and 0 < row["of_sgemm"] < 3 and 10**7 < row["peak_bytes"] < 10**9
        assert row["pixels_per_second"] == pytest.approx(3069 * 2301 / row["seconds"])
    if "caffe" in INSTALLED:
        assert "~" in printed and "extrapolated" in printed
        assert rows["patch"]["ratio"] == 1 < rows["caffe"]["ratio"]
        assert rows["caffe"]["largest_difference"] <= 1e-5 and rows["onnxruntime"]["largest_difference"] <= 1e-5
        assert "native" not in rows or rows["native"]["largest_difference"] <= 1e-5
        assert rows["inexact"]["largest_difference"] > 1e-5


def test_unknown_ways_are_refused(capsys):
    assert main(cli, "bench_segment", ["N7", "--ways", "patch,quick"]) == 1
    assert "'quick' is unknown" in capsys.readouterr().err


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="needs onnxruntime")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_timed(capsys):
    import onnxruntime
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    assert main(cli, "bench_segment", ["N7", "--ways", "patch,cuda"]) == 1
    assert "has no CUDAExecutionProvider; install onnxruntime-gpu" in capsys.readouterr().err

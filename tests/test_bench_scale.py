"""The benchmark of many slices runs real segmentations and counts what they write; its times are not tested."""

import json

import pytest

pytest.importorskip("zarr")

from pycaffe_tools import engines
from pycaffe_tools.base.command import main
from pycaffe_tools.bench_scale import KINDS, cli
from pycaffe_tools.volumes.chunked import arrays


@pytest.mark.skipif(not {"native", "onnxruntime", "caffe"} & set(engines.available()), reason="needs an engine for dense nets")
@pytest.mark.skipif(arrays.package_for(arrays.ZARR_3) is None, reason="needs zarr 3 or tensorstore")
def test_every_way_gives_a_row_and_leaves_nothing(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(cli, "bench_scale", ["--slices", "2,40", "--whole", "0", "--folder", str(tmp_path), "--out", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert [(row["kind"], row["slices"]) for row in rows] == [(kind, count) for count in (2, 40) for kind in KINDS]
    for row in rows:
        assert min(*row["plan"], *row["slice"], *row["resume"], *row["finish"]) > 0 and 10 ** 7 < row["peak"] < 3 * 10 ** 8
    by_kind = {row["kind"]: row for row in rows if row["slices"] == 40}
    # Results of 40 slices beside manifest and lock; 16 volumes with a record each, input and model; 40 slices of the level.
    assert by_kind["alone"]["files"] == 42 and by_kind["parts"]["files"] == 34 and by_kind["in place"]["files"] == 40
    # The hashes of a slice take 2 x 64 digits, and names and quotes around them.
    assert all(130 < row["bytes"] < 2500 for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    assert "| alone | 40 |" in capsys.readouterr().out


def test_what_is_no_number_of_slices_is_refused(capsys):
    assert main(cli, "bench_scale", ["--slices", "10,many"]) == 1
    assert "--slices 10,many: are no numbers of slices" in capsys.readouterr().err

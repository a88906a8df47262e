"""Which kernels Caffe's BLAS runs: the fastest of those that compute right, measured once."""

import json
import os

import pytest

from pycaffe_tools.base.host import blas
from pycaffe_tools.base.host.blas import Measured, best_core_type, best_of, core_types_for

AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "avx", "sse4_2"})


@pytest.mark.parametrize("missing, newest", [((), "SKYLAKEX"), (("avx512bw",), "ZEN"), (("avx512f", "fma"), "SANDYBRIDGE"),
                                             (AVX512, None)])
def test_only_kernels_that_the_processor_can_run_are_tried(missing, newest):
    assert (core_types_for(AVX512 - set(missing)) or [None])[0] == newest


@pytest.mark.parametrize("measured, best", [
    ([("", 2.0, 1e-7), ("SKYLAKEX", 1.0, 1e-7), ("HASWELL", 1.2, 1e-7)], "SKYLAKEX"),
    ([("", 2.0, 1e-7), ("SKYLAKEX", 1.0, 0.3), ("HASWELL", 1.2, 1e-7)], "HASWELL"),       # wrong numbers are no gain
    ([("", 1.0, 1e-7), ("SKYLAKEX", 0.99, 1e-7)], None),                                  # chance decides nothing
    ([("", 2.0, float("nan")), ("HASWELL", 1.2, 1e-7)], "HASWELL"),
    ([], None)])
def test_the_fastest_that_computes_right_is_taken(measured, best):
    assert best_of([Measured(*one) for one in measured]) == best


def test_it_is_measured_once_and_a_cache_of_another_machine_is_not_believed(tmp_path, monkeypatch):
    calls = []

    def measure():
        calls.append(1)
        return {"path": "x"}, [Measured("", 2.0, 0.0), Measured("HASWELL", 1.0, 0.0)]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(blas, "measure_all", measure)
    assert [best_core_type(), best_core_type()] == ["HASWELL", "HASWELL"] and len(calls) == 1
    path = tmp_path / "pycaffe-tools" / "blas.json"
    content = json.loads(path.read_text())
    for spoilt in ({**content, "key": {"processor": "another"}}, [], "x"):
        path.write_text(json.dumps(spoilt))
        assert best_core_type() == "HASWELL"
    assert len(calls) == 4


def test_a_home_that_cannot_be_written_to_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(blas, "measure_all", lambda: ({}, []))
    assert best_core_type() is None


@pytest.mark.caffe
def test_caffes_own_blas_is_timed_and_compared_with_float64(monkeypatch):
    monkeypatch.delenv(blas.CORE_TYPE, raising=False)
    answer = blas._in_child("")
    if answer is None:
        pytest.skip("Caffe's BLAS here is not OpenBLAS")
    assert "openblas" in os.path.basename(answer["library"]["path"]) and answer["seconds"] > 0 and answer["error"] < 1e-5

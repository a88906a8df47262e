"""What is asked is checked and shown before the work begins."""

import time
from pathlib import Path

import numpy as np
import pytest

from pycaffe_tools import engines
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.segment.plausibility import sample_grey_values, warnings_of
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.pixel_size import PixelSize

from . import cases as segment_cases
from .cases import GREY, MODE, run_cli, start_cli, write_volume

pytestmark = segment_cases.needs_an_engine


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path, model, raw, capfd):
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--max-memory", "900M",
                   "--dry-run") == 0
    said = capfd.readouterr().out
    for part in ("3 slices of 40 x 52, uint8", "z 50 nm, y 4 nm, x 5 nm", "of 900M allowed (--max-memory)", "3 to do", "tiles of "):
        assert part in said
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_refused_with_the_least_that_would_do(tmp_path, model, raw, capfd):
    arguments = (raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--dry-run", "--max-memory")
    assert run_cli(*arguments, "20M") == 1
    said = capfd.readouterr().err
    assert said.startswith("error: --max-memory 20M: is too little")
    assert run_cli(*arguments, said.split()[-1]) == 0
    assert not list(tmp_path.iterdir())


def test_the_plan_says_what_a_batch_job_was_given(tmp_path, model, raw, monkeypatch, capfd):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1500")
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--dry-run") == 0
    said = capfd.readouterr().out
    assert ", 1 worker " in said and "of 1259M allowed (four fifths of SLURM_MEM_PER_NODE)" in said


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux' account of memory")
@pytest.mark.parametrize("engine", segment_cases.AVAILABLE)
def test_the_predicted_peak_is_kept(tmp_path, model, raw, engine):
    how = ["--mode", "patch"] if engine == "patch" else ["--engine", engine]
    process = start_cli(raw, "-o", tmp_path / "p.tif", "--model", model, *how, "--workers", 2, "--tile", "20x20")
    peaks = {}
    while process.poll() is None:
        for pid in [process.pid] + _children(process.pid):
            try:
                line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)
                peaks[pid] = int(line.split()[1]) * 1024
            except (OSError, StopIteration):
                pass
        time.sleep(0.01)
    said = process.communicate()[0]
    predicted = int(said.split("predicted peak ")[1].split("M")[0]) * 10**6
    # Python 3.8's `platform` asks the program uname, which is no worker.
    assert sum(peak > 10**7 for peak in peaks.values()) == (1 if engine in engines.RUN_BY_THREADS else 3)
    assert 0.4 * predicted < sum(peaks.values()) <= predicted


def _children(pid):
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    except OSError:
        return []


def test_data_unlike_the_models_own_gets_a_warning_with_both_numbers(tmp_path, model):
    source = write_volume(tmp_path / "raw.tif", (GREY // 4 + 10).astype(np.uint8), PixelSize(30, 4.5, 8))
    with open_volume(source) as volume:
        said = warnings_of(volume, sample_grey_values(volume, [0, 1, 2]), open_model(model))
    assert len(said) == 4
    assert "along z is 30 nm" in said[0] and "50 nm" in said[0] and "along x is 8 nm" in said[1] and "5 nm" in said[1]
    assert "128.0" in said[2] and "40.0" in said[3]
    with open_volume(write_volume(tmp_path / "like.tif", GREY, PixelSize(None, 4.5, None))) as volume:
        assert warnings_of(volume, sample_grey_values(volume, [0, 1, 2]), open_model(model)) == []


@pytest.mark.parametrize("arguments", [["--tile", "12"], ["--crop", "0:999,0:1"], ["--slices", "7:9"],
                                       ["--max-memory", "lots"], ["--axes", "ZZ"]])
def test_wrong_options_get_one_sentence(tmp_path, model, raw, arguments, capfd):
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, *arguments) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())

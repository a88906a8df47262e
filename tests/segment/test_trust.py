"""Interruptions and damage never cost more than they must, and are never taken for results."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pycaffe_tools import engines
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.engines import process as process_module
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.model import finish_model, open_model
from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.segment.outputs import merge, parts_path
from pycaffe_tools.segment.segmentation import Segmentation
from pycaffe_tools.segment.slices.slice_store import output_lock

from . import cases as segment_cases
from .cases import GREY, MODE, grey_values, make_model, read, request, run_cli, start_cli, write_volume

pytestmark = segment_cases.needs_an_engine


def test_after_kill_9_the_same_command_completes_what_is_missing_and_ends_in_the_same_bytes(tmp_path, model):
    source = write_volume(tmp_path / "raw.tif", grey_values(slices=40, rows=64, columns=64))
    options = ["--model", model, "--mode", MODE, "--tile", "16x16", "--workers", 2, "--mask-out", tmp_path / "m.tif"]
    killed = start_cli(source, "-o", tmp_path / "p.tif", *options)
    parts = tmp_path / "p.tif.parts"
    while killed.poll() is None and len(list(parts.glob("0*.npz"))) < 3:
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "p.tif").exists()
    finished = {file: file.stat().st_mtime_ns for file in parts.glob("0*.npz")}
    assert 3 <= len(finished) < 40

    computed = []
    work = Segmentation(request(source, tmp_path / "p.tif", model, tile=(16, 16), workers=2,
                                mask_out=str(tmp_path / "m.tif")))
    finish = work._finish_slice
    work._finish_slice = lambda z, *rest: (computed.append(z), finish(z, *rest))
    summary = work.run()
    assert len(summary.skipped) == len(finished) and not summary.failed
    assert sorted(computed) == summary.completed and not set(computed) & set(summary.skipped)
    assert not parts.exists()

    segment(request(source, tmp_path / "q.tif", model, tile=(16, 16), workers=2, mask_out=str(tmp_path / "n.tif")))
    assert (tmp_path / "p.tif").read_bytes() == (tmp_path / "q.tif").read_bytes()
    assert (tmp_path / "m.tif").read_bytes() == (tmp_path / "n.tif").read_bytes()


@pytest.mark.parametrize("asking", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_at_the_end_of_a_slice_and_the_same_command_goes_on(tmp_path, model, asking):
    source = write_volume(tmp_path / "raw.tif", grey_values(slices=60, rows=64, columns=64))
    command = (source, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--tile", "16x16", "--workers", 1)
    parts = tmp_path / "p.tif.parts"
    asked = start_cli(*command)
    while asked.poll() is None and len(list(parts.glob("0*.npz"))) < 3:
        time.sleep(0.005)
    asked.send_signal(asking)
    said = asked.communicate()[1]
    finished = len(list(parts.glob("0*.npz")))
    assert asked.returncode == 75 and 3 <= finished < 60 and f"{finished} of 60 slices are finished" in said, said
    assert "Traceback" not in said and not list(parts.glob(".*"))
    again = start_cli(*command)
    assert f"{60 - finished} to do, {finished} finished before" in again.communicate()[0] and again.returncode == 0
    assert read(tmp_path / "p.tif").shape == (60, 64, 64)


def test_an_output_that_another_process_writes_is_left_to_it(tmp_path, model, raw, whole, capfd):
    with output_lock(parts_path(tmp_path / "p.tif"), tmp_path):
        assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE) == 75
        assert f"another process is writing this output (process {os.getpid()} on" in capfd.readouterr().err
        assert run_cli("--merge", whole, "-o", tmp_path / "p.tif") == 75
        assert "another process is writing this output" in capfd.readouterr().err
    assert not (tmp_path / "p.tif").exists()
    (tmp_path / "p.tif.parts" / "lock").unlink()
    (tmp_path / "p.tif.parts").rmdir()
    assert run_cli("--merge", whole, "-o", tmp_path / "p.tif") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.tif", "p.tif.json"]


@segment_cases.needs_processes
def test_workers_end_when_their_parent_is_killed(tmp_path, model):
    source = write_volume(tmp_path / "raw.tif", grey_values(slices=40, rows=64, columns=64))
    parent = start_cli(source, "-o", tmp_path / "p.tif", "--model", model, "--engine", segment_cases.BY_PROCESSES,
                       "--tile", "16x16", "--workers", 2)
    while parent.poll() is None and not list((tmp_path / "p.tif.parts").glob("0*.npz")):
        time.sleep(0.005)
    children = [int(pid) for task in Path(f"/proc/{parent.pid}/task").iterdir()
                for pid in (task / "children").read_text().split()]
    parent.kill()
    parent.communicate()
    assert len(children) == 2
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(_runs(pid) for pid in children):
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in children)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_a_full_disk_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path, model, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)],
                                           stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        source = write_volume(tmp_path / "raw.tif", grey_values(slices=8, rows=64, columns=128))
        wanted = request(source, small / "p.tif", model)
        with pytest.raises(UserError, match="GB left"):
            segment(wanted)                                 # noticed before any work
        assert not list(small.iterdir())
        with monkeypatch.context() as patched:              # other programs took the room in the meantime
            patched.setattr("shutil.disk_usage", lambda path: _Usage)
            with pytest.raises(UserError, match="disk is full.*same command again"):
                segment(wanted)
        finished = len(list((small / "p.tif.parts").glob("0*.npz")))
        assert 1 <= finished < 8 and not (small / "p.tif").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        summary = segment(wanted)
        assert len(summary.skipped) == finished and len(summary.completed) == 8 - finished
        segment(request(source, tmp_path / "p.tif", model))
        assert (small / "p.tif").read_bytes() == (tmp_path / "p.tif").read_bytes()
    finally:
        subprocess.run(["umount", str(small)], check=True)


class _Usage:
    total = used = free = 10**12


@pytest.fixture
def unfinished(tmp_path, model):
    """A folder of three slices, the second damaged, segmented as far as possible."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for z in range(3):
        tifffile.imwrite(folder / f"s{z}.tif", GREY[z])
    (folder / "s1.tif").write_bytes(b"II*\0 damaged")
    summary = segment(request(folder, tmp_path / "p.tif", model))
    assert summary.completed == [0, 2] and list(summary.failed) == [1] and not summary.written
    return folder


def test_an_unreadable_slice_does_not_stop_the_others_and_is_done_when_it_is_put_right(tmp_path, model, whole, unfinished):
    assert not (tmp_path / "p.tif").exists()
    tifffile.imwrite(unfinished / "s1.tif", GREY[1])
    summary = segment(request(unfinished, tmp_path / "p.tif", model))
    assert summary.completed == [1] and summary.skipped == [0, 2]
    assert np.abs(read(tmp_path / "p.tif") - read(whole)).max() < 1e-5


def test_failed_slices_are_listed_and_the_exit_code_says_so(tmp_path, model, unfinished, capfd):
    arguments = (unfinished, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE)
    assert run_cli(*arguments) == 3
    said = capfd.readouterr()
    assert "completed  skipped  failed\n        0        2       1\n" in said.out and "slice 1 failed: " in said.out
    assert "not written" in said.err
    assert run_cli(*arguments, "--incomplete") == 3
    found = read(tmp_path / "p.tif")
    assert (found[1] == 0).all() and found[0].min() > 0
    with pytest.raises(UserError, match="slices 1 failed"):
        merge([tmp_path / "p.tif"], tmp_path / "q.tif")


@pytest.mark.parametrize("change, field", [
    ({"dtype": "uint8"}, r"options\.dtype 'float32'.*'uint8'"),
    ({"crop": "0:9,0:9"}, r"options\.crop"),
    ({"slices": "0:2"}, r"options\.slices"),
    ({"tile": (11, 11)}, r"options\.tile"),
    ({"mask_out": "m.tif"}, r"options\.mask_out"),
])
def test_changed_options_are_refused_by_name(tmp_path, model, unfinished, change, field):
    with pytest.raises(UserError, match=field):
        segment(request(unfinished, tmp_path / "p.tif", model, **change))


def test_changed_weights_are_refused_by_name(tmp_path, unfinished):
    other = make_model(tmp_path / "other", seed=2)
    with pytest.raises(UserError, match=r"model\.weights_sha256"):
        segment(request(unfinished, tmp_path / "p.tif", other))


def test_a_changed_input_is_refused_and_a_touched_one_is_not(tmp_path, model, unfinished):
    os.utime(unfinished / "s0.tif")
    assert segment(request(unfinished, tmp_path / "p.tif", model)).skipped == [0, 2]
    changed = GREY[2].copy()
    changed[3, 4] ^= 1
    tifffile.imwrite(unfinished / "s2.tif", changed)
    with pytest.raises(UserError, match="slice 2 is not the one"):
        segment(request(unfinished, tmp_path / "p.tif", model))
    assert segment(request(unfinished, tmp_path / "p.tif", model, force=True)).completed == [0, 2]


def test_a_finished_output_is_left_alone_and_another_request_for_it_refused(tmp_path, model, raw, capfd):
    wanted = request(raw, tmp_path / "p.tif", model)
    segment(wanted)
    before = (tmp_path / "p.tif").stat().st_mtime_ns
    assert segment(wanted).skipped == [0, 1, 2]
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--workers", 1) == 0
    assert "nothing to do" in capfd.readouterr().out
    assert (tmp_path / "p.tif").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"options\.dtype"):
        segment(wanted._replace(dtype="uint8"))
    masked = request(raw, tmp_path / "q.tif", model, mask_out=str(tmp_path / "m.tif"))
    segment(masked)
    (tmp_path / "m.tif").unlink()
    with pytest.raises(UserError, match="m.tif is gone"):
        segment(masked)
    assert len(segment(wanted._replace(dtype="uint8", force=True)).completed) == 3
    assert read(tmp_path / "p.tif").dtype == np.uint8


def test_files_of_others_are_never_replaced_unasked(tmp_path, model, raw):
    for name in ("p.tif", "m.tif"):
        (tmp_path / name).write_bytes(b"precious")
        with pytest.raises(UserError, match=f"{name}: exists already"):
            segment(request(raw, tmp_path / "p.tif", model, mask_out=str(tmp_path / "m.tif")))
        assert (tmp_path / name).read_bytes() == b"precious"
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="is the input"):
        segment(request(raw, raw, model, force=True))


def test_outputs_are_refused_before_the_work_where_they_would_spoil_the_input_or_could_not_be_written(tmp_path, model):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "slices").mkdir()
    for z, image in enumerate(grey_values()):
        tifffile.imwrite(tmp_path / "slices" / f"{z}.tif", image, photometric="minisblack")
    slices = tmp_path / "slices"
    for out, options, sentence in (
            (slices / "p.tif", {}, "is or lies in .*slices, which is read"),
            (tmp_path / "p.tif", {"overlay_out": str(slices)}, "is or lies in .*slices, which is read"),
            (tmp_path / "p.tif", {"overlay_out": str(model)}, "which is read"),
            (tmp_path / "p.png", {}, "end the name in .tif, .h5 or .zarr"),
            (tmp_path / "p.tif", {"mask_out": str(tmp_path / "m.jpg")}, "m.jpg: not a kind of volume")):
        with pytest.raises(UserError, match=sentence):
            Segmentation(request(slices, out, model, force=True, **options))
    assert sorted(path.name for path in slices.iterdir()) == ["0.tif", "1.tif", "2.tif"]


@segment_cases.needs_processes
def test_a_worker_that_is_killed_is_replaced(tmp_path, model, raw, whole, monkeypatch):
    predict, killed = process_module.Worker.predict, []

    def fragile(self, grey):
        if not killed:
            killed.append(self.process_id)
            os.kill(self.process_id, signal.SIGKILL)
        return predict(self, grey)

    monkeypatch.setattr(process_module.Worker, "predict", fragile)
    options = {"mode": "dense", "engine": segment_cases.BY_PROCESSES}
    assert len(segment(request(raw, tmp_path / "p.tif", model, **options)).completed) == 3
    assert killed and np.abs(read(tmp_path / "p.tif") - read(whole)).max() < 1e-5


@segment_cases.needs_processes
def test_workers_that_keep_dying_end_in_a_sentence_and_not_in_waiting(tmp_path, model, raw, monkeypatch):
    predict = process_module.Worker.predict

    def fragile(self, grey):
        os.kill(self.process_id, signal.SIGKILL)
        return predict(self, grey)

    monkeypatch.setattr(process_module.Worker, "predict", fragile)
    with pytest.raises(UserError, match="signal 9.*memory"):
        segment(request(raw, tmp_path / "p.tif", model, mode="dense", engine=segment_cases.BY_PROCESSES))
    assert not list(tmp_path.iterdir())


def test_a_worker_that_cannot_start_says_why(tmp_path, model):
    settings = process_module.Settings("no such engine", str(model / "deploy.prototxt"), str(model / "weights.caffemodel"),
                                128, 40, (8, 8))
    with pytest.raises(UserError, match="no such engine"):
        process_module.Worker(settings)
    with pytest.raises(process_module.WorkerDied, match="exit code 1.*Error"):
        process_module.Worker(settings._replace(engine=engines.NAMES[0] if MODE == "dense" else "patch", tile="xx"))


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:-40]),                                     # cut off
    lambda path: path.write_bytes(b"x" * 2000 + path.read_bytes()[2000:]),                      # other bytes in the pixels
    lambda path: path.write_bytes(b""),
    lambda path: np.savez(path, probability=np.zeros((3, 3), np.float32), grey_sha256=np.array("0" * 64)),
    lambda path: np.savez(path, probability=np.zeros((40, 52), np.float64), grey_sha256=np.array("0" * 64)),
    lambda path: np.savez(path, grey_sha256=np.array("0" * 64))], ids=["cut", "overwritten", "empty", "shape", "type", "no pixels"])
def test_a_damaged_finished_slice_is_computed_again(tmp_path, model, raw, whole, damage):
    out = tmp_path / "p.tif"
    work = Segmentation(request(raw, out, model))
    with work.store as store:
        store.begin(work.manifest)
        work.compute([0, 1])
    work.close()
    damage(tmp_path / "p.tif.parts" / "000001.npz")
    segment(request(raw, out, model))
    assert out.read_bytes() == whole.read_bytes() and not (tmp_path / "p.tif.parts").exists()


def test_weights_that_give_no_numbers_end_in_a_sentence(tmp_path, model, raw, capfd):
    folder = make_model(tmp_path / "huge")
    opened = open_model(folder)
    weights = {name: [np.full_like(blob, 3e38) for blob in blobs] for name, blobs in opened.load_weights().items()}
    write_weights(folder / "weights.caffemodel", opened.net(), weights)
    finish_model(folder, **{key: opened.info[key] for key in ("name", "normalisation", "patch_size", "pixel_size_nm", "counts",
                                                              "threshold", "provenance")})
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", folder, "--mode", MODE) == 1
    assert "not numbers" in capfd.readouterr().err and not (tmp_path / "p.tif").exists()


def test_parts_of_an_input_that_was_put_right_in_between_are_merged_if_it_is_still_theirs(tmp_path, model, unfinished):
    segment(request(unfinished, tmp_path / "a.tif", model, slices="0"))
    tifffile.imwrite(unfinished / "s1.tif", GREY[1])
    segment(request(unfinished, tmp_path / "b.tif", model, slices="1:3"))
    parts = [str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]
    assert merge(parts, tmp_path / "q.tif") == 3
    segment(request(unfinished, tmp_path / "r.tif", model))
    now = [json.loads((tmp_path / f"{name}.tif.json").read_text())["manifest"]["input"] for name in "qr"]
    assert now[0] == now[1]
    tifffile.imwrite(unfinished / "s0.tif", GREY[1])
    with pytest.raises(UserError, match=r"a.tif: was made from another input.slice 0 than .*slices holds now"):
        merge(parts, tmp_path / "s.tif")
    assert not (tmp_path / "s.tif").exists()


def test_a_part_whose_pixels_changed_is_not_merged(tmp_path, model, raw):
    for name, slices in (("a.tif", "0"), ("b.tif", "1:3")):
        segment(request(raw, tmp_path / name, model, slices=slices))
    pixels = tifffile.memmap(tmp_path / "b.tif", mode="r+")
    pixels[1, 20, 20] += 0.5
    pixels.flush()
    with pytest.raises(UserError, match="b.tif: slice 2 is not what the segmentation wrote"):
        merge([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")], tmp_path / "p.tif")
    assert not (tmp_path / "p.tif").exists()


@pytest.mark.parametrize("change", [{"manifest": 3}, {"slices": [1]}, {"failed": None}, {"pixel_size_nm": "x"}])
def test_a_damaged_provenance_record_is_named(tmp_path, model, raw, change):
    out = tmp_path / "p.tif"
    segment(request(raw, out, model))
    record = tmp_path / "p.tif.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    with pytest.raises(UserError, match="p.tif.json: is a damaged provenance record"):
        segment(request(raw, out, model))

"""Segmentation of whole volumes: the numbers, and that interruptions and damage never cost more than they must."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pycaffe_tools import engines
from pycaffe_tools.base.command import _exit_code
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.engines import process as process_module
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.segment.__main__ import cli, segment
from pycaffe_tools.segment.outputs import merge
from pycaffe_tools.segment.plausibility import sample_grey_values, warnings_of
from pycaffe_tools.segment.request import Request
from pycaffe_tools.segment.segmentation import Segmentation
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.overlay import MEMBRANE_COLOUR, overlay
from pycaffe_tools.volumes.pixel_size import PixelSize

from ..conftest import ROOT
from . import cases as segment_cases
from .cases import MODE, grey_values, make_model, write_volume

pytestmark = segment_cases.needs_an_engine
GREY = grey_values()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("segment") / "model")


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("segment") / "raw.tif", GREY)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, model, raw):
    """Probabilities of the whole volume."""
    out = tmp_path_factory.mktemp("segment") / "p.tif"
    segment(request(raw, out, model))
    return out


def request(raw, out, model, **options):
    options = {"mode": MODE, "workers": 1, **options}
    return Request(str(raw), str(out), str(model), **options)


def run_cli(*arguments):
    """Exit code of the command line in this process."""
    return _exit_code(cli, "segment", [str(argument) for argument in arguments])


def start_cli(*arguments, **options):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen([sys.executable, "-m", "pycaffe_tools.segment", *map(str, arguments)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def read(path):
    with open_volume(path) as volume:
        return np.stack([volume.read(z) for z in range(volume.shape[0])])


# -- the numbers ---------------------------------------------------------------------------------------------

@pytest.mark.caffe
def test_each_pixel_has_the_probability_that_caffe_gives_its_patch(tmp_path, model, raw):
    from pycaffe_tools.nets.runtime import forward_patches, load_net

    segment(request(raw, tmp_path / "p.tif", model, mode="patch", slices="1", workers=2, tile=(16, 24)))
    normalised = (GREY[1].astype(np.float32) - np.float32(128)) / np.float32(40)
    # Rows y-16 .. y+15, and beyond the border mirrored without repeating the border pixel.
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(normalised, (16, 15), mode="reflect"), (32, 32))
    opened = open_model(model)
    net = load_net(opened.net().with_batch(100), opened.load_weights())
    expected = forward_patches(net, windows.reshape(-1, 1, 32, 32))[:, 1].reshape(GREY[1].shape)
    found = read(tmp_path / "p.tif")
    assert found.shape == (1,) + GREY[1].shape and found.dtype == np.float32
    assert expected.std() > 0.005
    assert np.abs(found[0] - expected).max() < 1e-6


@pytest.mark.caffe
@pytest.mark.skipif("onnxruntime" not in segment_cases.AVAILABLE, reason="needs onnxruntime")
def test_dense_and_patch_by_patch_are_the_same_up_to_rounding(tmp_path, model, raw):
    segment(request(raw, tmp_path / "dense.tif", model, mode="dense", engine="onnxruntime"))
    segment(request(raw, tmp_path / "patch.tif", model, mode="patch", workers=2))
    assert np.abs(read(tmp_path / "dense.tif") - read(tmp_path / "patch.tif")).max() < 1e-5


def test_tiles_workers_and_slice_ranges_do_not_change_the_result(tmp_path, model, raw, whole):
    expected = read(whole)
    segment(request(raw, tmp_path / "a.tif", model, workers=2, tile=(17, 23)))
    segment(request(raw, tmp_path / "b.tif", model, slices="1:3"))
    assert np.abs(read(tmp_path / "a.tif") - expected).max() < 1e-5
    assert np.abs(read(tmp_path / "b.tif") - expected[1:]).max() < 1e-5


def test_equal_options_give_equal_bytes_whatever_the_number_of_workers(tmp_path, model, raw):
    segment(request(raw, tmp_path / "a.tif", model, tile=(20, 20)))
    segment(request(raw, tmp_path / "b.tif", model, tile=(20, 20), workers=3))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.skipif(MODE != "dense", reason="needs onnxruntime")
def test_a_net_that_is_not_for_dense_evaluation_is_refused_before_any_work(tmp_path, raw):
    padded = make_model(tmp_path / "padded", padding="pad: 2")
    with pytest.raises(UserError, match="layer c2: .*--mode patch"):
        segment(request(raw, tmp_path / "p.tif", padded))
    assert [file.name for file in tmp_path.iterdir()] == ["padded"]


def test_a_crop_sees_what_lies_beyond_its_edges(tmp_path, model, raw, whole):
    segment(request(raw, tmp_path / "c.tif", model, crop="5:31,20:52", slices="0"))
    assert np.abs(read(tmp_path / "c.tif")[0] - read(whole)[0, 5:31, 20:52]).max() < 1e-5


def test_uint8_uint16_and_float32_of_the_same_values_give_the_same(tmp_path, model, whole):
    for dtype in (np.uint16, np.float32):
        source = write_volume(tmp_path / f"{dtype.__name__}.tif", GREY[:1].astype(dtype))
        out = tmp_path / f"p_{dtype.__name__}.tif"
        segment(request(source, out, model))
        assert np.abs(read(out)[0] - read(whole)[0]).max() < 1e-5


def test_normalisation_is_the_models_own_and_not_the_images(tmp_path, model, whole):
    brighter = write_volume(tmp_path / "raw.tif", (GREY[:1].astype(np.float32) * 0.5 + 60))
    segment(request(brighter, tmp_path / "p.tif", model))
    assert np.abs(read(tmp_path / "p.tif")[0] - read(whole)[0]).max() > 0.01


# -- outputs -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["p.tif", "p.h5", "p.h5:/volumes/membrane", "p.zarr"])
def test_formats_hold_the_same_numbers_and_the_pixel_size(tmp_path, model, raw, whole, name):
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    segment(request(raw, tmp_path / name, model))
    with open_volume(tmp_path / name) as volume:
        assert volume.pixel_size == PixelSize(50, 4, 5)
    assert (read(tmp_path / name) == read(whole)).all()


def test_an_unknown_pixel_size_stays_unknown(tmp_path, model):
    source = write_volume(tmp_path / "raw.tif", GREY[:1], PixelSize(None, 4, 5))
    segment(request(source, tmp_path / "p.tif", model, mask_out=str(tmp_path / "m.h5")))
    for name in ("p.tif", "m.h5"):
        with open_volume(tmp_path / name) as volume:
            assert volume.pixel_size == PixelSize(None, 4, 5)


def test_mask_and_uint8_are_the_probabilities_thresholded_and_rounded(tmp_path, model, raw, whole):
    exact = read(whole)
    threshold = float(np.median(exact))
    segment(request(raw, tmp_path / "p.tif", model, dtype="uint8", threshold=threshold, mask_out=str(tmp_path / "m.tif")))
    mask, rounded = read(tmp_path / "m.tif"), read(tmp_path / "p.tif")
    assert mask.dtype == rounded.dtype == np.uint8
    assert (mask == np.where(exact >= np.float32(threshold), 255, 0)).all() and 0.3 < (mask > 0).mean() < 0.7
    assert (rounded == np.floor(exact * np.float32(255) + np.float32(0.5))).all()


def test_overlays_are_the_grey_image_with_the_outline_in_colour(tmp_path, model, raw, whole):
    from matplotlib.image import imread

    threshold = float(np.median(read(whole)))
    segment(request(raw, tmp_path / "p.tif", model, threshold=threshold, overlay_out=str(tmp_path / "o"), slices="0,2"))
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == ["slice_000000.png", "slice_000002.png"]
    picture = np.rint(imread(tmp_path / "o" / "slice_000002.png")[:, :, :3] * 255).astype(int)
    coloured = (picture == MEMBRANE_COLOUR).all(axis=2)
    assert coloured.any() and not coloured[read(whole)[2] < np.float32(threshold)].any()
    grey = picture[~coloured]
    assert (grey[:, :1] == grey).all()


def test_the_outline_of_a_square_is_its_rim():
    mask = np.zeros((7, 7), bool)
    mask[2:5, 2:5] = True
    picture = overlay(np.full((7, 7), 50, np.uint8), mask, (0, 100))
    coloured = (picture == MEMBRANE_COLOUR).all(axis=2)
    expected = mask.copy()
    expected[3, 3] = False
    assert (coloured == expected).all() and (picture[3, 3] == 127).all()


# -- trust ---------------------------------------------------------------------------------------------------

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


def test_workers_end_when_their_parent_is_killed(tmp_path, model):
    source = write_volume(tmp_path / "raw.tif", grey_values(slices=40, rows=64, columns=64))
    parent = start_cli(source, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--tile", "16x16",
                       "--workers", 2)
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
    assert run_cli(*arguments) == 1
    said = capfd.readouterr()
    assert "completed  skipped  failed\n        0        2       1\n" in said.out and "slice 1 failed: " in said.out
    assert "not written" in said.err
    assert run_cli(*arguments, "--incomplete") == 1
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


def test_a_worker_that_is_killed_is_replaced(tmp_path, model, raw, whole, monkeypatch):
    predict, killed = process_module.Worker.predict, []

    def fragile(self, grey):
        if not killed:
            killed.append(self.process_id)
            os.kill(self.process_id, signal.SIGKILL)
        return predict(self, grey)

    monkeypatch.setattr(process_module.Worker, "predict", fragile)
    assert len(segment(request(raw, tmp_path / "p.tif", model)).completed) == 3
    assert killed and np.abs(read(tmp_path / "p.tif") - read(whole)).max() < 1e-5


def test_workers_that_keep_dying_end_in_a_sentence_and_not_in_waiting(tmp_path, model, raw, monkeypatch):
    predict = process_module.Worker.predict

    def fragile(self, grey):
        os.kill(self.process_id, signal.SIGKILL)
        return predict(self, grey)

    monkeypatch.setattr(process_module.Worker, "predict", fragile)
    with pytest.raises(UserError, match="signal 9.*memory"):
        segment(request(raw, tmp_path / "p.tif", model))
    assert not list(tmp_path.iterdir())


def test_a_worker_that_cannot_start_says_why(tmp_path, model):
    settings = process_module.Settings("no such engine", str(model / "deploy.prototxt"), str(model / "weights.caffemodel"),
                                128, 40, (8, 8))
    with pytest.raises(UserError, match="no such engine"):
        process_module.Worker(settings)
    with pytest.raises(process_module.WorkerDied, match="exit code 1.*Error"):
        process_module.Worker(settings._replace(engine=engines.NAMES[0] if MODE == "dense" else "patch", tile="xx"))


# -- before the start ----------------------------------------------------------------------------------------

def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path, model, raw, capfd):
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--max-memory", "900M",
                   "--dry-run") == 0
    said = capfd.readouterr().out
    for part in ("3 slices of 40 x 52, uint8", "z 50 nm, y 4 nm, x 5 nm", "of 900M allowed", "3 to do", "tiles of "):
        assert part in said
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_refused_with_the_least_that_would_do(tmp_path, model, raw, capfd):
    arguments = (raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--dry-run", "--max-memory")
    assert run_cli(*arguments, "20M") == 1
    said = capfd.readouterr().err
    assert said.startswith("error: --max-memory 20M: is too little")
    assert run_cli(*arguments, said.split()[-1]) == 0
    assert not list(tmp_path.iterdir())


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
    assert len(peaks) == 3
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


# -- parts ---------------------------------------------------------------------------------------------------

def test_parts_of_array_jobs_merge_to_the_bytes_of_the_whole(tmp_path, model, raw, capfd):
    parts = []
    for number, slices in enumerate(("0:1", "1:3")):
        parts.append(tmp_path / f"part{number}.tif")
        segment(request(raw, parts[-1], model, slices=slices, tile=(20, 26), mask_out=str(tmp_path / f"m{number}.tif")))
    segment(request(raw, tmp_path / "p.tif", model, tile=(20, 26), mask_out=str(tmp_path / "m.tif")))
    assert run_cli("--merge", parts[1], parts[0], "-o", tmp_path / "merged.tif") == 0
    assert (tmp_path / "merged.tif").read_bytes() == (tmp_path / "p.tif").read_bytes()
    assert run_cli("--merge", tmp_path / "m0.tif", tmp_path / "m1.tif", "-o", tmp_path / "mm.tif") == 0
    assert (tmp_path / "mm.tif").read_bytes() == (tmp_path / "m.tif").read_bytes()

    capfd.readouterr()
    for wrong, sentence in [((parts[0],), "slices 1:3 of the input are in none"),
                            ((parts[0], parts[1], parts[0]), "must not overlap"),
                            ((parts[0], tmp_path / "m1.tif"), "content is 'mask'"),
                            ((parts[0], raw), "is not a finished output")]:
        assert run_cli("--merge", *wrong, "-o", tmp_path / "no.tif") == 1
        assert sentence in capfd.readouterr().err
        assert not (tmp_path / "no.tif").exists()
    assert run_cli("--merge", parts[1], "-o", tmp_path / "some.tif", "--slices", "1:3") == 0

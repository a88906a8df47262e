"""What goes wrong at a microscope costs no slice and no time of other slices, and is told."""

import os
import signal
import subprocess

import pytest

pytest.importorskip("matplotlib")
tifffile = pytest.importorskip("tifffile")

from ..segment import cases as segment_cases
from ..segment.cases import MODE, grey_values
from .cases import IMAGES, Watching, agrees, events, put, record, run_cli

pytestmark = segment_cases.needs_an_engine


def test_after_kill_9_the_same_command_goes_on_and_ends_in_the_same_bytes(tmp_path, folder, model):
    for number, image in enumerate(grey_values(slices=30, rows=64, columns=64)):
        put(folder, f"s{number}.tif", image)
    out = tmp_path / "live"
    with Watching(folder, out, model, "--once", "--tile", "16x16", "--workers", 2) as watching:
        watching.wait(lambda: len(list((out / "records").glob("s*.json"))) >= 3)
        watching.process.kill()
        assert watching.end()[0] == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in (out / "records").glob("s*.json")}
    assert 3 <= len(finished) < 30
    # What else such an end may leave: results without a record, half a file, half a line.
    (out / "mask" / "s99.tif").write_bytes(b"II")
    (out / "probability" / ".s98.partial-999999.tif").write_bytes(b"II")
    with open(out / "log.jsonl", "a") as log:
        log.write('{"at": "20')
    with Watching(folder, out, model, "--once", "--tile", "16x16", "--workers", 2) as watching:
        code, said, errors = watching.end()
    assert (code, errors) == (0, "") and f"30 slices finished ({len(finished)} of them before)" in said
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(out.glob("*/*98*")) and not list(out.glob("*/*99*"))
    assert agrees(folder, out, model, tmp_path, tile=(16, 16))
    lines = (out / "log.jsonl").read_text().splitlines()
    assert sum('{"at": "20' == line for line in lines) == 1 and '"ended"' in lines[-1]


def test_a_slice_that_is_written_again_is_computed_again_and_a_touched_one_is_not(tmp_path, folder, model):
    out = tmp_path / "live"
    for number in (1, 2):
        put(folder, f"s{number}.tif", IMAGES[number])
    with Watching(folder, out, model) as watching:
        watching.wait(lambda: len(events(out, "finished")) == 2)
        put(folder, "s1.tif", IMAGES[5])
        os.utime(folder / "s2.tif")
        watching.wait(lambda: len(events(out, "finished")) == 3 and
                      record(out, "s2.tif")["source"]["modified"] == (folder / "s2.tif").stat().st_mtime_ns)
        watching.process.send_signal(signal.SIGTERM)
        code, said, _ = watching.end()
    assert code == 0 and "1 computed again, since they were written again: s1.tif" in said
    assert [line["slice"] for line in events(out, "rewritten")] == ["s1.tif"]
    assert agrees(folder, out, model, tmp_path)
    # And while nobody watched.
    put(folder, "s2.tif", IMAGES[7])
    assert run_cli(folder, "-o", out, "--model", model, "--mode", MODE, "--once", "--settle", 0) == 0
    assert agrees(folder, out, model, tmp_path)


def test_a_truncated_file_and_one_that_is_no_image_are_told_and_the_others_go_on(tmp_path, folder, model):
    out = tmp_path / "live"
    whole = put(folder, "s2.tif", IMAGES[2]).read_bytes()
    (folder / "s2.tif").write_bytes(whole[:len(whole) // 2])
    (folder / "s3.tif").write_bytes(b"this is no image\n")
    (folder / "notes.txt").write_text("nor this")
    with open(os.fsencode(folder) + b"/s\xe9.tif", "wb") as stream:
        stream.write(whole)
    with Watching(folder, out, model) as watching:
        watching.wait(lambda: {line["slice"] for line in events(out, "failed")} == {"s2.tif", "s3.tif"})
        put(folder, "s1.tif", IMAGES[1])
        put(folder, "s4.tif", IMAGES[4])
        watching.wait(lambda: len(events(out, "finished")) == 2)
        (folder / "s2.tif").write_bytes(whole)
        watching.wait_for("finished", slice="s2.tif")
        watching.process.send_signal(signal.SIGINT)
        code, said, errors = watching.end()
    assert code == 1 and "slices failed (s3.tif)" in errors and errors.count("\n") == 1 and "s2.tif" not in errors
    assert len(events(out, "failed")) == 2          # each was told once
    assert "1 files are left out, since their names are not UTF-8 (s?.tif)" in said
    os.unlink(os.fsencode(folder) + b"/s\xe9.tif")
    (folder / "s3.tif").unlink()
    assert agrees(folder, out, model, tmp_path)


def test_slices_of_another_size_are_told(tmp_path, folder, model, capfd):
    put(folder, "s1.tif", IMAGES[1])
    put(folder, "s2.tif", IMAGES[2][:50])
    put(folder, "s3.tif", IMAGES[3].astype("uint16"))
    assert run_cli(folder, "-o", tmp_path / "live", "--model", model, "--mode", MODE, "--once", "--settle", 0) == 1
    said = capfd.readouterr()
    assert "s2.tif: has 50 x 90 pixels of uint8, and the first slice had 70 x 90 of uint8" in said.out
    assert "s3.tif: has 70 x 90 pixels of uint16" in said.out and "2 slices failed (s2.tif, s3.tif)" in said.err


def test_a_file_that_is_renamed_while_it_waits_is_taken_under_its_new_name(tmp_path, folder, model):
    out = tmp_path / "live"
    with Watching(folder, out, model, "--settle", 2, "--poll", 0.1) as watching:
        watching.wait_for("begun")
        put(folder, "new.tif", IMAGES[1])
        (folder / "new.tif").rename(folder / "s1.tif")
        put(folder, "s2.tif", IMAGES[2])
        watching.wait(lambda: len(events(out, "finished")) == 2)
        watching.process.send_signal(signal.SIGINT)
        assert watching.end()[0] == 0
    assert {line["slice"] for line in events(out, "finished")} == {"s1.tif", "s2.tif"} and not events(out, "failed")
    assert agrees(folder, out, model, tmp_path)


@pytest.mark.parametrize("options", [["--poll", "0.2"], []], ids=["looked at", "told"])
def test_a_folder_that_goes_away_is_waited_for(tmp_path, folder, model, options):
    out, away = tmp_path / "live", tmp_path / "away"
    put(folder, "s1.tif", IMAGES[1])
    with Watching(folder, out, model, "--stop-after", 3600, "--slices", 3, *options) as watching:
        watching.wait_for("finished", slice="s1.tif")
        folder.rename(away)
        watching.wait_for("folder gone")
        put(away, "s2.tif", IMAGES[2])
        away.rename(folder)
        watching.wait_for("folder back")
        put(folder, "s3.tif", IMAGES[3])
        code, said, errors = watching.end()
    assert (code, errors) == (0, "") and "cannot be read now (No such file or directory); waiting for it" in said
    assert len(events(out, "finished")) == 3 and not events(out, "failed") and agrees(folder, out, model, tmp_path)


def test_a_share_that_is_unmounted_looks_empty_and_nothing_is_made_twice(tmp_path, folder, model):
    out = tmp_path / "live"
    put(folder, "s1.tif", IMAGES[1])
    with Watching(folder, out, model, "--poll", "0.1") as watching:
        watching.wait_for("finished", slice="s1.tif")
        (folder / "s1.tif").rename(tmp_path / "s1.tif")
        watching.wait_for("folder empty")
        (tmp_path / "s1.tif").rename(folder / "s1.tif")
        put(folder, "s2.tif", IMAGES[2])
        watching.wait_for("finished", slice="s2.tif")
        watching.process.send_signal(signal.SIGINT)
        assert watching.end()[0] == 0
    assert len(events(out, "finished")) == 2


def test_a_full_disk_ends_in_one_sentence_and_the_same_command_goes_on(tmp_path, folder, model):
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)],
                                           stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        for number in range(8):
            put(folder, f"s{number}.tif", IMAGES[number])
        out = small / "live"
        with Watching(folder, out, model, "--once", "--workers", 1) as watching:
            code, _, errors = watching.end()
        assert code == 1 and errors == (f"error: {out}: the disk is full; what is finished is kept there, free some space and run "
                                        f"the same command again\n")
        finished = len(list((out / "records").glob("s*.json")))
        assert 1 <= finished < 8 and not list(out.glob("*/.*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        with Watching(folder, out, model, "--once", "--workers", 1) as watching:
            code, said, _ = watching.end()
        assert code == 0 and f"8 slices finished ({finished} of them before)" in said
        assert agrees(folder, out, model, tmp_path)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_watches_on_one_output_are_refused(tmp_path, folder, model, capfd):
    with Watching(folder, tmp_path / "live", model) as watching:
        watching.wait_for("begun")
        assert run_cli(folder, "-o", tmp_path / "live", "--model", model, "--mode", MODE, "--once") == 75
    assert "another process is writing this output" in capfd.readouterr().err

"""The parts of the watch by themselves: when a file is whole, who is told, how far behind, which model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.volumes.overlay import reduced
from pycaffe_tools.watch import notice as notice_module
from pycaffe_tools.watch.folder import Arrivals, FolderGone, Signature, WatchedFolder
from pycaffe_tools.watch.notice import Notice, file_system
from pycaffe_tools.watch.pace import Pace
from pycaffe_tools.watch.results import Results, timestamp


def test_a_file_is_whole_when_size_and_time_have_stayed_the_same():
    arrivals = Arrivals(settle=2)
    small, large, later = Signature(5, 100), Signature(9, 100), Signature(9, 200)
    for clock, signature, news in ((0, small, True), (1, large, True), (2.5, later, True), (4, later, False)):
        assert arrivals.look({"a": signature}, clock, 1000 + clock) == news
        assert arrivals.whole(clock) == {}
    assert arrivals.next_whole(4) == 0.5 and set(arrivals.whole(4.5)) == {"a"} and arrivals.next_whole(4.5) is None
    assert arrivals.whole(4.5)["a"].arrived == 1002.5
    arrivals.look({"b": later}, 5, 1005)        # renamed: it has to settle again
    assert arrivals.whole(6.9) == {} and set(arrivals.whole(7)) == {"b"}


def test_a_folder_tells_its_slices_and_that_it_is_gone(tmp_path):
    for name in ("s10.tif", "s9.TIF", "s1.png", ".s2.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"x" * len(name))
    (tmp_path / "s3.tif").mkdir()
    found = WatchedFolder(tmp_path).scan()
    assert set(found) == {"s10.tif", "s9.TIF", "s1.png"} and found["s10.tif"].bytes == 7
    ordered, sentence = WatchedFolder(tmp_path).ordered(list(found))
    assert ordered == ["s1.png", "s9.TIF", "s10.tif"] and ".tif and .png" in sentence
    chosen = WatchedFolder(tmp_path / "s#.tif")
    assert chosen.ordered(list(chosen.scan())) == (["s9.TIF", "s10.tif"], None)
    with pytest.raises(UserError, match="there is no such folder"):
        WatchedFolder(tmp_path / "none")
    folder = WatchedFolder(tmp_path)
    tmp_path.rename(tmp_path.with_name("away"))
    with pytest.raises(FolderGone, match="No such file"):
        folder.scan()


def test_it_is_told_once_that_the_work_falls_behind_and_again_when_it_is_twice_as_far_and_when_it_has_caught_up():
    pace = Pace()
    for clock in (10, 25, 40):
        pace.arrived(clock)
    for seconds in (20, 30, 22):
        pace.finished(seconds)
    said = [pace.sentence(waiting, 3 * waiting) for waiting in (0, 1, 2, 3, 4, 5, 0, 0, 2)]
    assert said[0] is said[1] is said[3] is said[5] is said[7] is None
    assert said[2] == "falls behind: 2 slices wait, the oldest for 6 s; a slice takes 22 s, and one comes every 15 s"
    assert said[4].startswith("falls behind: 4 slices") and said[6] == "has caught up" and said[8].startswith("falls behind: 2")


def test_without_a_second_model_there_is_no_choice():
    assert not any(Pace().choose(waiting) for waiting in (1, 50))


def test_the_file_system_of_a_folder_is_that_of_the_longest_mount_point(tmp_path, monkeypatch):
    mounts = f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path}/a\\040share nfs4 rw 0 0\n//y {tmp_path}/a cifs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda path, **options: mounts)
    assert file_system(tmp_path / "a share" / "slices") == "nfs4" and file_system(tmp_path / "a") == "cifs"
    assert file_system(tmp_path / "another") == "ext4"


def test_network_shares_and_machines_without_watchdog_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(notice_module, "file_system", lambda folder: "nfs4")
    assert (Notice(tmp_path).interval, Notice(tmp_path).how) == (1.0, "a network share (nfs4), looked at every 1 s")
    assert Notice(tmp_path, poll=7.0).interval == 7.0
    monkeypatch.setattr(notice_module, "file_system", lambda folder: "ext4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "watchdog is not installed" in Notice(tmp_path).how


def test_the_operating_system_tells_of_new_files(tmp_path):
    pytest.importorskip("watchdog")
    notice = Notice(tmp_path)
    try:
        if notice.interval != notice_module.SAFETY:
            pytest.skip(f"not here: {notice.how}")
        assert not notice.take()
        (tmp_path / "s1.tif").write_bytes(b"x")
        notice.wait(60)
        assert notice.take() and not notice.take()
    finally:
        notice.stop()


def test_a_small_picture_keeps_mean_and_majority():
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    mask = np.zeros((4, 6), bool)
    mask[:2, 0] = True          # half of the first square
    mask[0, 2] = True           # a quarter of the second
    small, inside = reduced(grey, mask, 3)
    assert small.tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    assert inside.tolist() == [[True, False, False], [False, False, False]]
    assert reduced(grey, mask, 6)[0].tolist() == grey.tolist()


def test_damaged_records_count_as_slices_that_are_not_made(tmp_path):
    results = Results(str(tmp_path / "live"))
    assert results.begin({}, False) is None
    results.describe({})
    (results.folder / "records").mkdir()
    for number, content in enumerate(("", "[]", "{}", json.dumps({"source": {"bytes": 1, "modified": 2}, "grey_sha256": "x"}))):
        (results.folder / "records" / f"s{number}.tif.json").write_text(content)
    assert results.finished() == {} and not list((results.folder / "records").iterdir())
    results.end()


def test_times_are_written_in_utc():
    os.environ["TZ"] = "Asia/Tokyo"
    try:
        assert timestamp(1_795_615_387.25) == "2026-11-25T14:03:07.250Z"
    finally:
        del os.environ["TZ"]

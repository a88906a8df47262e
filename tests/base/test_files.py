"""Files and folders are whole or not there, whatever happens in between."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from pycaffe_tools.base import files
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.files import (
    atomic_directory,
    atomic_file,
    read_json,
    refuse_existing,
    refuse_inputs,
    remove_abandoned,
    require_ending,
    sha256,
    whole_name,
    write_json,
)
from pycaffe_tools.patches import database as patch_database
from pycaffe_tools.prune import pruned_model as prune

from ..conftest import ROOT

DEAD = subprocess.Popen([sys.executable, "-c", ""])
DEAD.wait()


def test_a_failed_block_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        with atomic_file(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def left_by(process_id, computer=None, stem=".a", suffix=".txt"):
    """Name of what a process left of a.txt."""
    return f"{stem}.partial-{computer or files._computer()}-{process_id}-0a1b2c3d{suffix}"


def test_what_a_killed_process_left_is_removed_and_a_running_ones_is_not(tmp_path):
    dead, alive = tmp_path / left_by(DEAD.pid), tmp_path / left_by(os.getppid())
    other = tmp_path / left_by(DEAD.pid, stem=".a.partial")     # of a file called a.partial.txt
    for path in (dead, alive, other):
        path.write_text("half")
    with atomic_file(tmp_path / "a.txt") as temporary:
        assert whole_name(str(temporary)) == str(tmp_path / "a.txt")
        temporary.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert not dead.exists() and alive.exists() and other.exists()


def test_what_another_computer_left_is_removed_when_nothing_has_happened_to_it_for_days(tmp_path):
    names = [left_by(DEAD.pid, "node7.0123abcd"), f".a.partial-{DEAD.pid}.txt"]     # the second of an older version
    for old in (False, True):
        for name in names:
            (tmp_path / name).write_text("half")
        (tmp_path / left_by(DEAD.pid, "node7.0123abcd", ".out", "")).mkdir(exist_ok=True)
        folder = tmp_path / left_by(DEAD.pid, "node7.0123abcd", ".out", "")
        (folder / "a").write_text("half")
        for path in ([tmp_path / name for name in names] + [folder / "a", folder] if old else [folder]):
            os.utime(path, (time.time() - files.ABANDONED - 60,) * 2)
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
        with atomic_directory(tmp_path / "out", force=True) as made:
            (made / "a").write_text("whole")
        assert [(tmp_path / name).exists() for name in names] == [not old] * 2 and folder.exists() != old


WRITER = """
import sys, time
from pathlib import Path
from pycaffe_tools.base.files import atomic_file
me, folder = sys.argv[1], Path(sys.argv[2])
with atomic_file(folder / "shared.txt") as temporary:
    temporary.write_text(me)
    (folder / (me + " writes")).touch()
    deadline = time.monotonic() + 60
    while not (folder / (me + " may end")).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
"""
ALONE = ["unshare", "--pid", "--fork", "--mount-proc"]
"""Starts a program that counts processes anew, as a container or another computer does."""


@pytest.mark.parametrize("before", [0, 5], ids=["equal process numbers", "numbers that the other one does not have"])
def test_writers_that_cannot_see_each_others_processes_leave_each_others_files_alone(tmp_path, before):
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs the right to make a name space of processes (unshare --pid)")
    environment = dict(os.environ, PYTHONPATH=str(ROOT))

    def start(me, processes_before):
        line = "/bin/true; " * processes_before + '"$@"; exit $?'
        command = [sys.executable, "-c", WRITER, me, str(tmp_path)]
        return subprocess.Popen([*ALONE, "sh", "-c", line, "sh", *command], env=environment)

    first = start("first", before)
    wait_for(tmp_path / "first writes", first)
    second = start("second", 0)
    wait_for(tmp_path / "second writes", second)
    for me, process in (("second", second), ("first", first)):
        (tmp_path / f"{me} may end").touch()
        assert process.wait(60) == 0
        assert (tmp_path / "shared.txt").read_text() == me
    assert not list(tmp_path.glob(".*"))


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


def test_a_folder_appears_whole_and_replaces_only_when_forced(tmp_path):
    (tmp_path / left_by(DEAD.pid, stem=".out", suffix="")).mkdir()
    with atomic_directory(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(UserError, match="exists already"):
        with atomic_directory(tmp_path / "out"):
            pass
    with pytest.raises(ZeroDivisionError):
        with atomic_directory(tmp_path / "out", force=True):
            raise ZeroDivisionError
    assert (tmp_path / "out" / "a").read_text() == "1"
    with atomic_directory(tmp_path / "out", force=True) as folder:
        (folder / "a").write_text("2")
    assert (tmp_path / "out" / "a").read_text() == "2" and os.listdir(tmp_path) == ["out"]


def test_force_does_not_delete_what_it_does_not_replace(tmp_path):
    out = tmp_path / "stack"
    out.mkdir()
    (out / "raw.tif").write_text("precious")
    (out / "shard_000").write_text("old")
    with pytest.raises(UserError, match="holds other files .raw.tif., which --force would delete"):
        with atomic_directory(out, force=True) as folder:
            (folder / "shard_001").write_text("new")
    assert sorted(os.listdir(out)) == ["raw.tif", "shard_000"] and os.listdir(tmp_path) == ["stack"]


def test_an_empty_folder_is_no_obstacle(tmp_path):
    assert refuse_existing(tmp_path) is None
    assert refuse_existing(tmp_path / "absent") is None
    with pytest.raises(UserError, match="exists already"):
        refuse_existing(__file__)


def test_force_is_refused_before_the_work_where_a_folder_holds_other_files(tmp_path):
    """Hours of pruning must not end in a sentence that could have been said at once."""
    for folder, products in (("pruned", prune.PRODUCTS), ("patches", patch_database.PRODUCTS)):
        (tmp_path / folder).mkdir()
        for name in products:
            (tmp_path / folder / name.replace("000", "012")).touch()
        assert refuse_existing(tmp_path / folder, force=True, replaced=products) is None
        (tmp_path / folder / "thesis.tex").touch()
        with pytest.raises(UserError, match="holds other files .thesis.tex., which --force would delete"):
            refuse_existing(tmp_path / folder, force=True, replaced=products)


def test_a_file_never_becomes_a_folder(tmp_path):
    """A stack that was named as the output by mistake stays, whatever is forced."""
    (tmp_path / "raw.tif").write_text("pixels")
    with pytest.raises(UserError, match="raw.tif: is a file, and a folder is to be made"):
        with atomic_directory(tmp_path / "raw.tif", force=True):
            raise AssertionError
    with pytest.raises(UserError, match="is a file"):
        refuse_existing(tmp_path / "raw.tif", force=True, replaced=["a"])
    assert (tmp_path / "raw.tif").read_text() == "pixels"


def test_what_is_read_is_never_an_output(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="is or lies in .*model, which is read"):
        refuse_inputs(tmp_path / "model" / "model.json", None, tmp_path / "model")
    with pytest.raises(UserError, match="which is read"):
        refuse_inputs(tmp_path / "x" / ".." / "labels.tif", tmp_path / "labels.tif")
    assert refuse_inputs(tmp_path / "out.json", tmp_path / "model") is None


def test_a_file_of_another_name_would_not_be_known_for_what_it_is():
    assert require_ending("figure.PNG", ".png") is None
    with pytest.raises(UserError, match="figure.jpg: .* a name that ends in .png"):
        require_ending("figure.jpg", ".png")


def test_json_is_read_as_written_or_refused_by_name(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None], "ä": 0.5})
    assert read_json(tmp_path / "a.json") == {"b": [1, None], "ä": 0.5}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="a.json: is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "b.json")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_of_many_files_is_looked_through_once_and_not_for_each(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with atomic_file(tmp_path / "a.png") as partial:
            name = partial.name
            raise ZeroDivisionError
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / re.sub(r"-\d+-", f"-{ended.pid}-", name)
    ours = tmp_path / name
    for path in (left, ours, tmp_path / ".hidden", tmp_path / "b.png"):
        path.write_text("")
    with atomic_file(tmp_path / "a.png", tidy=False) as partial:
        partial.write_text("whole")
    assert left.exists() and (tmp_path / "a.png").read_text() == "whole"
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ours.name, ".hidden", "a.png", "b.png"])

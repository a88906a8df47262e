"""One works and the others wait or are told, whatever ends the one."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from pycaffe_tools.base import locks
from pycaffe_tools.base.errors import TemporaryError, UserError
from pycaffe_tools.base.locks import FileLock

from ..conftest import ROOT


def lock(path, **options):
    return FileLock(path, "a.tif", "writes a.tif", "wait for it", **options)


def test_a_second_one_is_told_who_works(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lock(tmp_path / "new" / "lock"):
        with pytest.raises(TemporaryError, match=rf"^a.tif: another process writes a.tif \(process {os.getpid()} on .*, job 17\); "
                                                 rf"wait for it$"):
            lock(tmp_path / "new" / "lock").acquire()
    with lock(tmp_path / "new" / "lock") as again:
        assert again.held
    assert not again.held


def test_a_killed_holder_holds_nothing(tmp_path):
    program = ("import sys, time; from tests.base.test_locks import lock; held = lock(sys.argv[1]); held.acquire(); "
               "print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "lock")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TemporaryError, match=f"process {holder.pid} on"):
        lock(tmp_path / "lock").acquire()
    holder.send_signal(signal.SIGKILL)
    with lock(tmp_path / "lock", patience=30):
        holder.communicate()


def test_a_lock_whose_file_was_removed_is_none(tmp_path, monkeypatch):
    """The file is opened, removed by the one who held it, and made anew by a third: only the third holds anything."""
    first, third = lock(tmp_path / "lock", passing=True), lock(tmp_path / "lock")
    first.acquire()
    flock = locks.fcntl.flock

    def meanwhile(descriptor, operation):
        monkeypatch.setattr(locks.fcntl, "flock", flock)
        first.release()
        assert not (tmp_path / "lock").exists()
        third.acquire()
        flock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", meanwhile)
    with pytest.raises(TemporaryError):
        lock(tmp_path / "lock").acquire()
    assert third.held


def test_a_file_system_without_locks_is_named_for_what_it_is(tmp_path, monkeypatch):
    def none(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with pytest.raises(UserError, match="a.tif: its file system offers no locks") as refusal:
        lock(tmp_path / "lock").acquire()
    assert not isinstance(refusal.value, TemporaryError)


def test_patience_has_an_end(tmp_path):
    with lock(tmp_path / "lock"):
        begun = time.monotonic()
        with pytest.raises(TemporaryError):
            lock(tmp_path / "lock", patience=0.3).acquire()
        assert time.monotonic() - begun >= 0.3

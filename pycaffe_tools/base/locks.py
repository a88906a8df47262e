"""Locks on the file system: of several processes, on one computer or many, one works on a thing at a time.

A lock is a file.  The kernel lets go of it when the process that holds it has
ended, however it ended, so no lock outlives its owner.  On a network file
system it holds between computers where that file system offers locks between
them, as NFS 4 and Lustre (mounted with ``flock``) do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Optional

from .errors import TemporaryError, UserError
from .files import PathLike

_HELD = (errno.EWOULDBLOCK, errno.EACCES)


def this_process() -> str:
    """This process in words for people: its number, its computer, and its job on a cluster."""
    job = os.environ.get("SLURM_JOB_ID")
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else job
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", job {job}" if job else "")


class FileLock:
    """A lock; a context manager that holds it.

    Parameters
    ----------
    path : its file, made with its folder where they are not there.
    where : what is locked, for messages.
    doing : what the one who holds it does, such as ``is writing this output``.
    advice : what to do then, such as ``wait for it, or choose another output``.
    patience : seconds to wait for another process to let go.
    passing : whether to leave no file behind.
    shared : whether several may hold it at the same time, as long as nobody holds it alone.
    """

    def __init__(self, path: PathLike, where: PathLike, doing: str, advice: str, patience: float = 0.0,
                 passing: bool = False, shared: bool = False):
        self.path = Path(path)
        self._where, self._doing, self._advice = where, doing, advice
        self._patience, self._passing, self._shared = patience, passing, shared
        self._descriptor: Optional[int] = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def number(self) -> int:
        """File descriptor; a child that is given it holds the lock as well, until it ends."""
        assert self._descriptor is not None, "the lock is not held"
        return self._descriptor

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        TemporaryError : another process holds it.
        UserError : the file system offers no locks.
        """
        deadline = time.monotonic() + self._patience
        while not self._try():
            if time.monotonic() >= deadline:
                holder = self._holder()
                raise TemporaryError(f"{self._where}: another process {self._doing}{f' ({holder})' if holder else ''}; "
                                     f"{self._advice}")
            time.sleep(0.2)
        if not self._shared:
            os.ftruncate(self.number, 0)
            os.pwrite(self.number, this_process().encode(), 0)

    def _try(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:           # the one who held it has removed the folder as well
            return self._try()
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            ours, there = os.fstat(descriptor), os.stat(self.path)
        except FileNotFoundError:           # the one who held it has removed the file: this is none any more
            os.close(descriptor)
            return self._try()
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                return False
            raise UserError(f"{self._where}: its file system offers no locks ({error.strerror}), without which two processes "
                            f"could write the same files; choose a place on another one") from None
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            os.close(descriptor)
            return self._try()
        self._descriptor = descriptor
        return True

    def _holder(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._descriptor is not None:
            if self._passing and self.path.exists():
                self.path.unlink()          # while it is held, so that nobody else's is removed
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

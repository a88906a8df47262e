"""Child processes: how they start, are asked, answer, and how their end is told.

A failed check in Caffe, or too little memory, ends a process at once and
without a word to Python.  So what runs Caffe on somebody's net has a process of
its own, and the one that started it says what happened.  There are two ways:

- :class:`Child` runs a module of this package in a new Python, with its own
  environment (libraries look for their number of threads once, when they are
  loaded).  The module ends in ``serve(prepare)``.  Each request gets one answer.

  >>> child = Child("pycaffe_tools.engines.process", settings)         # doctest: +SKIP
  >>> probabilities = child.ask(tile)                                  # doctest: +SKIP

- :func:`call_in_fork` calls one function in a fork of this process, which
  shares all objects and needs no pickling of arguments.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from typing import IO, Any, Callable, Dict, Mapping, Optional, TypeVar

from .errors import UserError
from .files import PACKAGE_ROOT
from .host.machine import ONE_THREAD

Result = TypeVar("Result")

_DONE, _REFUSED = "done", "refused"

_FAILED_CHECK = re.compile(r"^F\d{4,8} .*?\] (.*)$", re.MULTILINE)
"""A line with which glog, Caffe's logger, ends the process."""

_LOG_BYTES = 4096
_LONGEST_WORDS = 300


class ChildDied(Exception):
    """A child process ended without an answer.

    Attributes
    ----------
    code : its exit code; -9 after signal 9.
    log : the end of what it wrote to standard output and standard error.
    """

    def __init__(self, code: int, log: str):
        self.code, self.log = code, log
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        super().__init__(how + (f", its last words were: {self.last_words}" if self.last_words else ""))

    @property
    def failed_check(self) -> Optional[str]:
        """Caffe's reason, if a failed check in Caffe ended the process."""
        found = _FAILED_CHECK.findall(self.log)
        return found[-1].strip() if found else None

    @property
    def last_words(self) -> str:
        """The line that says most about the end: Caffe's reason, else the last error, else the last line; may be empty."""
        # Behind its reason glog prints a stack trace, which says nothing to a user.
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line]
        return self.failed_check or ((errors or lines or [""])[-1][:_LONGEST_WORDS])


def child_environment(settings: Mapping[str, str]) -> Dict[str, str]:
    """This process' environment with ``settings``, in which this package can be imported wherever it lies."""
    # The package may be imported from a checkout, which a new Python does not look into by itself.
    path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **settings, "PYTHONPATH": path}


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it is killed (Linux); a ``preexec_fn``.

    Without it a program that cannot notice, such as ``caffe train``, would go on and write the same files as its
    successor.
    """
    try:
        import ctypes
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


class Child:
    """A new Python that runs a module of this package and answers requests, seen from the process that started it.

    Parameters
    ----------
    module : dotted name of a module that ends in ``serve(prepare)``.
    settings : what ``prepare`` is called with, before the first request is answered.
    environment : variables to set.

    It ends by itself when this process ends, however that happens.
    """

    def __init__(self, module: str, settings: Any, environment: Mapping[str, str] = ONE_THREAD):
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env=child_environment({**environment, "PYTHONUNBUFFERED": "1"}))
        theirs.close()
        self._connection = Connection(ours.detach())
        try:
            self.send(settings)
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, request: Any) -> None:
        """Send a request; :meth:`receive` gives the answers in the order of the requests.

        Raises
        ------
        ChildDied : the process has ended.
        """
        try:
            self._connection.send(request)
        except OSError:
            raise self._death() from None

    def receive(self) -> Any:
        """Wait for the next answer.

        Raises
        ------
        UserError : what the child refused, in its words.
        ChildDied : the process has ended.
        """
        try:
            kind, content = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if kind == _REFUSED:
            raise UserError(content)
        return content

    def ask(self, request: Any) -> Any:
        """Send a request and wait for its answer; raises what :meth:`send` and :meth:`receive` raise."""
        self.send(request)
        return self.receive()

    def _death(self) -> ChildDied:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return ChildDied(code, _end_of(self._log))

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._connection.close()
        self._log.close()


def serve(prepare: Callable[[Any], Callable[[Any], Any]]) -> None:
    """The child's side of :class:`Child`: answer requests until the other side ends.

    Parameters
    ----------
    prepare : called once with the settings, when the first request has come; gives the function that answers
        requests.  A :class:`UserError` of either is passed on as such, any other exception ends this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C reaches the parent too, which ends its children
    connection = Connection(int(sys.argv[1]))
    handle: Optional[Callable[[Any], Any]] = None
    try:
        settings = connection.recv()
        while True:
            request = connection.recv()
            try:
                handle = handle or prepare(settings)
                answer = (_DONE, handle(request))
            except UserError as error:
                answer = (_REFUSED, str(error))
            connection.send(answer)
    except (EOFError, ConnectionError):
        return      # the parent has ended, and nobody waits for an answer


def call_in_fork(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call ``function(*arguments)`` in a fork of this process and return its result, which must be picklable.

    Raises
    ------
    UserError : the function raised it.
    ChildDied : the process ended first.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryFile() as log:
        process = context.Process(target=_answer_once, args=(sender, log.fileno(), function, arguments), daemon=True)
        process.start()
        sender.close()
        try:
            kind, content = receiver.recv()
        except (EOFError, OSError):
            kind, content = "", None
        finally:
            receiver.close()
        process.join()
        if kind == _REFUSED:
            raise UserError(content)
        if kind != _DONE:
            raise ChildDied(process.exitcode or 0, _end_of(log))
        result: Result = content
        return result


def _answer_once(sender: Any, log: int, function: Callable[..., Any], arguments: Any) -> None:
    os.dup2(log, 2)
    # Whatever Python's own standard error was, a traceback belongs in the log as well.
    sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)
    try:
        answer = (_DONE, function(*arguments))
    except UserError as error:
        answer = (_REFUSED, str(error))
    sender.send(answer)
    sender.close()


def _end_of(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
    return log.read().decode("utf-8", "replace")

"""Real ``caffe train`` in a child process: start it, follow its log, tell how it ended.

Caffe's exit code says little: after SIGINT it is 0 and the log says
"Optimization Done.", and a failed check is an abort.  So a run counts as
finished only if the snapshot of its last iteration is there and whole.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

from google.protobuf.message import DecodeError

from ...base.child import die_with_parent
from ...base.errors import UserError
from ...base.host.blas import kernel_environment
from ..files.schema import schema
from .loops import loops_environment

_ITERATION = re.compile(r"Iteration (\d+) .*?loss = ([-+.\deEnaif]+)")
_TEST_START = re.compile(r"Iteration (\d+), Testing net")
_TEST_OUTPUT = re.compile(r"Test net output #\d+: (\w+) = ([-+.\deEnaif]+)")
_RATE = re.compile(r"Iteration (\d+), lr = ([-+.\deEnaif]+)")
_RESTORED = re.compile(r"Restoring previous solver status|Resuming from")
_FATAL = re.compile(r"^F\d{4} \S+ +\d+ (\S+)\] (.*)$")


class LogEvent(NamedTuple):
    """One figure out of Caffe's log.

    ``kind`` is ``loss`` (training, averaged by the solver), ``lr``, or the
    name of a test output such as ``accuracy``; ``test_loss`` for the loss there.
    """

    iteration: int
    kind: str
    value: float


class LogReader:
    """Turns the lines of ``caffe train``'s log into :class:`LogEvent`."""

    def __init__(self) -> None:
        self._testing = 0
        self.fatal: List[str] = []
        """Text of failed checks, which abort Caffe."""

    def read(self, line: str) -> Optional[LogEvent]:
        """The event of one line, if it holds one."""
        found = _ITERATION.search(line)
        if found:
            return LogEvent(int(found[1]), "loss", float(found[2]))
        found = _RATE.search(line)
        if found:
            return LogEvent(int(found[1]), "lr", float(found[2]))
        found = _TEST_START.search(line)
        if found:
            self._testing = int(found[1])
            return None
        found = _TEST_OUTPUT.search(line)
        if found:
            return LogEvent(self._testing, "test_loss" if found[1] == "loss" else found[1], float(found[2]))
        found = _FATAL.match(line)
        if found:
            self.fatal.append(found[2])
        return None


def caffe_program() -> str:
    """Path of Caffe's command-line program.

    ``CAFFE`` of the environment, else beside this Python, else on the PATH.

    Raises
    ------
    UserError : it is nowhere.
    """
    beside = Path(sys.executable).parent / "caffe"
    found = os.environ.get("CAFFE") or (str(beside) if beside.is_file() else shutil.which("caffe"))
    if not found:
        raise UserError("caffe: the command-line program is neither beside this Python nor on the PATH; "
                        "run `make env` and use .caffe/bin/python, or set CAFFE")
    return found


def latest_snapshot(prefix: Path) -> Optional[Tuple[int, Path, Path]]:
    """The newest whole snapshot: its iteration, solver state and caffemodel.

    A killed Caffe may leave a file half-written, so each is read to its end
    and compared with the other before it is believed.
    """
    states = prefix.parent.glob(f"{prefix.name}_iter_*.solverstate")
    for state in sorted(states, key=_iteration_of, reverse=True):
        if is_whole_snapshot(state):
            return _iteration_of(state), state, state.with_suffix(".caffemodel")
    return None


def _iteration_of(snapshot: Path) -> int:
    return int(snapshot.stem.rsplit("_", 1)[1])


def is_whole_snapshot(state: Path) -> bool:
    """Whether a solver state and its caffemodel were written to their end."""
    messages = schema()
    solver_state, net = messages.SolverState(), messages.NetParameter()
    try:
        solver_state.ParseFromString(state.read_bytes())
        net.ParseFromString(state.with_suffix(".caffemodel").read_bytes())
    except (OSError, DecodeError):
        return False
    counts = [len(blob.data) for layer in net.layer for blob in layer.blobs]
    # A cut between two blobs is still a valid message; but then the momentum's blobs do not match the weights'.
    return (solver_state.iter == _iteration_of(state) and len(counts) > 0
            and [len(blob.data) for blob in solver_state.history[:len(counts)]] == counts)


def run_caffe_train(solver: Path, log: Path, on_event: Callable[[LogEvent], None], *,
                    snapshot: Optional[Path] = None, weights: Optional[Path] = None,
                    gpu: Optional[int] = None) -> int:
    """Run ``caffe train`` in the solver's folder until it ends, appending its log.

    Parameters
    ----------
    solver : solver prototxt; paths in it are relative to its folder.
    log : file that gets Caffe's own log.
    on_event : called for each figure in the log.
    snapshot : solver state to go on from.
    weights : caffemodel to start from; not together with ``snapshot``.
    gpu : number of the GPU to use.

    Returns
    -------
    Exit code of the process; 0 does not mean that the last iteration was reached.

    Raises
    ------
    UserError : Caffe aborted; the sentence holds what its log says.
    KeyboardInterrupt : after Ctrl-C, once Caffe has written a snapshot.
    """
    command = [caffe_program(), "train", f"--solver={solver.name}"]
    command += [f"--snapshot={snapshot.name}"] if snapshot else []
    command += [f"--weights={weights}"] if weights and not snapshot else []
    command += [f"--gpu={gpu}"] if gpu is not None else []
    environment = {**os.environ, **kernel_environment(), **loops_environment(), "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
    reader = LogReader()
    tail: List[str] = []
    interrupted = threading.Event()
    # Its own process group: Ctrl-C reaches Caffe once, through us, so that its snapshot is not cut short.
    process = subprocess.Popen(command, cwd=str(solver.parent), env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, universal_newlines=True, errors="replace",
                               start_new_session=True, preexec_fn=die_with_parent)
    assert process.stderr is not None
    try:
        with open(log, "a", encoding="utf-8") as stream:
            while True:
                try:
                    line = process.stderr.readline()
                except KeyboardInterrupt:
                    interrupted.set()
                    process.send_signal(signal.SIGINT)
                    continue
                if not line:
                    break
                stream.write(line)
                stream.flush()
                tail = (tail + [line.strip()])[-20:]
                event = reader.read(line)
                if event:
                    on_event(event)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if interrupted.is_set():
        raise KeyboardInterrupt
    if reader.fatal or code:
        raise UserError(f"{log}: Caffe stopped with exit code {code}: {_explanation(reader.fatal, tail)}")
    return code


def _explanation(fatal: List[str], tail: List[str]) -> str:
    text = "; ".join(fatal) or next(
        (line for line in reversed(tail) if line and not line.startswith(("@", "***"))), "it left no message")
    if "Cannot use GPU in CPU-only Caffe" in text:
        return "this Caffe was built without GPU support; leave out --gpu"
    if "bad_alloc" in text or "Out of memory" in text:
        return f"not enough memory ({text}); use fewer patches in a file or a smaller batch"
    return f"{text}; the log has the whole story"

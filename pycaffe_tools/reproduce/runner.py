"""Runs the nodes of a plan as child processes, those that others need first."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

import click

from ..base.child import child_environment, die_with_parent
from ..base.command import PASSING
from ..base.errors import TemporaryError
from ..base.files import PACKAGE_ROOT
from ..base.progress import duration
from .collect import collect, collect_plan, is_logged, results_lock
from .locks import RunLocks
from .nodes import Node
from .store import RunStore

POLL = 0.1
LOOK_AGAIN = 2.0
"""Seconds after which a run that another runner works on is looked at again."""
TRUST = 120.0
"""Seconds of measured work at which estimates of the plan and measurements count alike."""


class Outcome(NamedTuple):
    """How a call of the runner ended: names of nodes."""

    completed: List[str]
    skipped: List[str]
    failed: Dict[str, str]
    """With the last line of the log."""
    blocked: List[str]
    """Not run, since they need something that failed."""
    passing: List[str] = []
    """Those of the failed ones whose reason passes."""


class _Running:
    """A node at work: its commands one after the other."""

    def __init__(self, node: Node, store: RunStore, locks: RunLocks):
        self.node, self.store, self.locks = node, store, locks
        self.passing = False
        self.start = time.monotonic()
        self.step = 0
        store.prepare(node)
        self._stream = open(store.log(node), "ab")
        self._process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *_module(self.store.filled(self.node.commands[self.step]))]
        environment = child_environment({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
        self._stream.write(f"$ {' '.join(command)}\n".encode())
        self._stream.flush()
        # Its own session, so that Ctrl-C reaches it once, through us; and it ends when this program is killed.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._stream, stderr=subprocess.STDOUT,
                                env=environment, start_new_session=True, preexec_fn=die_with_parent,
                                pass_fds=(self.store.lock_number, *self.locks.numbers))

    def poll(self) -> Optional[bool]:
        """None while it runs, then whether it ended well."""
        code = self._process.poll()
        if code is None:
            return None
        if code == 0 and self.step + 1 < len(self.node.commands):
            self.step += 1
            self._process = self._begin()
            return None
        self._stream.close()
        self.passing = code == PASSING
        return code == 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def stop(self) -> None:
        """End it so that it can go on later: ask first, as Ctrl-C does, then kill."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stream.close()
        self.locks.release()


def _module(command: Sequence[str]) -> List[str]:
    return [f"{PACKAGE_ROOT.name}.{command[0]}", *command[1:]]


class Runner:
    """Runs the nodes of a plan, as many at once as there are processes, the earlier ones of the plan first.

    Parameters
    ----------
    nodes : what is to be done of the plan; everything a node needs has to be in it.
    store : an entered :class:`RunStore`.
    results : folder that gets what the report needs.
    processes : nodes at once.
    redo : run nodes again that were made by other commands.
    wait : whether to wait for runs that other runners work on; otherwise they are an error.
    whole : the whole plan, for the results; ``nodes`` by default.
    say : called with lines for the user.
    trust_logs : a node whose log is in ``results`` is done, although its files are not in the store, where nothing that
        is to be run needs them.
    """

    def __init__(self, nodes: Sequence[Node], store: RunStore, results: Path, processes: int, redo: bool = False,
                 whole: Optional[Sequence[Node]] = None, say: Any = None, trust_logs: bool = False, wait: bool = True):
        self.nodes, self.store, self.results, self.processes = list(nodes), store, results, processes
        self.plan = list(whole or nodes)
        self.say = say or (lambda line: click.echo(line, err=True))
        self.wait = wait
        self.done: Set[str] = set()
        for node in self.nodes:
            # What depends on something that is run again is run again.
            if all(need in self.done for need in node.needs) and store.is_done(node, redo):
                self.done.add(node.name)
        self.trust_logs = trust_logs
        if trust_logs:
            self.done |= self._logged()
        self.skipped = [node.name for node in self.nodes if node.name in self.done]
        self.failed: Dict[str, str] = {}
        self.passing: List[str] = []
        self.running: List[_Running] = []
        self._records = {node.name: store.record_time(node.name) for node in self.nodes}
        self._elsewhere: Dict[str, float] = {}
        self._measured = [0.0, 0.0]

    def _logged(self) -> Set[str]:
        """Nodes that are not in the store, but whose log is there, and which nothing that is to be run needs."""
        found: Set[str] = set()
        needed: Set[str] = set()
        for node in reversed(self.nodes):
            if node.name in self.done:
                continue
            if node.name not in needed and is_logged(node, self.results):
                found.add(node.name)
            else:
                needed.update(node.needs)
        return found

    def run(self) -> Outcome:
        """Run what is not done; returns when nothing more can be run."""
        begun = time.monotonic()
        session = {"started": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "processes": self.processes}
        completed: List[str] = []
        self._collect([node for node in self.nodes if node.name in self.done and self.store.record(node.name) is not None])
        try:
            while True:
                known = len(self.done)
                self._start_ready()
                if len(self.done) > known:
                    continue        # by another runner: what needs it is ready now
                if not self.running and not self._elsewhere:
                    break
                time.sleep(POLL)
                for running in list(self.running):
                    ended_well = running.poll()
                    if ended_well is not None:
                        self.running.remove(running)
                        self._end(running, ended_well, completed)
                        self.store.write_session({**session, "seconds": round(time.monotonic() - begun), "nodes": len(completed)})
                        self._collect([])
        finally:
            for running in self.running:
                running.stop()
        blocked = [node.name for node in self.nodes if node.name not in self.done and node.name not in self.failed]
        return Outcome(completed, self.skipped, self.failed, blocked, self.passing)

    def _collect(self, nodes: Sequence[Node]) -> None:
        """Bring what the results say of these nodes, and of the whole, up to date."""
        with results_lock(self.results):
            collect_plan(self.plan, self.store, self.results, self.trust_logs)
            for node in nodes:
                collect(node, self.store, self.results)

    def _ready(self) -> List[Node]:
        busy = {running.node.name for running in self.running}
        locked = {lock for running in self.running for lock in running.node.locks}
        return [node for node in self.nodes
                if node.name not in self.done and node.name not in self.failed and node.name not in busy
                and all(need in self.done for need in node.needs) and not locked.intersection(node.locks)]

    def _start_ready(self) -> None:
        for node in self._ready():
            if len(self.running) >= self.processes or any(running.node.alone for running in self.running):
                return
            if node.alone and self.running:
                return
            # Those that wait behind a lock which this loop has just taken are found not ready the next time.
            if time.monotonic() >= self._elsewhere.get(node.name, 0.0) and node in self._ready():
                self._start(node)

    def _start(self, node: Node) -> None:
        """Start a run, unless another runner works on it or has done it."""
        locks = RunLocks(node, self.store)
        try:
            locks.acquire()
        except TemporaryError as held:
            if not self.wait:
                raise
            if node.name not in self._elsewhere:
                self.say(f"{self._count()} waiting {node.name}: {held}")
            self._elsewhere[node.name] = time.monotonic() + LOOK_AGAIN
            return
        self._elsewhere.pop(node.name, None)
        if self.store.record_time(node.name) != self._records[node.name] and self.store.is_done(node):
            locks.release()
            self.done.add(node.name)
            self.skipped.append(node.name)
            self._collect([node])
            self.say(f"{self._count()} done    {node.name} by another runner")
            return
        self.running.append(_Running(node, self.store, locks))
        self.say(f"{self._count()} started {node.name}")

    def _end(self, running: _Running, ended_well: bool, completed: List[str]) -> None:
        node = running.node
        if ended_well and not self.store.path(node.output).is_file():
            ended_well = False
        if not ended_well:
            running.locks.release()
            self.passing += [node.name] if running.passing else []
            self.failed[node.name] = _last_line(self.store.log(node))
            self.say(f"{self._count()} FAILED  {node.name}: {self.failed[node.name]} (all of it: "
                     f"{self.store.log(node)})")
            return
        self.store.finish(node, running.seconds, self.processes)
        running.locks.release()
        self._collect([node])
        self.done.add(node.name)
        completed.append(node.name)
        self._measured[0] += running.seconds
        self._measured[1] += node.seconds
        self.say(f"{self._count()} done    {node.name} in {duration(running.seconds)}; {self._time_left()}")

    def _count(self) -> str:
        return f"[{len(self.done)} of {len(self.nodes)}]"

    def _time_left(self) -> str:
        """The plan's estimates, corrected by how long the nodes of this call really took."""
        at_work = {running.node.name: running.seconds for running in self.running}
        left = sum(max(node.seconds - at_work.get(node.name, 0), 0) for node in self.nodes
                   if node.name not in self.done and node.name not in self.failed)
        # The first nodes are short and say little, so the estimate gets some weight.
        factor = (self._measured[0] + TRUST) / (self._measured[1] + TRUST)
        return f"about {duration(left * factor / self.processes)} left" if left else "nothing left"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"

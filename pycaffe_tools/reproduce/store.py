"""The store of a reproduction: which runs are done, and that they are the ones that are asked for.

=========================  ===================================================================
``<node>/`` or a file      what a node made, as its own command wrote it
``done/<node>.json``       written when the node has ended: commands, hash of its output, hashes
                           of what it needed, seconds, code
``log/<node>.log``         what its commands printed
``sessions/``              how long a runner has worked, a file for each time one was called
                           (``sessions.json`` in older stores)
``lock``                   held by all runners together that work here
``locks/``                 held by the runner that works on a run (:mod:`pycaffe_tools.reproduce.locks`)
=========================  ===================================================================

A node counts as done if its record is there, says the same commands, its
output and all it needed are the files of the record, and the other files that
it made are whole.  Everything else is done again, or gone on with where the
command can do that.  A store belongs to the stacks that its patches came from.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..base.errors import UserError
from ..base.files import PACKAGE_ROOT, PathLike, read_json, sha256, write_json
from ..base.locks import FileLock
from ..nets.model import open_model
from ..nets.paper import PRUNED_LAYERS
from ..patches.database import open_database
from .catalogue import SEGMENTED
from .nodes import Node, same_commands

PATIENCE = 5.0
"""Seconds to wait for processes that a killed runner left behind: the kernel ends them, but not at once."""


def store_folder(runs: PathLike, data_set: str, scale: str) -> Path:
    """Folder of the store of one data set and scale below that of all runs."""
    return Path(runs) / f"{data_set}-{scale}"


class RunStore:
    """The folder in which the runs of one data set and scale lie.

    Parameters
    ----------
    root : the folder; made if it is not there.
    em : folder of the stacks.
    """

    def __init__(self, root: PathLike, em: PathLike):
        self.root, self.em = Path(root).absolute(), Path(em).absolute()
        self._session = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{socket.gethostname()}-{secrets.token_hex(3)}"
        # Older versions hold it alone.
        self._lock = FileLock(self.root / "lock", self.root, "reproduces in this store, by an older version",
                              "wait for it, or choose another one", PATIENCE, shared=True)

    def __enter__(self) -> RunStore:
        self._lock.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    @property
    def lock_number(self) -> int:
        """File descriptor of the lock: children hold it too, so that none of them can outlive it."""
        return self._lock.number

    def path(self, relative: str) -> Path:
        """Where something of the store lies."""
        return self.root / relative

    def log(self, node: Node) -> Path:
        """What the node's commands printed."""
        return self.root / "log" / f"{node.name}.log"

    def filled(self, command: Sequence[str]) -> List[str]:
        """A command with the placeholders of :mod:`pycaffe_tools.reproduce.plan` replaced."""
        return [part.replace("{runs}", str(self.root)).replace("{em}", str(self.em)) for part in command]

    def record_time(self, name: str) -> int:
        """When a node's record was written, in nanoseconds; 0 if there is none."""
        path = self.root / "done" / f"{name}.json"
        return path.stat().st_mtime_ns if path.is_file() else 0

    def record(self, name: str) -> Optional[Dict[str, Any]]:
        """What is known of a node that has ended; None if it has not."""
        path = self.root / "done" / f"{name}.json"
        return read_json(path) if path.is_file() else None

    def is_done(self, node: Node, redo: bool = False) -> bool:
        """Whether a node need not be run.

        Raises
        ------
        UserError : it was run with other commands, and ``redo`` was not given.
        """
        record = self.record(node.name)
        if record is None or not self.path(node.output).is_file():
            return False
        if same_commands(record["commands"]) != same_commands(node.commands):
            if redo:
                return False
            raise UserError(f"{self.root}: {node.name} was made there by other commands "
                            f"({_first_difference(record['commands'], node.commands)}); choose another store, or pass "
                            f"--redo to run it and what depends on it again")
        return (record["sha256"] == sha256(self.path(node.output)) and self._is_whole(node)
                and self._is_of_these_stacks(node, redo) and all(self._hash(need) == digest for need, digest in record["needs"].items()))

    def _is_whole(self, node: Node) -> bool:
        """Whether what a node made beside its output is there."""
        folder = self.path(node.output.split("/")[0])
        try:
            if node.kind == "model":
                open_model(folder)
            elif node.kind == "database":
                open_database(folder)
            elif node.kind == "segmentation":
                return (folder / SEGMENTED).is_file()
            elif node.kind == "orderings":
                return all((folder / f"{layer}.json").is_file() for layer in PRUNED_LAYERS)
        except UserError:
            return False
        return True

    def _is_of_these_stacks(self, node: Node, redo: bool) -> bool:
        """Whether a database was made from the stacks at hand; nothing else reads them without one."""
        for source in read_json(self.path(node.output))["sources"] if node.kind == "database" else ():
            for part in filter(None, (source["raw"], source["labels"], source["exclude"])):
                stack = self.em / Path(part["path"]).name
                if stack.is_file() and sha256(stack) != part["sha256"]:
                    if redo:
                        return False
                    raise UserError(f"{stack}: is not the stack that the patches in {self.root} were made from; choose "
                                    f"another store with --runs, or pass --redo to run everything again")
        return True

    def forget(self, node: Node) -> None:
        """Remove a node's record and all that it made."""
        for path in (self.root / "done" / f"{node.name}.json", self.root / node.output.split("/")[0]):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()

    def prepare(self, node: Node) -> None:
        """Clear away what an earlier attempt left, unless the node's commands go on with it."""
        if self.record(node.name) is not None or not node.resumes:
            self.forget(node)
        self.path(node.output).parent.mkdir(parents=True, exist_ok=True)
        self.log(node).parent.mkdir(parents=True, exist_ok=True)

    def finish(self, node: Node, seconds: float, processes: int) -> None:
        """Record that a node has ended well."""
        write_json(self.root / "done" / f"{node.name}.json", {
            "commands": [list(command) for command in node.commands], "sha256": sha256(self.path(node.output)),
            "needs": {need: self._hash(need) for need in node.needs}, "seconds": round(seconds, 1),
            "estimate": round(node.seconds, 1), "processes": processes, "code": code_version()})

    def _hash(self, name: str) -> Optional[str]:
        record = self.record(name)
        return record["sha256"] if record else None

    def sessions(self) -> List[Dict[str, Any]]:
        """One entry a call of a runner: start, seconds, nodes done."""
        path = self.root / "sessions.json"
        before: List[Dict[str, Any]] = read_json(path) if path.is_file() else []
        return before + [read_json(path) for path in sorted((self.root / "sessions").glob("*.json"))]

    def write_session(self, session: Mapping[str, Any]) -> None:
        """Record how long this process has worked, so that a kill loses little of it."""
        write_json(self.root / "sessions" / f"{self._session}.json", session)


def _first_difference(before: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> str:
    old, new = " ".join(sum(map(list, before), [])), " ".join(sum(map(list, now), []))
    start = len(os.path.commonprefix([old, new]))
    start = max(old.rfind(" ", 0, start), new.rfind(" ", 0, start), 0)
    return f"...{old[start:start + 60]} there, ...{new[start:start + 60]} now"


def code_version() -> Dict[str, Optional[str]]:
    """What computed: the commit of this checkout (None outside one), and a hash of the package's files."""
    package = PACKAGE_ROOT
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    try:
        commit = subprocess.run(["git", "-C", str(package), "rev-parse", "HEAD"], capture_output=True, text=True,
                                timeout=10)
        name = commit.stdout.strip() if commit.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        name = None
    return {"commit": name, "sources_sha256": digest.hexdigest()}

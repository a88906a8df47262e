"""SIGKILL at random moments: the same command, run again, ends with what an uninterrupted run makes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from ..conftest import ROOT
from . import corpus

_SAMPLE = ("--data", "patches", "--batches", "1", "--batch-size", "32", "--workers", "1")
LONG: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {
    "patches": (("patches", "raw.tif", "membranes.tif", "out", "--labels-are", "membrane", "--train", "600", "--val", "200"),
                ("out/train_000.h5", "out/val_000.h5", "out/patches.json")),
    "train": (("train", "N7", "--data", "patches", "--out", "out", "--max-iter", "8", "--tests", "1", "--resume"),
              ("out/deploy.prototxt", "out/weights.caffemodel")),
    "ordering": (("ordering", "small", "--layer", "c1", "-o", "out.json", *_SAMPLE), ("out.json",)),
    "prune": (("prune", "--counts", corpus.PRUNED, "--from", "small", "--out", "out", *_SAMPLE),
              ("out/weights.caffemodel", "out/deploy.prototxt", "out/pruning.json")),
    "surgery": (("surgery", "N7/deploy.prototxt", "N7/weights.caffemodel", "out", "--keep-file", "keep.json"),
                ("out/weights.caffemodel", "out/deploy.prototxt")),
    "segment": (("segment", "raw.tif", "-o", "out.tif", "--model", "small", "--workers", "2", "--tile", "16x16"), ("out.tif",)),
    "segment, HDF5": (("segment", "raw.h5", "-o", "out.h5", "--model", "small", "--workers", "1"), ("out.h5",)),
    "merge": (("segment", "--merge", "part0.tif", "part1.tif", "-o", "out.tif"), ("out.tif",)),
    "evaluate": (("evaluate", "p.tif", "membranes.tif", "--json", "out.json"), ("out.json",)),
    "export": (("export", "small", "-o", "out.onnx", "--dense"), ("out.onnx",)),
    "dense": (("dense", "small/deploy.prototxt", "small/weights.caffemodel", "out", "--tile", "8x8"),
              ("out/dense.caffemodel", "out/dense.prototxt")),
}
"""Commands that are killed, and the files that have to be equal in the end."""


class Kill(NamedTuple):
    """One command, killed and run again."""

    command: str
    after: float
    """Seconds."""
    same: bool
    why: str


def run_kills(base: Path, count: int, seed: int) -> List[Kill]:
    """So many kills, the commands in turns."""
    chance, found = random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        # One place for all runs of a command, since manifests hold paths.
        place = Path(folder) / "w"
        expected = {}
        for name, (argv, files) in list(LONG.items())[:count]:
            _fresh(base, place)
            start = time.monotonic()
            done = _start(argv, place)
            said = done.communicate()[1]
            if done.returncode != 0:
                raise RuntimeError(f"{name}: does not even run: {said.decode(errors='replace')[-500:]}")
            expected[name] = (_digests(place, files), time.monotonic() - start)
        for number in range(count):
            name = list(LONG)[number % len(LONG)]
            argv, files = LONG[name]
            _fresh(base, place)
            after = chance.uniform(0, expected[name][1] * 1.05)
            process = _start(argv, place)
            try:
                process.communicate(timeout=after)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
            again = _start(argv, place)
            said = again.communicate()[1].decode(errors="replace")
            # Killed when all was written, the command refuses to write it again.
            ended = again.returncode == 0 or "exists already" in said
            same = ended and _digests(place, files) == expected[name][0]
            why = "" if same else f"exit code {again.returncode}: {said.strip()[-300:]}"
            if "Traceback" in said:
                same, why = False, said[-600:]
            found.append(Kill(name, after, same, why))
            if not same:
                print(f"kill {number}: {name} after {after:.2f} s: {why}", flush=True)
    return found


def _fresh(base: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    corpus.copy(base, place)
    for log in (place / "small" / "orderings").glob("*"):
        log.unlink()


def _start(argv: Tuple[str, ...], place: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen([sys.executable, "-m", f"pycaffe_tools.{argv[0]}", *argv[1:]], cwd=str(place), env=environment,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def _digests(place: Path, files: Tuple[str, ...]) -> Dict[str, str]:
    return {name: _digest(place / name) for name in files}


def _digest(path: Path) -> str:
    if not path.is_file():
        return "missing"
    if path.suffix == ".h5":
        import h5py
        content = hashlib.sha256()
        with h5py.File(path, "r") as handle:
            handle.visititems(lambda name, item: content.update(item[()].tobytes()) if isinstance(item, h5py.Dataset) else None)
        return content.hexdigest()
    if path.suffix == ".json":
        # How long things took, and when, is not the result.
        drop = {"seconds", "written", "made", "timings"}
        return hashlib.sha256(json.dumps(json.loads(path.read_text(), object_hook=lambda node: {
            key: value for key, value in node.items() if key not in drop}), sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(kills: List[Kill]) -> List[str]:
    """Kills by command, as Markdown."""
    counts: Dict[str, Counter] = defaultdict(Counter)
    for kill in kills:
        counts[kill.command][kill.same] += 1
    lines = ["| killed and run again | kills | equal to an uninterrupted run |", "|---|---:|---:|"]
    lines += [f"| {name} | {sum(counts[name].values())} | {counts[name][True]} |" for name in LONG if counts[name]]
    return [*lines, f"| all | {len(kills)} | {sum(kill.same for kill in kills)} |"]

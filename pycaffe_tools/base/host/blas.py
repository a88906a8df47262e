"""The kernels of Caffe's BLAS: the fastest right ones for this processor, measured once and remembered.

OpenBLAS chooses kernels by the processor's model.  A version that is older
than the processor takes kernels of processors long gone, without a word:
half the speed, and less.  ``OPENBLAS_CORETYPE`` overrides its choice.  So each
kind that the processor's flags allow multiplies the matrices of the nets in a
child process, is compared with float64, and the fastest is kept in the user's
cache for every process that the tools start.  A value that the user set wins.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from ..files import PACKAGE_ROOT, cache_folder, read_json, write_json
from .machine import ONE_THREAD

CORE_TYPE = "OPENBLAS_CORETYPE"
THREADS = tuple(ONE_THREAD)

_NEEDS: Tuple[Tuple[str, FrozenSet[str]], ...] = (
    ("SKYLAKEX", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
    ("ZEN", frozenset({"avx2", "fma"})),
    ("HASWELL", frozenset({"avx2", "fma"})),
    ("SANDYBRIDGE", frozenset({"avx"})),
    ("NEHALEM", frozenset({"sse4_2"})),
)
"""Kinds of kernels of OpenBLAS on x86-64, with the flags that a processor needs for them, the newest first."""

SHAPES = ((100, 676, 49), (75, 81, 2500), (2500, 81, 75), (75, 2500, 81), (50, 4, 675), (128, 200, 50))
"""Rows, columns and inner length of products that dominate the training of N, forward and backward."""
REPETITIONS = 60
TOLERANCE = 1e-4
TIMEOUT = 60.0


def processor_flags() -> FrozenSet[str]:
    """What the processor can do, as Linux names it; empty elsewhere."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    except (OSError, IndexError):
        return frozenset()


def core_types_for(flags: FrozenSet[str]) -> List[str]:
    """Kinds of kernels that a processor with these flags can run, the newest first."""
    return [name for name, needs in _NEEDS if needs <= flags]


class Measured(NamedTuple):
    """One kind of kernel."""

    core_type: str
    """Empty: left to itself."""
    seconds: float
    error: float
    """Largest difference from float64, relative to the largest value."""


def measure_all() -> Tuple[Dict[str, Any], List[Measured]]:
    """The BLAS that Caffe loads here, and every kind of its kernels that runs.

    Returns
    -------
    Path, size and time of the library (empty without Caffe, or where it is not OpenBLAS), and what was measured.
    """
    found, library = [], {}
    for core_type in ["", *core_types_for(processor_flags())]:
        answer = _in_child(core_type)
        if answer is not None:
            library = answer["library"]
            found.append(Measured(core_type, answer["seconds"], answer["error"]))
    return library, found


def best_of(measured: List[Measured]) -> Optional[str]:
    """The fastest kind that computes right; None to leave OpenBLAS to itself.

    Two kinds within 3 % count as equal, so that chance does not decide.
    """
    right = [one for one in measured if one.error <= TOLERANCE]
    alone = next((one for one in right if not one.core_type), None)
    fastest = min(right, key=lambda one: one.seconds, default=None)
    if fastest is None or (alone is not None and alone.seconds <= 1.03 * fastest.seconds):
        return None
    return fastest.core_type


def cache_file() -> Path:
    """Where the choice is remembered."""
    return cache_folder() / "blas.json"


def best_core_type(again: bool = False) -> Optional[str]:
    """The kind of kernels to run Caffe with here, from the cache or measured now; None to leave it to itself."""
    path, key = cache_file(), _key()
    try:
        kept = read_json(path) if path.is_file() and not again else {}
        if kept.get("key") == key:
            return str(kept["core_type"]) if kept["core_type"] else None
    except Exception:       # a cache that cannot be read is no cache
        pass
    library, measured = measure_all()
    core_type = best_of(measured)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "core_type": core_type, "library": library,
                          "measured": [one._asdict() for one in measured]})
    except OSError:         # a home that cannot be written to: measured again the next time
        pass
    return core_type


@functools.lru_cache(maxsize=None)
def _chosen() -> Optional[str]:
    return best_core_type()


def kernel_environment() -> Dict[str, str]:
    """Variables that make a new process' BLAS take the kernels chosen here; none where the user has chosen."""
    chosen = None if CORE_TYPE in os.environ else _chosen()
    return {CORE_TYPE: chosen} if chosen else {}


def blas_environment() -> Dict[str, str]:
    """Environment of a process that evaluates on one core: one BLAS thread, and the kernels chosen here."""
    return {**ONE_THREAD, **kernel_environment()}


def _key() -> Dict[str, Any]:
    """What the choice depends on: the processor, and the Python whose Caffe is meant."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = " ".join(line.split(":", 1)[1].strip() for line in lines[:30]
                         if line.split("\t")[0] in ("vendor_id", "cpu family", "model", "model name"))
    except OSError:
        pass
    return {"processor": model, "flags": len(processor_flags()), "python": str(Path(sys.executable).resolve())}


def _in_child(core_type: str) -> Optional[Dict[str, Any]]:
    """Measure one kind in a process of its own, which may crash; None if it does, or there is no OpenBLAS."""
    environment = {key: value for key, value in os.environ.items() if key != CORE_TYPE}
    environment.update(dict.fromkeys(THREADS, "1"))
    if core_type:
        environment[CORE_TYPE] = core_type
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT.parent), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run([sys.executable, "-m", "pycaffe_tools.base.host.blas"], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=TIMEOUT)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _loaded_openblas() -> Optional[str]:
    """Path of the OpenBLAS that Caffe has loaded into this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(None, 5)[5] if len(line.split(None, 5)) == 6 else ""
        # numpy brings a private copy with names of its own: not the one that Caffe calls.
        if "openblas" in os.path.basename(path) and "numpy" not in path and "scipy" not in path:
            return path
    return None


def measure_here() -> Optional[Dict[str, Any]]:
    """Time and check this process' Caffe BLAS: seconds of all products, largest error; None without OpenBLAS."""
    import numpy as np
    try:
        import caffe  # noqa: F401  (loads its BLAS)
    except Exception:
        return None
    path = _loaded_openblas()
    if path is None:
        return None
    sgemm = ctypes.CDLL(path).cblas_sgemm
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    sgemm.argtypes = [integer, integer, integer, integer, integer, integer, real, pointer, integer, pointer, integer, real,
                      pointer, integer]
    sgemm.restype = None
    generator = np.random.default_rng(0)
    seconds = error = 0.0
    for rows, columns, inner in SHAPES:
        a = generator.standard_normal((rows, inner)).astype(np.float32)
        b = generator.standard_normal((inner, columns)).astype(np.float32)
        c = np.zeros((rows, columns), np.float32)

        def multiply(a: Any = a, b: Any = b, c: Any = c, m: int = rows, n: int = columns, k: int = inner) -> None:
            sgemm(101, 111, 111, m, n, k, 1.0, a.ctypes.data, k, b.ctypes.data, n, 0.0, c.ctypes.data, n)

        multiply()
        right = a.astype(np.float64) @ b.astype(np.float64)
        error = max(error, float(np.abs(c - right).max() / np.abs(right).max()))
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(REPETITIONS // 3):
                multiply()
            best = min(best, time.perf_counter() - start)
        seconds += best
    stat = os.stat(path)
    return {"library": {"path": path, "bytes": stat.st_size}, "seconds": seconds, "error": error}


def choose() -> str:
    """Measure now, keep the choice, and say it in a sentence."""
    chosen = best_core_type(again=True)
    return (f"Caffe's BLAS runs its {chosen} kernels, the fastest right ones here" if chosen
            else "Caffe's BLAS chooses the fastest right kernels by itself")


if __name__ == "__main__":
    if sys.argv[1:] == ["choose"]:
        print(choose())
    else:
        result = measure_here()
        if result is not None:
            print(json.dumps(result))

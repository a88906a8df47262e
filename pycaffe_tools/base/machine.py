"""What the machine offers: cores, memory within its limits, the processor's name, threads of BLAS."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

ONE_THREAD: Dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
"""Environment of a process in which the arithmetic libraries use one thread; they look there once, when loaded."""


def cores() -> int:
    """Processor cores that this process may use (a batch system may allow fewer than the machine has)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:      # not Linux
        return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that new processes can use here without swapping, limits of a container or batch job included."""
    found = [4 * 10**9]
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found = [int(fields["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        pass
    for group in _control_groups():
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                found.append(int((group / limit).read_text()) - int((group / used).read_text()))
            except (OSError, ValueError):       # not of this version, or "max": no limit
                pass
    return max(min(found), 10**8)


def _control_groups() -> List[Path]:
    """Folders of this process' Linux control groups and those around them, which may limit its memory."""
    found: List[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup") / controllers
            inner = root / path.lstrip("/")
            found += [inner] + [outer for outer in inner.parents if root == outer or root in outer.parents]
    return found


def peak_so_far() -> int:
    """Largest resident memory of this process since it started, in bytes.

    Not ``ru_maxrss`` where the kernel tells better: that of a new process
    begins with what the one that started it had.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processor() -> str:
    """Name of the processor, as the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Usage(NamedTuple):
    """What a process has used so far: processor seconds, and its peak of resident memory in bytes."""

    seconds: float
    peak: int


def usage() -> Usage:
    """What this process has used so far."""
    return Usage(time.process_time(), peak_so_far())

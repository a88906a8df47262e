"""What the machine offers: cores, memory within its limits, the processor's name, threads of BLAS."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional

ONE_THREAD: Dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
"""Environment of a process in which the arithmetic libraries use one thread; they look there once, when loaded."""


class Limit(NamedTuple):
    """So much may be used, and what says so."""

    amount: int
    source: str


def cores() -> int:
    """Processor cores that this process may use, see :func:`core_limit`."""
    return core_limit().amount


def core_limit(environment: Mapping[str, str] = os.environ) -> Limit:
    """Processor cores that this process may use: of the machine, and of what a batch system gave the job.

    Slurm tells a job its share in variables whether or not it enforces it.
    """
    try:
        allowed, machine = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    except AttributeError:      # not Linux
        allowed = machine = os.cpu_count() or 1
    found = [Limit(allowed, "all cores" if allowed >= machine else "the cores that this process may run on")]
    # A job of several tasks on a node is told the cores of all of them by the second.
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        given = _whole(environment.get(name))
        if given:
            found.append(Limit(given, name))
            break
    return min(found, key=lambda limit: limit.amount)


def available_memory() -> int:
    """Bytes that new processes can use here without swapping: what is free, and what a batch system gave this job."""
    job = job_memory()
    return min(limit.amount for limit in (free_memory(), job) if limit)


def free_memory() -> Limit:
    """Bytes that new processes can use here without swapping, within the limits of a container or control group."""
    found = [Limit(4 * 10**9, "a guess, since the system does not tell")]
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found = [Limit(int(fields["MemAvailable"].split()[0]) * 1024, "what is free")]
    except (OSError, KeyError, ValueError):
        pass
    for group in _control_groups():
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                free = int((group / limit).read_text()) - int((group / used).read_text())
                found.append(Limit(free, "what is left of its control group's memory"))
            except (OSError, ValueError):       # not of this version, or "max": no limit
                pass
    least = min(found, key=lambda limit: limit.amount)
    return least._replace(amount=max(least.amount, 10**8))


def job_memory(environment: Mapping[str, str] = os.environ) -> Optional[Limit]:
    """Bytes that a batch system gave to this job on this computer; None where it says nothing of it."""
    node = _whole(environment.get("SLURM_MEM_PER_NODE"))            # in MiB; 0 stands for all that the node has
    if node:
        return Limit(node * 2**20, "SLURM_MEM_PER_NODE")
    core = _whole(environment.get("SLURM_MEM_PER_CPU"))
    count = _whole(environment.get("SLURM_CPUS_ON_NODE")) or _whole(environment.get("SLURM_CPUS_PER_TASK")) or 1
    return Limit(core * count * 2**20, "SLURM_MEM_PER_CPU") if core else None


def _whole(text: Optional[str]) -> int:
    """A whole number; 0 where there is none."""
    return int(text) if text and text.isdigit() else 0


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

"""What a segmentation is asked for, and how that compares with an earlier run of the same output."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional

from .. import engines
from ..base.errors import UserError
from ..base.ranges import Pair
from ..volumes.paths import split_dataset


class Request(NamedTuple):
    """What is to be segmented and how; see ``python -m pycaffe_tools.segment --help``."""

    input: str
    out: str
    model: str
    slices: Optional[str] = None
    crop: Optional[str] = None
    axes: Optional[str] = None
    threshold: Optional[float] = None
    mask_out: Optional[str] = None
    overlay_out: Optional[str] = None
    mode: str = "dense"
    engine: str = "auto"
    tile: Optional[Pair] = None
    max_memory: Optional[int] = None
    workers: Optional[int] = None
    dtype: str = "float32"
    incomplete: bool = False
    force: bool = False


def _engine(request: Request) -> str:
    if request.mode == "patch":
        if request.engine not in ("auto", "caffe"):
            raise UserError(f"--mode patch: runs in Caffe, not in engine {request.engine}; leave --engine out")
        return "patch"
    return engines.default_name() if request.engine == "auto" else request.engine


def _fingerprint(path: str) -> Dict[str, int]:
    """Size and latest time of change of an input, in bytes and nanoseconds."""
    file, _ = split_dataset(path)
    files = [found for found in file.rglob("*") if found.is_file()] if file.is_dir() else [file]
    stats = [found.stat() for found in files]
    return {"bytes": sum(stat.st_size for stat in stats), "modified": max(stat.st_mtime_ns for stat in stats)}

"""Faster loops for the training of Caffe's CPU build, with results that are the same to the last bit.

Two fifths of an iteration of N are multiplications in BLAS; most of the rest
are four plain loops of Caffe (the maximum of a pooling, its im2col and
col2im, the gradient of a ReLU), which its builds leave without the
processor's vectors.  ``loops.cpp`` holds them in vectors.  Compiled on this
machine, it is preloaded into ``caffe train``, which calls it in place of its
own.  A build of Caffe that it does not know runs as it always did.

    python -m pycaffe_tools.nets.running.loops

compiles it, if it is not there.  ``PYCAFFE_TOOLS_LOOPS=0`` leaves Caffe's own
loops in place.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Dict

from ....base.errors import UserError
from ....base.host import compiler
from ....base.host.blas import processor_flags

SOURCE = Path(__file__).resolve().parent / "loops.cpp"
CHOICE = "PYCAFFE_TOOLS_LOOPS"

# No contraction to fused operations, which round once where Caffe rounds twice.
_FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
          "-fno-threadsafe-statics", "-Wno-psabi", "-Wno-unknown-pragmas"]


def available() -> bool:
    """Whether this is a system that the loops are written for."""
    return sys.platform.startswith("linux") and platform.machine() == "x86_64"


def library_path() -> Path:
    """Where the library lies in the user's cache, or would lie once built; another one for each kind of processor."""
    return compiler.folder_of("loops", [SOURCE], _FLAGS, sorted(processor_flags())) / "loops.so"


def build() -> Path:
    """Compile the loops, if they are not there yet.

    Raises
    ------
    UserError : no compiler works here, or the cache cannot be written.
    """
    path = library_path()
    compiler.build("Caffe's loops", [compiler.Library(SOURCE, _FLAGS, path)])
    return path


def loops_environment() -> Dict[str, str]:
    """Variables that give a new Caffe process the loops; none where they cannot be compiled, or are not wanted."""
    if not available() or os.environ.get(CHOICE) == "0":
        return {}
    try:
        path = build()
    except UserError:       # training goes without, only slower
        return {}
    if any(sign in str(path) for sign in " :"):      # would end the name there
        return {}
    return {"LD_PRELOAD": ":".join(filter(None, [str(path), os.environ.get("LD_PRELOAD")]))}


def main() -> int:
    """Compile, and say what came of it."""
    if not available():
        return 0
    path = library_path()
    return compiler.build_and_say(build, path.exists(), f"faster loops for Caffe's training: built in {path.parent}",
                                  "without them training takes about twice as long")


if __name__ == "__main__":
    sys.exit(main())

"""Compiles the native engine's sources, once for each kind of processor that this machine may be.

    python -m pycaffe_tools.engines.native.build

The libraries lie in the user's cache (XDG_CACHE_HOME/pycaffe-tools/native), in a folder named by a hash of the sources.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Dict, List, Optional

from ...base.host import compiler

SOURCE = Path(__file__).resolve().parent / "source"

_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-ffinite-math-only", "-fno-signed-zeros",
          "-fvisibility=hidden", "-Wno-psabi", "-Wno-unknown-pragmas"]

# Kinds of processors, the fastest first, and the compiler's options for each.
_KINDS_X86: Dict[str, List[str]] = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"],
    "avx2": ["-mavx2", "-mfma"],
    "plain": [],
}

LOST = "without it segmentation runs in ONNX Runtime or Caffe, at half to a quarter of the speed"


def kinds() -> Dict[str, List[str]]:
    """Kinds of processors that a library is built for here, the fastest first, with the compiler's options."""
    return _KINDS_X86 if platform.machine() in ("x86_64", "AMD64") else {"plain": []}


def library_path(kind: str) -> Path:
    """Where the library for a kind of processor lies, or would lie once built."""
    sources = [path for path in SOURCE.iterdir() if path.suffix in (".h", ".cpp")]
    return compiler.folder_of("native", sources, _FLAGS, kinds(), platform.machine(), sys.platform) / f"dense-{kind}.so"


def _paths(folder: Optional[Path]) -> List[Path]:
    return [folder / library_path(kind).name if folder else library_path(kind) for kind in kinds()]


def build(folder: Optional[Path] = None) -> List[Path]:
    """Build what is not there yet.

    Parameters
    ----------
    folder : where to; by default the user's cache.

    Returns
    -------
    The libraries, one for each kind of processor.

    Raises
    ------
    UserError : no compiler works here, or the folder cannot be written.
    """
    paths = _paths(folder)
    compiler.build("native engine", [compiler.Library(SOURCE / "run.cpp", _FLAGS + flags, path)
                                     for flags, path in zip(kinds().values(), paths)])
    return paths


def main() -> int:
    """Build what is missing and say so, or in a line what is lost where that fails."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    paths = _paths(folder)
    there = all(path.exists() for path in paths) and folder is None
    return compiler.build_and_say(lambda: build(folder), there,
                                  f"native engine: built for {', '.join(kinds())} in {paths[0].parent}", LOST)


if __name__ == "__main__":
    sys.exit(main())

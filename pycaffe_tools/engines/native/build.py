"""Compiles the native engine's sources, once for each kind of processor that this machine may be.

    python -m pycaffe_tools.engines.native.build

The compiler is the one that CXX names, the system's, or the one that the Python package ziglang brings, whichever
works first.  The libraries lie in the user's cache (XDG_CACHE_HOME/pycaffe-tools/native), in a folder named by a hash
of the sources, and are whole or not there at all, however many processes build them at the same time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from ...base.errors import UserError

SOURCE = Path(__file__).resolve().parent / "source"

_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-ffinite-math-only", "-fno-signed-zeros",
          "-fvisibility=hidden", "-fPIC", "-shared", "-Wno-psabi", "-Wno-unknown-pragmas"]

# Kinds of processors, the fastest first, and the compiler's options for each.
_KINDS_X86: Dict[str, List[str]] = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"],
    "avx2": ["-mavx2", "-mfma"],
    "plain": [],
}

LOST = "without it segmentation runs in ONNX Runtime or Caffe, at half to a quarter of the speed"

_TIMEOUT = 300


def kinds() -> Dict[str, List[str]]:
    """Kinds of processors that a library is built for here, the fastest first, with the compiler's options."""
    return _KINDS_X86 if platform.machine() in ("x86_64", "AMD64") else {"plain": []}


def library_path(kind: str) -> Path:
    """Where the library for a kind of processor lies, or would lie once built."""
    name = f"dense-{kind}.so"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pycaffe-tools" / "native" / _fingerprint() / name


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
    paths = [folder / library_path(kind).name if folder else library_path(kind) for kind in kinds()]
    missing = [(kind, path) for kind, path in zip(kinds(), paths) if not path.exists()]
    if missing:
        try:
            missing[0][1].parent.mkdir(parents=True, exist_ok=True)
            _build_with_any_compiler(missing)
        except OSError as error:
            raise UserError(f"{missing[0][1].parent}: cannot be written ({error.strerror}); "
                            f"set XDG_CACHE_HOME to a folder that can") from None
    return paths


def _build_with_any_compiler(missing: List[Tuple[str, Path]]) -> None:
    said = []
    for compiler in _compilers():
        try:
            for kind, path in missing:
                _compile(compiler, kind, path)
            return
        except _CompilerFailed as failure:
            said.append(f"{compiler[0] if len(compiler) == 1 else ' '.join(map(os.path.basename, compiler))}: {failure}")
    tried = "; ".join(said) or "there is none"
    raise UserError(f"native engine: no C++ compiler works here ({tried}); install g++ or clang, or `pip install ziglang`")


class _CompilerFailed(Exception):
    """The text says how, in a few words."""


def _compilers() -> Iterator[List[str]]:
    """Commands to try, in this order."""
    if os.environ.get("CXX"):
        yield shlex.split(os.environ["CXX"])
    for name in ("g++", "clang++", "c++"):
        found = shutil.which(name)
        if found:
            yield [found]
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "c++"]


def _compile(compiler: List[str], kind: str, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(suffix=".so", prefix=f".{path.stem}.partial-", dir=str(path.parent))
    os.close(handle)
    try:
        # The C++ library goes in where that is possible, so that the result runs on machines that have another one.
        command = compiler + _FLAGS + kinds()[kind] + [str(SOURCE / "run.cpp"), "-o", temporary]
        if "ziglang" not in compiler and sys.platform.startswith("linux"):
            command += ["-static-libstdc++", "-static-libgcc"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=_TIMEOUT)
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if "error" in line] or done.stdout.splitlines()[-1:]
            raise _CompilerFailed(errors[0].strip()[:200] if errors else f"exit code {done.returncode}")
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CompilerFailed(str(error)[:200]) from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _fingerprint() -> str:
    """Hash of all that the libraries are made from."""
    digest = hashlib.sha256(repr((_FLAGS, kinds(), platform.machine(), sys.platform)).encode())
    for path in sorted(SOURCE.iterdir()):
        if path.suffix in (".h", ".cpp"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def main() -> int:
    """Build what is missing and say so, or in a line what is lost where that fails."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    there = all(library_path(kind).exists() for kind in kinds()) and folder is None
    try:
        paths = build(folder)
    except UserError as error:
        print(f"{error}; {LOST}", file=sys.stderr)
        return 1
    if not there:
        print(f"native engine: built for {', '.join(kinds())} in {paths[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A C++ compiler of this machine: shared libraries in the user's cache, whole or not there at all.

The compiler is the one that CXX names, the system's, or the one that the Python package ziglang brings, whichever
works first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, NamedTuple, Sequence

from ..errors import UserError
from ..files import cache_folder

_TIMEOUT = 300


class Library(NamedTuple):
    """One library to build from one source file."""

    source: Path
    flags: Sequence[str]
    path: Path


def folder_of(name: str, sources: Iterable[Path], *further: object) -> Path:
    """A folder of the user's cache that is named by a hash of all that a library is made from."""
    digest = hashlib.sha256(repr(further).encode())
    for source in sorted(sources):
        digest.update(source.name.encode() + source.read_bytes())
    return cache_folder() / name / digest.hexdigest()[:16]


def build(what: str, libraries: Sequence[Library]) -> None:
    """Build the libraries that are not there, with the first compiler that can.

    Several processes may do it at the same time.

    Parameters
    ----------
    what : what they are for, the beginning of the sentence when no compiler works.

    Raises
    ------
    UserError : no compiler works here, or a folder cannot be written.
    """
    missing = [library for library in libraries if not library.path.exists()]
    if not missing:
        return
    try:
        for library in missing:
            library.path.parent.mkdir(parents=True, exist_ok=True)
        _with_any_compiler(what, missing)
    except OSError as error:
        raise UserError(f"{missing[0].path.parent}: cannot be written ({error.strerror}); "
                        f"set XDG_CACHE_HOME to a folder that can") from None


def build_and_say(build_them: Callable[[], object], there: bool, built: str, lost: str) -> int:
    """For a command line: build, and say so where something was not there yet; where it fails, say why and what is lost.

    Parameters
    ----------
    build_them : builds the libraries, or raises UserError.
    there : whether all of them are there already.
    built : the sentence when they are built.
    lost : the end of the sentence when they cannot be.

    Returns
    -------
    The exit code.
    """
    try:
        build_them()
    except UserError as error:
        print(f"{error}; {lost}", file=sys.stderr)
        return 1
    if not there:
        print(built)
    return 0


def _with_any_compiler(what: str, missing: Sequence[Library]) -> None:
    said = []
    for compiler in compilers():
        try:
            for library in missing:
                _compile(compiler, library)
            return
        except _CompilerFailed as failure:
            said.append(f"{compiler[0] if len(compiler) == 1 else ' '.join(map(os.path.basename, compiler))}: {failure}")
    tried = "; ".join(said) or "there is none"
    raise UserError(f"{what}: no C++ compiler works here ({tried}); install g++ or clang, or `pip install ziglang`")


class _CompilerFailed(Exception):
    """The text says how, in a few words."""


def compilers() -> Iterator[List[str]]:
    """Commands to try, in this order."""
    if os.environ.get("CXX"):
        yield shlex.split(os.environ["CXX"])
    for name in ("g++", "clang++", "c++"):
        found = shutil.which(name)
        if found:
            yield [found]
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "c++"]


def _compile(compiler: List[str], library: Library) -> None:
    path = library.path
    handle, temporary = tempfile.mkstemp(suffix=".so", prefix=f".{path.stem}.partial-", dir=str(path.parent))
    os.close(handle)
    try:
        # The C++ library goes in where that is possible, so that the result runs on machines that have another one.
        command = compiler + [*library.flags, "-fPIC", "-shared", str(library.source), "-o", temporary]
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

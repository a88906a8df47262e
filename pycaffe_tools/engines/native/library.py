"""The compiled library and its plain C interface, by ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from typing import List, Optional

import numpy as np

from ...base.errors import UserError
from .build import LOST, build, kinds, library_path
from .program import VERSION, Program

CHOICE = "PYCAFFE_TOOLS_NATIVE"
"""Environment variable that chooses the kind of processor to use: avx512, avx2 or plain."""

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


def available() -> bool:
    """Whether a library that this processor runs is there; builds none."""
    try:
        return _library() is not None
    except UserError:
        return False


def prepare() -> None:
    """Build the libraries where they are missing; a failure is told on standard error, and is not tried again."""
    if library_path("plain").exists():
        return
    failed = library_path("plain").with_name("failed")
    if failed.exists():
        return
    try:
        print("native engine: building it, once", file=sys.stderr)
        build()
    except UserError as error:
        print(f"{error}; {LOST}", file=sys.stderr)
        try:
            failed.touch()
        except OSError:
            pass


def kinds_here() -> List[str]:
    """Kinds of processors whose libraries are built and run here, the fastest first."""
    if not library_path("plain").exists():
        return []
    return [kind for kind in kinds() if library_path(kind).exists() and _runs(kind)]


def _runs(kind: str) -> bool:
    # Asked of the plain library: that of another kind may hold instructions that this processor lacks.
    try:
        return bool(_load("plain").native_runs(kind.encode()))
    except OSError:
        return False


@functools.lru_cache(maxsize=None)
def _load(kind: str) -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path(kind)))
    library.native_runs.argtypes = [ctypes.c_char_p]
    library.native_program.restype = _POINTER
    library.native_program.argtypes = [_POINTER, _LONG, _POINTER, _LONG]
    library.native_free_program.argtypes = [_POINTER]
    library.native_free_program.restype = None
    library.native_workspace.restype = _POINTER
    library.native_workspace.argtypes = [_POINTER, _INT]
    library.native_free_workspace.argtypes = [_POINTER]
    library.native_free_workspace.restype = None
    library.native_run.argtypes = [_POINTER, _POINTER, _POINTER, _LONG, _LONG, _INT, _INT, _POINTER, _LONG, _INT, _INT]
    return library


def _library() -> Optional[ctypes.CDLL]:
    """The fastest library that runs here, or the one that is asked for; None where none is built."""
    here = kinds_here()
    chosen = os.environ.get(CHOICE)
    if chosen and chosen not in here:
        raise UserError(f"{CHOICE}={chosen}: this processor does not run it, or it is not built; choose one of "
                        f"{', '.join(here) or 'none'}")
    if not here:
        return None
    library = _load(chosen or here[0])
    return library if library.native_version() == VERSION else None


class Compiled:
    """A program in the library, ready to run.

    Raises
    ------
    UserError : the library is not there and cannot be built.
    """

    def __init__(self, program: Program):
        library = _library()
        if library is None:
            build()
            library = _library()
        if library is None:
            raise UserError("native engine: its libraries do not run on this processor; choose another --engine")
        self._library = library
        numbers = np.ascontiguousarray(program.numbers, np.int64)
        values = np.ascontiguousarray(program.values, np.float32)
        self._program = library.native_program(numbers.ctypes.data, len(numbers), values.ctypes.data, len(values))
        if not self._program:
            raise UserError("native engine: this net's program is refused; choose another --engine")

    def __del__(self) -> None:
        if getattr(self, "_program", None):
            self._library.native_free_program(self._program)

    def workspace(self, columns: int) -> Workspace:
        """Memory for strips of up to so many columns, for one thread at a time."""
        return Workspace(self, columns)

    def run(self, workspace: Workspace, grey: np.ndarray, out: np.ndarray) -> None:
        """Compute one strip.

        Parameters
        ----------
        workspace : of this program.
        grey : float32, channels x (h + n - 1) x (w + n - 1) for patches of n x n; columns contiguous.
        out : float32, h x w, columns contiguous; is overwritten.
        """
        assert grey.dtype == out.dtype == np.float32 and grey.strides[2] == out.strides[1] == 4
        size = grey.itemsize
        done = self._library.native_run(self._program, workspace.pointer, grey.ctypes.data, grey.strides[0] // size,
                                        grey.strides[1] // size, grey.shape[1], grey.shape[2], out.ctypes.data,
                                        out.strides[0] // size, out.shape[0], out.shape[1])
        assert done, "the strip is wider than its workspace"


class Workspace:
    """Memory of one thread, held by the library."""

    def __init__(self, compiled: Compiled, columns: int):
        self._compiled = compiled
        self.pointer = compiled._library.native_workspace(compiled._program, columns)
        if not self.pointer:
            raise MemoryError(f"native engine: no memory for strips of {columns} columns")

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self._compiled._library.native_free_workspace(self.pointer)

"""Files that are whole or not there at all.

A process may be killed at any instruction and a disk may fill up at any byte.
So whatever another step reads is written under a temporary name beside its
place, flushed to the disk, and renamed: a rename either happened or it did not.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Optional, Union

from .errors import UserError

PathLike = Union[str, "os.PathLike[str]"]

ABANDONED = 2 * 24 * 3600.0
"""Seconds without a change after which an unfinished file of another computer is taken for one that nobody writes any more."""

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""Folder of the package, wherever in it a module lies."""


def cache_folder() -> Path:
    """The user's folder for what was measured, compiled or fetched here, below XDG_CACHE_HOME; made by those that write."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pycaffe-tools"


def shipped(name: str) -> Path:
    """A file or folder that comes with the package but stands beside it in a checkout, such as ``data/datasets.json``.

    ``setup.py`` lists them; in an installed package they are below ``pycaffe_tools/shipped``.
    """
    installed = PACKAGE_ROOT / "shipped" / name
    return installed if installed.exists() else PACKAGE_ROOT.parent / name


def sha256(path: PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def refuse_existing(path: PathLike, force: bool = False, replaced: Optional[Iterable[str]] = None) -> None:
    """Raise :class:`UserError` if ``path`` exists (an empty folder does not count), unless ``force``.

    With ``replaced``, a folder that holds other entries than these is refused
    in spite of ``force``; see :func:`refuse_other_files`.
    """
    path = Path(path)
    occupied = any(path.iterdir()) if path.is_dir() else path.exists()
    if occupied and not force:
        raise UserError(f"{path}: exists already; choose another name, or pass --force to replace it")
    if occupied and replaced is not None:
        _refuse_file(path)
        refuse_other_files(path, replaced)


def refuse_inputs(out: PathLike, *inputs: Optional[PathLike]) -> None:
    """Raise :class:`UserError` if ``out`` is one of the inputs, or lies in an input folder; no option allows that."""
    place = Path(out).resolve()
    for path in inputs:
        if path is None:
            continue
        given = Path(path).resolve()
        if place == given or given in place.parents:
            raise UserError(f"{out}: is or lies in {path}, which is read; choose another name")


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file, and a folder is to be made; choose another name")


def require_ending(path: PathLike, ending: str) -> None:
    """Raise :class:`UserError` if a file to be written is not called ``*ending``, by which programs know its kind."""
    if Path(path).suffix.lower() != ending:
        raise UserError(f"{path}: would not be known for what it is; give a name that ends in {ending}")


@contextmanager
def atomic_file(path: PathLike, tidy: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix, since libraries choose formats by it.
    What killed processes left of the same file is removed (see :func:`_abandoned`);
    not if ``tidy`` is false, for folders of so many files that they are looked
    through once (:func:`remove_abandoned`) and not for each of them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _abandoned(path, path.stem, path.suffix) if tidy else ():
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.stem}.partial-{_owner()}{path.suffix}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def atomic_directory(path: PathLike, force: bool = False, replaced: Iterable[str] = ()) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; rename it to ``path`` if the block succeeds.

    Folders that killed processes left behind are removed.  An existing
    ``path`` is refused, or with ``force`` replaced, but only once the new
    content is complete, and only if the old one holds nothing but what the new
    one has as well, and the ``replaced`` entries.

    Raises
    ------
    UserError : ``path`` exists and ``force`` is not given, or it holds files that the new content does not replace.
    """
    path = Path(path)
    refuse_existing(path, force)
    _refuse_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _abandoned(path, path.name):
        shutil.rmtree(left, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.partial-{_owner()}")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush(file)
        _put_in_place(temporary, path, replaced)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_other_files(path: PathLike, replaced: Iterable[str]) -> None:
    """Raise :class:`UserError` if a folder holds more than the named entries; numbers in names do not count.

    ``--force`` is meant for the output of an earlier run, not for a folder of
    data that was named by mistake.
    """
    known = {re.sub(r"\d+", "#", name) for name in replaced}
    others = sorted(entry.name for entry in Path(path).iterdir() if re.sub(r"\d+", "#", entry.name) not in known)
    if others:
        raise UserError(f"{path}: holds other files ({', '.join(others[:3])}{' ...' if others[3:] else ''}), which "
                        f"--force would delete; choose another name, or move them away")


def _put_in_place(new: Path, path: Path, replaced: Iterable[str]) -> None:
    if not path.exists():
        os.replace(new, path)
        return
    refuse_other_files(path, [*replaced, *(entry.name for entry in new.iterdir())])
    # Killed in between, there is the old one under another name, never none.
    aside = path.with_name(f".{path.name}.replaced-{_owner()}")
    os.replace(path, aside)
    os.replace(new, path)
    shutil.rmtree(aside)


def write_text(path: PathLike, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: PathLike, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; key order is kept, so equal content is equal bytes."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Read a JSON file.

    Raises
    ------
    UserError : missing, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a file; check the path") from None
    except RecursionError:
        raise UserError(f"{path}: is not valid JSON (nested without end); write it again") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}); write it again") from None


def read_json_object(path: PathLike) -> Dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    UserError : missing, not JSON, or something else than an object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__} where a JSON object is expected; write it again")
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def flush(path: Path) -> None:
    """Have what was written to a file or a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _owner() -> str:
    """Who writes an unfinished file, and a token that nobody else has, as it stands in the file's name."""
    return f"{_computer()}-{os.getpid()}-{secrets.token_hex(4)}"


def whole_name(path: str) -> str:
    """The name that an unfinished file will have, in the place of its own."""
    return re.sub(r"\.([^/]*)\.partial-[^-/]+-\d+-[0-9a-f]{8}", r"\1", path)


def _computer() -> str:
    """What tells where a process number means something: the host's name, and a hash of its start and of the name space
    of processes, since containers on one host count their own."""
    told = socket.gethostname()
    for file, read in (("/proc/sys/kernel/random/boot_id", _first_line), ("/proc/self/ns/pid", os.readlink)):
        try:
            told += read(file)
        except OSError:         # not Linux, where the name has to do
            pass
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', socket.gethostname())[:16]}.{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def _first_line(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()


def _abandoned(path: Path, stem: str, suffix: str = "") -> Iterator[Path]:
    """Unfinished files of ``path`` that nobody writes any more.

    Of this computer, those whose process has ended.  Nothing can be asked
    about a process of another computer, so its file counts as abandoned when
    it has not changed for :data:`ABANDONED` seconds.
    """
    before = f".{stem}.partial-"
    for left in path.parent.glob(f"{glob.escape(before)}*{glob.escape(suffix)}"):
        if _is_abandoned(left, left.name[len(before):len(left.name) - len(suffix)]):
            yield left


def _is_abandoned(left: Path, owner: str) -> bool:
    computer, _, rest = owner.partition("-")
    process_id = rest.partition("-")[0]
    if computer == _computer() and process_id:
        return not _is_running(process_id)
    return time.time() - _last_change(left) > ABANDONED


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files in a folder that nobody writes any more."""
    for left in folder.glob(".*.partial-*"):
        if left.is_file() and _is_abandoned(left, left.name.rsplit(".partial-", 1)[1]):
            left.unlink(missing_ok=True)


def _last_change(path: Path) -> float:
    """Latest change of a file, or of anything in a folder, in seconds since 1970; now, if it is gone."""
    try:
        return max(entry.stat().st_mtime for entry in [path, *path.rglob("*")])
    except FileNotFoundError:
        return time.time()


def _is_running(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True

"""Downloads that resume, compare hashes and leave nothing half-written under the final name."""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..base.errors import UserError
from ..base.files import PathLike, sha256, write_json
from ..base.progress import Progress
from .catalogue import MANIFEST, files_of

TIMEOUT = 30.0
_PIECE = 1 << 18


def fetch(name: str, entry: Dict[str, Any], out: PathLike, mirror: Optional[str] = None) -> List[Path]:
    """Download the files of a data set that are not there yet.

    Parameters
    ----------
    name, entry : of :func:`known`.
    out : folder for the files and ``dataset.json``.
    mirror : folder (URL) to take the files from instead of their origin.

    Raises
    ------
    UserError : the terms allow no automatic download, the server cannot be
        reached, or what came is not what it should be.
    """
    if "by_hand" in entry:
        raise UserError(f"{name}: cannot be fetched from here, since {entry['by_hand']}; terms: {entry['licence']}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths, found = [], []
    for file in files_of(entry):
        url = f"{mirror.rstrip('/')}/{urllib.parse.quote(file['name'])}" if mirror else file["url"]
        path = download(url, out / file["name"], file["sha256"])
        found.append({"name": file["name"], "url": url, "sha256": sha256(path), "compared": file["sha256"] is not None})
        paths.append(path)
    described = {key: entry[key] for key in ("title", "page", "licence", "citation", "labels", "pixel_size_nm")}
    write_json(out / MANIFEST, {"name": name, **described, "files": found})
    return paths


def download(url: str, path: PathLike, expected: Optional[str] = None) -> Path:
    """Download one file, going on with what an earlier attempt left.

    The bytes so far stand in ``PATH.part``, and in ``PATH.part.json`` which
    URL and version of the file they are of; ``path`` appears when all is there
    and has the expected hash.

    Parameters
    ----------
    url : http or https.
    path : where to.
    expected : SHA-256, or None where none is known.

    Raises
    ------
    UserError : one sentence on what went wrong; the bytes so far are kept unless they are of another file.
    """
    path = Path(path)
    if path.is_file():
        _compare(path, path, expected, url)
        return path
    part, note = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    _receive(url, part, note)
    try:
        _compare(part, path, expected, url)
    except UserError:
        # The bytes are of another file: to go on with them would never end well.
        part.unlink()
        raise
    finally:
        note.unlink()
    os.replace(part, path)
    return path


def _compare(file: Path, path: Path, expected: Optional[str], url: str) -> None:
    if expected is not None:
        found = sha256(file)
        if found != expected:
            raise UserError(f"{path}: has SHA-256 {found}, but {expected} is expected of {url}; the file changed at its "
                            f"origin or on the way, remove it and try again or ask its authors")


def _receive(url: str, part: Path, note: Path) -> None:
    have = _bytes_so_far(url, part, note)
    headers = {"User-Agent": "pycaffe_tools"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = json.loads(note.read_text(encoding="utf-8"))["version"]
        # Of another version than the bytes that are there the server sends all.
        headers.update({"If-Range": version} if version else {})
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            goes_on = answer.status == 206
            have = have if goes_on else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            note.write_text(json.dumps({"url": url, "version": answer.headers.get("ETag")
                                        or answer.headers.get("Last-Modified")}), encoding="utf-8")
            with open(part, "ab" if goes_on else "wb") as stream:
                got = _copy(answer, stream, have, total, part.stem)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return      # the server has no more bytes: all were there already
        raise UserError(f"{url}: the server answers {error.code} ({error.reason}); check the address on the data set's "
                        f"page, or give another with --url") from None
    except (urllib.error.URLError, http.client.HTTPException, socket.timeout, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url}: cannot be read ({reason}); check the connection and the address, the same command goes "
                        f"on where it stopped") from None
    if total is not None and got != total:
        raise UserError(f"{url}: the connection ended after {got:,} of {total:,} bytes; the same command goes on from "
                        f"there")


def _bytes_so_far(url: str, part: Path, note: Path) -> int:
    """Length of what an earlier attempt at the same URL left; anything else is removed."""
    if part.is_file() and note.is_file():
        try:
            if json.loads(note.read_text(encoding="utf-8"))["url"] == url:
                return part.stat().st_size
        except (ValueError, KeyError, TypeError):
            pass
    for leftover in (part, note):
        if leftover.exists():
            leftover.unlink()
    return 0


def _copy(answer: Any, stream: Any, have: int, total: Optional[int], label: str) -> int:
    with Progress(total or 1, label, have) as progress:
        while True:
            try:
                piece = answer.read(_PIECE)
            except http.client.IncompleteRead as error:
                piece = error.partial
            if not piece:
                break
            stream.write(piece)
            have += len(piece)
            if total:
                progress.update(have, f"{have / 1e6:.0f} of {total / 1e6:.0f} MB")
        stream.flush()
        os.fsync(stream.fileno())
    return have

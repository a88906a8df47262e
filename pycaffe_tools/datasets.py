"""Public data sets: where they come from, under which terms, and how to get them.

The list is ``data/datasets.json``.  Downloads go on where they stopped, are
compared with a SHA-256 where one is known, and get their name only when they
are whole.  What a data set's terms keep from automatic download is told, not
fetched.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import click

from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.files import PACKAGE_ROOT, PathLike, read_json, sha256, write_json
from .base.progress import Progress
from .dataset_stacks import build_stacks

LIST = PACKAGE_ROOT.parent / "data" / "datasets.json"
MANIFEST = "dataset.json"
"""Beside the files: what they are, their terms, hashes as found."""

TIMEOUT = 30.0
_PIECE = 1 << 18


def known(path: PathLike = LIST) -> Dict[str, Dict[str, Any]]:
    """The data sets by name.

    Raises
    ------
    UserError : the list is not there.
    """
    return read_json(path)


def files_of(entry: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The files of a data set, where one line of the list may stand for a numbered series (``numbers``)."""
    found: List[Dict[str, Any]] = []
    for file in entry.get("files", []):
        for number in file.get("numbers", [None]):
            filled = {key: file[key] if number is None else file[key].format(number) for key in ("name", "url")}
            found.append({**filled, "sha256": file["sha256"]})
    return found


def terms(name: str, entry: Dict[str, Any]) -> List[str]:
    """What a user has to know before a download, in lines."""
    return [f"{name}: {entry['title']}", f"  page      {entry['page']}", f"  licence   {entry['licence']}",
            f"  cite      {entry['citation']}", f"  labels    {entry['labels']}", f"  split     {entry['split']}",
            f"  pixels    {' x '.join(f'{size:g}' for size in entry['pixel_size_nm'])} nm (z, y, x)"]


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


@click.group(context_settings=OPTIONS)
def cli() -> None:
    """Public data sets with labels: terms, citations, download.

    \b
    python -m pycaffe_tools.datasets list
    python -m pycaffe_tools.datasets fetch vnc -o data/vnc
    python -m pycaffe_tools.datasets stack vnc data/vnc -o data/em
    """


@cli.command("list", context_settings=OPTIONS)
def list_command() -> None:
    """What there is, with terms, citation, label coding and a sensible split."""
    for name, entry in known().items():
        how = "by hand: " + entry["by_hand"] if "by_hand" in entry else f"fetch {name}"
        click.echo("\n".join(terms(name, entry) + [f"  get it    {how}", ""]))


@cli.command("fetch", context_settings=OPTIONS)
@click.argument("name")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--url", "mirror", help="Folder to take the files from instead of their origin, such as a mirror.")
def fetch_command(name: str, out: Path, mirror: Optional[str]) -> None:
    """Download data set NAME; interrupted, the same command goes on."""
    entry = _entry(name)
    click.echo("\n".join(terms(name, entry)))
    for path in fetch(name, entry, out, mirror):
        click.echo(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {sha256(path)}")
    if any(file["sha256"] is None for file in entry["files"]):
        click.echo("No hash is known for some of these files, so they were not compared; theirs stand in "
                   f"{out / MANIFEST}")
    if "stacks" in entry:
        click.echo(f"python -m pycaffe_tools.datasets stack {name} {out} makes the stacks of the reproduction of it, and "
                   f"compares their pixels")


@cli.command("stack", context_settings=OPTIONS)
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--out", default=Path("data/em"), type=click.Path(path_type=Path), help="Folder for the stacks.")
@click.option("--force", is_flag=True, help="Replace stacks that exist.")
def stack_command(name: str, folder: Path, out: Path, force: bool) -> None:
    """Make the stacks that the reproduction reads of data set NAME, fetched into FOLDER.

    Each is written only if its pixels are those that the committed results
    were made from.
    """
    for path in build_stacks(name, _entry(name), folder, out, force):
        click.echo(f"wrote {path}")


def _entry(name: str) -> Dict[str, Any]:
    entries = known()
    if name not in entries:
        raise UserError(f"{name}: is no data set of the list; choose one of {', '.join(entries)}")
    return entries[name]


if __name__ == "__main__":
    run(cli, "datasets")

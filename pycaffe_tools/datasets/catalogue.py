"""Public data sets: where they come from, under which terms, and how to get them.

The list is ``data/datasets.json``.  Downloads go on where they stopped, are
compared with a SHA-256 where one is known, and get their name only when they
are whole.  What a data set's terms keep from automatic download is told, not
fetched.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ..base.files import PathLike, read_json, shipped

LIST = shipped("data/datasets.json")
MANIFEST = "dataset.json"
"""Beside the files: what they are, their terms, hashes as found."""


def known(path: PathLike = LIST) -> Dict[str, Dict[str, Any]]:
    """The data sets by name.

    Raises
    ------
    UserError : the list is not there.
    """
    entries: Dict[str, Dict[str, Any]] = read_json(path)
    return entries


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

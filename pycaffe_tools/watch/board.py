"""What the web page shows, as one process' threads hand it over: facts in, JSON out."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from .results import PREVIEW, Done, Results

SHOWN = 60
"""Finished slices of which the page tells."""


class Board:
    """The state of a watch, for its web page.

    Pictures have numbers, not names, in the page's addresses, so that no name of a file is part of an address.
    """

    def __init__(self, results: Results):
        self._results = results
        self._lock = threading.Lock()
        self._facts: Dict[str, Any] = {}
        self._slices: List[Dict[str, Any]] = []
        self._names: Dict[int, str] = {}
        self._next = 0

    def put(self, **facts: Any) -> None:
        """Replace facts."""
        with self._lock:
            self._facts.update(facts)

    def add(self, name: str, done: Done) -> None:
        """A slice is finished; one of the same name that was finished before is replaced."""
        record = done.record
        with self._lock:
            self._slices = [one for one in self._slices if one["name"] != name][1 - SHOWN:]
            self._slices.append({"name": name, "picture": self._next, "model": record["model"]["name"],
                                 "late": record["model"].get("role") != "model", "seconds": record["times"]["seconds"],
                                 "delay": record["times"]["delay"], "finished": record["times"]["finished"],
                                 "mean": record["grey"]["mean"], "std": record["grey"]["std"],
                                 "drift": record["grey"]["drift"], "membrane": record.get("membrane_fraction")})
            self._names[self._next] = name
            shown = {one["picture"] for one in self._slices}
            self._names = {number: its for number, its in self._names.items() if number in shown}
            self._next += 1

    def picture(self, number: int) -> Optional[Path]:
        """The small picture of a slice that the page shows; None if it shows none of that number."""
        with self._lock:
            name = self._names.get(number)
        return None if name is None else self._results.path(PREVIEW, name)

    def text(self, now: float) -> str:
        """All facts as JSON; ``now`` is seconds since 1970."""
        with self._lock:
            content: Mapping[str, Any] = {"now": now, **self._facts, "slices": self._slices}
            return json.dumps(content)

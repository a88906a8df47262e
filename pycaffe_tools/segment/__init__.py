"""Segmentation of whole stacks: planned, in tiles, resumable."""

from __future__ import annotations

from ..base.callable_package import make_callable

make_callable(__name__, "door:segment")

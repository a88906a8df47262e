"""Pruning to a network of Table 1, or to a budget."""

from __future__ import annotations

from ..base.callable_package import make_callable

make_callable(__name__, "door:prune")

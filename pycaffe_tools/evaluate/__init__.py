"""Scores of probability maps against labels."""

from __future__ import annotations

from ..base.callable_package import make_callable

make_callable(__name__, "evaluation:evaluate")

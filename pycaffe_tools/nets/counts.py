"""Numbers of features by layer, as users write them."""

from __future__ import annotations

from typing import Dict

from ..base.errors import UserError


def parse_counts(text: str, option: str = "--counts") -> Dict[str, int]:
    """Counts written as ``c1=30,c2=20,c3=10,fc4=10``.

    Parameters
    ----------
    text : the counts.
    option : what to call it in a message.

    Raises
    ------
    UserError : not of that form.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        counts = {name.strip(): int(count) for name, count in pairs}
        if len(counts) < len(pairs):
            raise ValueError
        return counts
    except ValueError:
        raise UserError(f"{option} {text}: write each layer once with its count, like c1=30,c2=20,c3=10,fc4=10") from None

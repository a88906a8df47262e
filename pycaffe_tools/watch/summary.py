"""How a watch ended."""

from __future__ import annotations

from typing import Dict, List, NamedTuple

LISTED = 10
"""Names and sentences of one kind that are shown."""


class Summary(NamedTuple):
    """How a watch ended; slices are named by their files."""

    why: str
    """In words."""
    complete: bool
    """Whether all that was asked for is there."""
    computed: List[str]
    before: List[str]
    """Finished by an earlier run."""
    late: List[str]
    """Of the computed ones, those made by the faster model."""
    again: List[str]
    """Of the computed ones, those whose file had been written again."""
    failed: Dict[str, str]
    waiting: List[str]
    """Not finished yet."""
    left: List[str]
    """With results, but not in the folder any more."""
    longest_delay: float
    """Seconds from the last change of a file to its results, at most."""

    def lines(self) -> List[str]:
        """For a person."""
        lines = [f"{len(self.computed) + len(self.before)} slices finished ({len(self.before)} of them before), "
                 f"{len(self.failed)} failed, {len(self.waiting)} not begun or given up",
                 f"the longest time from a slice to its results was {self.longest_delay:.1f} s"]
        for names, what in ((self.late, "made by the faster model"), (self.again, "computed again, since they were written again"),
                            (self.left, "with results, but not in the folder any more")):
            if names:
                lines.append(f"{len(names)} {what}: {listed(names)}")
        sentences = list(self.failed.values())
        return lines + sentences[:LISTED] + ([f"and {len(sentences) - LISTED} more"] if len(sentences) > LISTED else [])

    @property
    def lacking(self) -> str:
        """What is lacking, in words; empty if nothing is."""
        parts = [f"{len(self.failed)} slices failed ({listed(sorted(self.failed))})" if self.failed else "",
                 f"{len(self.waiting)} slices are not segmented ({listed(sorted(self.waiting))})" if self.waiting else ""]
        said = " and ".join(part for part in parts if part)
        return said or ("" if self.complete else "fewer slices came than --slices says")


def listed(names: List[str]) -> str:
    """Names, cut short where there are many."""
    return ", ".join(names[:LISTED]) + (" ..." if len(names) > LISTED else "")

"""Does the work keep up with the microscope, by how much does it fall behind, and which of two models comes next?"""

from __future__ import annotations

from statistics import median
from typing import List, Optional

from ..base.progress import duration

REMEMBERED = 9
"""Slices whose times count; the median of so many is not moved by one odd slice."""

BEHIND_FROM = 2
"""Slices waiting from which the work has fallen behind: one may always come while another is computed."""

LATE_FROM = 3
"""Slices waiting from which the faster model takes over, where the user does not say."""


class Pace:
    """Times of the last slices, and what follows from them.

    Parameters
    ----------
    late_from : slices waiting from which the faster model takes over; None where there is none.

    The first model comes back when no other slice waits than the one that is
    to be begun.  Between the two limits nothing changes, so that the models do
    not take turns.

    >>> pace = Pace(late_from=3)
    >>> [pace.choose(waiting) for waiting in (1, 2, 3, 2, 2, 1, 2)]
    [False, False, True, True, True, False, False]
    """

    def __init__(self, late_from: Optional[int] = None):
        self._late_from = late_from
        self.late = False
        self._arrivals: List[float] = []
        self._seconds: List[float] = []
        self._said = 0

    def choose(self, waiting: int) -> bool:
        """Whether the faster model makes the next slice, of ``waiting`` slices that are not begun, itself included."""
        if self._late_from is not None:
            self.late = waiting >= self._late_from or (self.late and waiting > 1)
        return self.late

    def arrived(self, clock: float) -> None:
        """A slice has come, at a time in seconds."""
        self._arrivals = [*self._arrivals, clock][-REMEMBERED:]

    def finished(self, seconds: float) -> None:
        """A slice has taken so long."""
        self._seconds = [*self._seconds, seconds][-REMEMBERED:]

    @property
    def interval(self) -> Optional[float]:
        """Seconds between two slices that come, the median of the last; None before two have."""
        gaps = [later - earlier for earlier, later in zip(self._arrivals, self._arrivals[1:])]
        return median(gaps) if gaps else None

    @property
    def seconds(self) -> Optional[float]:
        """Seconds that a slice takes, the median of the last; None before the first."""
        return median(self._seconds) if self._seconds else None

    def sentence(self, waiting: int, oldest: float) -> Optional[str]:
        """What is to be told of ``waiting`` slices, of which the oldest came ``oldest`` seconds ago; None if nothing is new.

        It is told when the work falls behind, whenever twice as many slices wait as when it was last told, and when it
        has caught up.
        """
        if waiting >= max(BEHIND_FROM, 2 * self._said):
            self._said = waiting
            rate = f"; a slice takes {self.seconds:.2g} s" if self.seconds is not None else ""
            if rate and self.interval is not None:
                rate += f", and one comes every {self.interval:.2g} s"
            return f"falls behind: {waiting} slices wait, the oldest for {duration(oldest)}{rate}"
        if self._said and not waiting:
            self._said = 0
            return "has caught up"
        return None

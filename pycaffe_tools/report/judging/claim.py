"""What is made of figures: one form of rule for every claim.

A claim names a range in which all of its figures have to lie:

- *reproduced*: every figure's interval, two-sided at 95 %, lies in the range.  Where a claim covers several figures, it
  is the whole claim that is right at 95 %: all of them have to pass (an intersection-union test).
- *not reproduced*: some figure's interval lies outside, at a level that holds for all figures of the claim together
  (Bonferroni: 1 - 0.05 / their number).
- *undecided*: neither.
- *not run*: there is no figure yet.

"At most" and "at least" with a margin are tests of non-inferiority, a range with two ends one of equivalence.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .figures import LEVEL, Figure

REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_RUN = "reproduced", "not reproduced", "undecided", "not run"


class Claim(NamedTuple):
    """A statement of the paper with its verdict, or a control that the paper lacks.

    Attributes
    ----------
    key : short name.
    text : the statement.
    rule : how it is judged.
    verdict : of the four above.
    figures : our numbers.
    paper : the paper's numbers, by the name of the figure, where it prints them.
    control : it is none of the paper's statements.
    reading : where one statement is judged in several ways, such as two readings of "sparsity", which way this is; it
        counts as one statement.
    why : what may explain that it does not hold.
    """

    key: str
    text: str
    rule: str
    verdict: str
    figures: List[Figure]
    paper: Mapping[str, float] = {}
    control: bool = False
    reading: Optional[str] = None
    why: Optional[str] = None

    @property
    def word(self) -> str:
        """The verdict for people: what is not in the paper is not reproduced but holds."""
        return {REPRODUCED: "holds", NOT_REPRODUCED: "does not hold"}.get(self.verdict, self.verdict) if self.control \
            else self.verdict

    @property
    def explanation(self) -> Optional[str]:
        """:attr:`why`, where the claim did not come out."""
        return self.why if self.verdict in (NOT_REPRODUCED, UNDECIDED) else None

    def as_dict(self) -> Dict[str, Any]:
        """For ``claims.json``."""
        return {"key": self.key, "text": self.text, "rule": self.rule, "verdict": self.verdict,
                "figures": [figure.as_dict() for figure in self.figures],
                "paper": {name: round(value, 4) for name, value in self.paper.items()}, "control": self.control,
                "reading": self.reading, "why": self.explanation}


def judge(figures: Sequence[Figure], low: float = -math.inf, high: float = math.inf, *,
          above: float = -math.inf) -> str:
    """The verdict on figures that have to lie from ``low`` to ``high`` and above ``above`` (which is outside)."""
    if not figures:
        return NOT_RUN
    together = 1 - (1 - LEVEL) / len(figures)
    for figure in figures:
        lower, upper = figure.interval(together)
        if upper < low or lower > high or upper <= above:
            return NOT_REPRODUCED
    if all(low <= lower and upper <= high and lower > above for lower, upper in (figure.interval() for figure in figures)):
        return REPRODUCED
    return UNDECIDED


def judged_on(names: Sequence[str], wanted: Sequence[str]) -> str:
    """For the text of a claim about several networks, where only some of them were run."""
    return f"; judged on {', '.join(names)} alone" if 0 < len(names) < len(wanted) else ""


def both(verdicts: Sequence[str]) -> str:
    """The verdict on a claim with several parts, each judged by a rule of its own."""
    for verdict in (NOT_REPRODUCED, NOT_RUN, UNDECIDED):
        if verdict in verdicts:
            return verdict
    return REPRODUCED


def statements(claims: Sequence[Claim]) -> Dict[str, str]:
    """Verdict of each distinct statement of the paper: of several readings their common one, else undecided."""
    found: Dict[str, List[str]] = {}
    for claim in claims:
        if not claim.control:
            found.setdefault(claim.key, []).append(claim.verdict)
    return {key: verdicts[0] if len(set(verdicts)) == 1 else UNDECIDED for key, verdicts in found.items()}

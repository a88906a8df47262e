"""When it is known that training from scratch does better than pruning at once: the rule and its source.

``results/epfl`` (report.md, "Controls"; claims.json; three seeds) compares networks pruned at once by loss with networks
of the same counts that were trained from random weights and had the same retraining: N6, with 51 % of the parameters,
is better pruned (92.28 against 92.01 %), N7, with 8 %, is better from scratch (91.13 against 91.74 %).  Between the two
nothing was measured, so nothing is said.
"""

from __future__ import annotations

from typing import Optional

from ..nets import paper
from ..nets.files.schema import parse_prototxt
from ..nets.netgraph import NetGraph

NET = "N7"
PRUNED, FROM_SCRATCH = 91.13, 91.74
"""Accuracies of N7 in percent, mean over the seeds; the tests hold them against ``results/epfl``."""


def known_share() -> float:
    """Share of the parameters of N that N7 has."""
    whole, left = (NetGraph(parse_prototxt(paper.deploy_prototxt(paper.counts_of(name), name))).parameter_count()
                   for name in ("N", NET))
    return left / whole


def warning(share: float, out: str) -> Optional[str]:
    """A sentence where a network pruned at once to so small a share of the parameters is known to be the worse one.

    Parameters
    ----------
    share : of the parameters that stay, 0 to 1.
    out : the pruned model directory.
    """
    if share > known_share():
        return None
    return (f"{100 * share:.1f} % of the parameters stay, and networks as small as {NET} ({100 * known_share():.1f} %) did better "
            f"trained from scratch than pruned at once ({FROM_SCRATCH} against {PRUNED} % in results/epfl): compare with "
            f"python -m pycaffe_tools.train {out} --data ... --out {out}-scratch, or prune in --rounds")

"""The warning that training from scratch does better stands on the committed results."""

import re

from pycaffe_tools.prune import scratch

from ..conftest import ROOT


def test_the_rule_says_what_the_results_say():
    report = (ROOT / "results" / "epfl" / "report.md").read_text()
    found = {(net, how): float(after) for net, how, after in re.findall(
        r"^\| (N\d) \| (by loss|trained from scratch) \| [\d,]+ \| [\d.]+ ± [\d.]+ \| ([\d.]+) ±", report, re.MULTILINE)}
    assert found[scratch.NET, "by loss"] == scratch.PRUNED < scratch.FROM_SCRATCH == found[scratch.NET, "trained from scratch"]
    # The next larger network is better pruned, so nothing is said between the two.
    assert found["N6", "by loss"] > found["N6", "trained from scratch"]


def test_it_warns_of_networks_as_small_as_that_alone():
    assert 0.07 < scratch.known_share() < 0.09
    assert scratch.warning(0.51, "x") is None and scratch.warning(scratch.known_share() + 0.001, "x") is None
    assert "trained from scratch" in scratch.warning(scratch.known_share(), "runs/N7-pruned")

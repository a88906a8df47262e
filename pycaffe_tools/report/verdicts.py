"""Which statements are judged, and how a verdict is shown."""

from __future__ import annotations

from typing import List

from .judging import accuracy, cost, maps, orders, retraining
from .judging.claim import NOT_RUN, Claim
from .markup import Verdict
from .results import Results


def judge_claims(results: Results) -> List[Claim]:
    """The statements of the paper, in its order, then the comparisons that a reviewer asks for."""
    of_paper = [
        retraining.best_patch_size(results), retraining.bottom_up(results), retraining.fewer_iterations(results),
        retraining.lower_rate(results), accuracy.not_influenced(results),
        orders.c1_alike(results), orders.raised(results, "c2", ("N2", "N6", "N7")), orders.alike_beyond_30(results),
        orders.raised(results, "c3", ("N2", "N3", "N6", "N7")), orders.steepness(results),
        cost.tables(results), accuracy.reaches_93(results),
        accuracy.keep_accuracy(results), accuracy.keep_accuracy(results, as_printed=True),
        accuracy.smallest_loses_two(results), accuracy.smallest_loses_two(results, as_printed=True),
        *(accuracy.is_competitive(results, criterion) for criterion in accuracy.TITLES),
        *(accuracy.better_smallest(results, criterion) for criterion in accuracy.TITLES),
        *(accuracy.gap_of_smallest(results, criterion, long) for long in (False, True) for criterion in accuracy.TITLES),
        cost.less_time(results), cost.less_memory(results), cost.faster(results, "patch"), cost.real_time(results, "patch"),
        maps.alike(results), maps.blurred(results), *(maps.noisier(results, criterion) for criterion in accuracy.TITLES)]
    controls = [*accuracy.controls(results), cost.faster(results, "dense"), cost.real_time(results, "dense")]
    # Of several readings, those that this reproduction has no runs for say nothing.
    run = {claim.key for claim in of_paper if claim.verdict != NOT_RUN}
    return [claim for claim in of_paper if claim.verdict != NOT_RUN or claim.key not in run] + controls


def shown(claim: Claim) -> Verdict:
    """A claim as a block of the page."""
    details = [f"Rule: {claim.rule}.", "Numbers: " + ("; ".join(figure.text() for figure in claim.figures) or "not run") + "."]
    if claim.paper:
        details.append("In the paper: " + "; ".join(f"{name} {value:.2f}" for name, value in claim.paper.items()) + ".")
    if claim.explanation:
        details.append(f"Why, presumably: {claim.explanation}")
    reading = f" ({claim.reading})" if claim.reading else ""
    return Verdict(claim.word, claim.text + reading, details)

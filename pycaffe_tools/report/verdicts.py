"""Which claims are judged, on which numbers, and what may explain the verdict."""

from __future__ import annotations

from typing import Dict, List, Optional

from . import claims
from .claims import Claim
from .markup import Verdict
from .results import CRITERIA, Results

SMALLEST = "N7"
SHARES = (0.4, 0.5, 0.6)
"""Shares of a layer's features, discarded, at which steepness is read."""


# -- claims ----------------------------------------------------------------------------------------------------

def judge_claims(results: Results) -> List[Claim]:
    """The claims of the paper, then the comparisons that a reviewer asks for."""
    trained = results.right("N", None)
    by = {criterion: {net: found for net in results.nets if net != "N" for found in [results.right(net, criterion)] if found}
          for criterion in CRITERIA}
    others = {net: found for net, found in by["loss"].items() if net != SMALLEST}
    smallest = {criterion: found.get(SMALLEST, {}) for criterion, found in by.items()}
    found = [claims.keeps_accuracy(trained, others), claims.loses_two_points(trained, smallest["loss"])]
    for reading, title in (("apoz", "APoZ"), ("l1", "L1")):
        found += [claims.is_competitive(by["loss"], by[reading], title),
                  claims.is_better(smallest["loss"], smallest[reading], title)]
    times = {net: time for net in ("N", SMALLEST) for time in [results.time(net)] if time}
    if len(times) == 2:
        for how in ("patch", "dense"):
            pair = [(times[net][how]["seconds"], times[net][how]["longest"]) for net in ("N", SMALLEST)]
            found.append(claims.is_faster(pair[0], pair[1], times["N"][how]["repetitions"], dense=how == "dense"))
    found.append(claims.layers_differ(rises(results)))
    like_smallest = f"none-like-{SMALLEST}"
    as_long = like_smallest if results.iterations("N", like_smallest) else "none"
    found += [claims.keeps_accuracy(results.right("N", "none"), others, control=True),
              claims.loses_two_points(results.right("N", as_long), smallest["loss"], control=True)]
    for criterion, title in (("random", f"{SMALLEST} with features chosen at random"),
                             ("scratch", f"{SMALLEST} trained from scratch")):
        if results.iterations(SMALLEST, criterion) is not None:
            found.append(claims.is_better(smallest["loss"], smallest[criterion], title, control=True))
    return sorted(found, key=lambda claim: claim.control)


def rises(results: Results) -> Dict[float, List[Dict[str, float]]]:
    """For each share of discarded features, and each seed, the rise of the loss by layer.

    Taken from the orderings of N7, whose layers are all ordered beyond the largest share.
    """
    found = [orderings["layers"] for seed in results.plan["scale"]["seeds"]
             for orderings in [results.orderings(f"{SMALLEST}-loss-s{seed}-pruned")] if orderings]
    return {share: [{name: layer["loss"][round(share * layer["features"]) - 1] - layer["loss_before"]
                     for name, layer in layers.items()} for layers in found] for share in SHARES}


def _reason(claim: Claim, results: Results) -> Optional[str]:
    """What may explain that a claim of the paper was not reproduced, from the numbers where they tell."""
    if claim.key in ("N1-N6", "N7"):
        like = claim.key if results.iterations("N", f"none-like-{claim.key}") else None
        trained, again = results.accuracies("N", None), results.accuracies("N", f"none-like-{like}" if like else "none")
        dark = results.result("darkness-main")
        both = sorted(set(trained) & set(again))
        if not both or dark is None:
            return None
        change = sum(again[seed] - trained[seed] for seed in both) / len(both)
        text = (f"N itself, retrained without pruning for as long as {like or 'N1 to N6'}, changes by {change:+.2f} points; that much "
                f"of a difference is the retraining's. ")
        if claim.key == "N1-N6":
            return text + "The controls compare with N retrained likewise."
        reached = sum(trained.values()) / len(trained)
        return text + (f"N reaches {reached:.2f} % here, and grey values alone {100 * dark['accuracy']:.2f} %: between them "
                       f"there is less to lose or to win than where N was trained for longer on more slices.")
    if claim.key.startswith("competitive"):
        return ("A network whose features were chosen without looking at the loss starts retraining from a worse place; "
                "with the paper's unknown, longer retraining the criteria may come closer.")
    if claim.key == "faster":
        return ("The paper's times are of a GPU, where small layers leave units idle; on one core the time follows the "
                "multiplications, of which N7 has an eighth.")
    if claim.key == "faster-dense":
        return ("Dense evaluation shares work between neighbouring patches, most of it in the lower layers, and reads and "
                "writes maps whose cost does not shrink with the multiplications.")
    if claim.key == "steepness":
        return "Where the curves are compared is arbitrary; Figure 3 shows all of them."
    if claim.key.startswith("control-") and "scratch" in claim.key:
        return ("Of weights of which 92 % are gone little remains to begin with. That small networks trained from scratch "
                "keep up with pruned ones was also found by Liu et al., arXiv:1810.05270, for larger networks.")
    return None


def _verdict(claim: Claim, results: Results) -> Verdict:
    numbers = "; ".join(f"{figure.name} {figure.value:.2f} ± {figure.uncertainty:.2f}"
                        + (f" ({figure.samples})" if figure.samples > 1 else "") for figure in claim.figures)
    details = [f"Rule: {claim.rule}.", f"Numbers: {numbers or 'not run'}."]
    if claim.paper:
        details.append("In the paper: " + "; ".join(f"{name} {value:.2f}" for name, value in claim.paper.items()) + ".")
    if claim.cautious not in (None, claim.verdict):
        details.append(f"This depends on the deviation that networks with one seed are given: with the largest one among the "
                       f"networks of the claim instead of the nearest one's, it is {claim.cautious}.")
    if claim.verdict in (claims.NOT_REPRODUCED, claims.UNDECIDED):
        reason = _reason(claim, results)
        details += [f"Why, presumably: {reason}"] if reason else []
    return Verdict(claim.word, claim.text, details)

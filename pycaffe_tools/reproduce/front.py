"""Which way of making a small network is best at which budget: the runs of the front.

Every way gets the same total of training: N's, and then one retraining's, by the time it has a network.

=============  ==================================================================================
``layers``     pruned at once, layer by layer from the bottom up (the paper)
``global``     pruned at once, in one order of all layers
``gradual``    the same, in rounds of pruning and retraining
``apoz``       pruned at once by the average fraction of zeros
``l1``         pruned at once by the L1 norm
``uniform``    all layers of N made narrower by one factor, trained from random weights
=============  ==================================================================================

Names: ``front-global-m250-s1`` keeps 250 in 1,000 of the multiply-accumulates of N's dense net; ``...-pruned`` before retraining.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Dict, List, Sequence

from ..dense_plan.plan import make_plan
from ..nets import paper
from ..nets.files.schema import parse_prototxt
from ..nets.netgraph import NetGraph
from .nodes import START, Maker, Node

WAYS = ("layers", "global", "gradual", "apoz", "l1", "uniform")
ROUNDS = 3


def front(maker: Maker, shares: Sequence[float], seeds: Sequence[int]) -> List[Node]:
    """All runs of the front: budgets are shares of the multiply-accumulates of N's dense net."""
    found: List[Node] = []
    for seed in seeds:
        for share in shares:
            for way in WAYS:
                found += _made(maker, way, share, seed)
    models = [node.name for node in found if node.kind == "model" and node.facts["step"] == "retrained"]
    for seed in seeds:
        names = [f"N-s{seed}"] + [name for name in models if name.endswith(f"-s{seed}")]
        command = ("timing", *("{runs}/" + name for name in names), "--dense-only", "--by-folder", "-o",
                   "{runs}/front-timing-s" + f"{seed}.json", "--force")
        found.append(Node(f"front-timing-s{seed}", "front", "timing", (command,), f"front-timing-s{seed}.json", tuple(names),
                          START + 20 * len(names), {"seed": seed}, alone=True))
    return found


def _made(maker: Maker, way: str, share: float, seed: int) -> List[Node]:
    name = f"front-{way}-m{1000 * share:.0f}-s{seed}"
    facts = {"network": "front", "criterion": way, "budget": share, "seed": seed}
    retraining = maker.scale.retrain_iterations or paper.RETRAINING.max_iter
    if way == "uniform":
        counts = uniform(share)
        iterations = (maker.scale.train_iterations or paper.TRAINING.max_iter) + retraining
        return [_in_front(maker.train("", name, seed, iterations=iterations, facts={**facts, "step": "retrained"},
                                      work=share, counts=counts))]
    prune = ["prune", "--from", "{runs}/" + f"N-s{seed}", "--data", "{runs}/data-" + maker.patches(seed), "--target-macs",
             f"{share:g}", *maker.sample(seed)]
    if way in ("global", "gradual"):
        prune += ["--global", "--cost", "macs"]
    elif way in ("apoz", "l1"):
        prune += ["--criterion", way]
    source, data = f"N-s{seed}", maker.patches(seed)
    lock = (f"front-orderings-{way}-s{seed}", f"orderings-{way if way in ('apoz', 'l1') else 'loss'}-s{seed}")
    if way == "gradual":
        prune += ["--rounds", str(ROUNDS), "--retrain-iterations", str(retraining), "--retrain-seed", str(seed),
                  "--retrain-tests", "1", "--out", "{runs}/" + name]
        seconds = maker.seconds(retraining, share) + 60.0 * ROUNDS
        return [Node(name, "front", "model", (tuple(prune),), f"{name}/model.json", (source,), seconds,
                     {**facts, "step": "retrained", "before": source, "data": data, "iterations": retraining,
                      "base_lr": paper.RETRAINING.base_lr}, resumes=True, locks=lock)]
    pruned = Node(f"{name}-pruned", "front", "model", ((*prune, "--out", "{runs}/" + f"{name}-pruned"),),
                  f"{name}-pruned/model.json", (source,), 120.0,
                  {**facts, "step": "pruned", "before": source, "data": data}, locks=lock)
    return [pruned, _in_front(maker.train("{runs}/" + f"{name}-pruned", name, seed, start=f"{name}-pruned",
                                          facts={**facts, "step": "retrained"}, work=share))]


def _in_front(node: Node) -> Node:
    return node._replace(stage="front")


@lru_cache(maxsize=None)
def uniform(share: float) -> Dict[str, int]:
    """Counts of N made narrower by the one factor whose dense net takes at most a share of N's multiply-accumulates."""
    whole = _multiply_accumulates(paper.counts_of("N"))
    low, high = 0.0, 1.0
    for _ in range(9):      # finer than a feature
        middle = (low + high) / 2
        low, high = (middle, high) if _multiply_accumulates(_narrower(middle)) <= share * whole else (low, middle)
    return _narrower(low)


def _narrower(factor: float) -> Dict[str, int]:
    return {layer: max(1, round(factor * count)) for layer, count in paper.counts_of("N").items()}


def _multiply_accumulates(counts: Dict[str, int]) -> float:
    return make_plan(NetGraph(parse_prototxt(paper.deploy_prototxt(counts, "N")))).multiply_accumulates()

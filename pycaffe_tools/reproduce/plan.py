"""The reproduction as data: data sets, scales, and the runs with what each one needs.

Nothing is run here; :mod:`pycaffe_tools.reproduce` does that.  A run is a
:class:`~pycaffe_tools.reproduce.nodes.Node`: commands of this package, the file that is there when they are
done, and the nodes that have to be done before.  Paths hold ``{runs}`` (the
store) and ``{em}`` (the folder of stacks), so a store may be moved.

Names of nodes are names of folders in the store:

=======================  ===========================================================================
``N-s1``                 N trained with seed 1
``N-s1-again``           the same, retrained without pruning: the control for what retraining alone does
``N-s1-again-like-N7``   the same, for as long as N7, where N7 is retrained for longer than the others
``N7-loss-s1``           N-s1 pruned to N7 by the loss and retrained; ``...-pruned`` before retraining
``N7-loss-s1-long``      the same, retrained anew for longer
``N7-loss-s1-rate1e-3``  the same, retrained at this initial rate; ``N7-fresh-s1-...`` from random weights instead
``N7-top-down-s1``       likewise, layers pruned from the top (``separate``: each on the whole network)
``N7-scratch-s1``        N7 trained from random weights and retrained; ``...-trained`` before retraining
``N-second-s1``          N on the second definition of positives and negatives
``N-n40-s1``             N on patches of 40 x 40
``N-s1-i1000``           N trained for 1,000 iterations: a point of the learning curve
``right-N-s1``           which validation patches N-s1 classifies right
``front-...``            see :mod:`.front`
``draw2-b20-s1``         the layers of N-s1 ordered on a second draw, of 20 mini-batches
``data-main-s1``         patches of seed 1, where each seed holds out slices of its own
=======================  ===========================================================================
"""

from __future__ import annotations

from typing import List

from .catalogue import DATA_SETS, FIRST, SCORES, Scale, scale_of
from .front import front
from .nodes import Maker, Node


def plan(data_set: str, scale: str) -> List[Node]:
    """All runs of a reproduction, those that matter most first; each after what it needs.

    Parameters
    ----------
    data_set : of :data:`DATA_SETS`.
    scale : of :data:`SCALES`.

    Raises
    ------
    UserError : there is no such scale or data set.
    """
    numbers, described = scale_of(data_set, scale), DATA_SETS[data_set]
    maker = Maker(numbers, described)
    found = []
    for name in sorted({maker.patches(seed) for seed in numbers.seeds}):
        found += [maker.database(name, described.main), maker.darkness(name)]
    found += [maker.train("N", f"N-s{seed}", seed) for seed in numbers.seeds]
    found += _with_folds(maker, numbers) if numbers.folds else _on_one_split(maker, numbers)
    found += [maker.right(node) for node in found if _is_compared(node)]
    return found + front(maker, numbers.front, numbers.front_seeds)


def _on_one_split(maker: Maker, scale: Scale) -> List[Node]:
    """All of Table 2 from the first seed; from further ones what tells the spread."""
    found = _curve(maker, scale)
    for criterion in ("loss",) + SCORES:
        # The deepest cut first: it makes the orderings of which the others need less.
        for net in sorted(scale.nets, reverse=True):
            found += maker.pruned(net, criterion, FIRST)
    found += maker.again(FIRST)
    if maker.data_set.second:
        found += [maker.database("second", maker.data_set.second), maker.darkness("second"),
                  maker.train("N", f"N-second-s{FIRST}", FIRST, data="second")]
    for net in scale.controls:
        found += maker.pruned(net, "random", FIRST) + maker.scratch(net, FIRST)
    found += [maker.segment(run) for run in _shown(scale, FIRST)] + _measured(maker, scale)
    for seed in scale.seeds[1:]:
        for criterion in ("loss",) + SCORES + ("random",):
            for net in sorted(scale.controls, reverse=True):
                found += maker.pruned(net, criterion, seed)
        for net in scale.controls:
            found += maker.scratch(net, seed)
        found += maker.again(seed)
    return found


def _with_folds(maker: Maker, scale: Scale) -> List[Node]:
    """Everything from every seed, each with slices of its own held out: what decides most first, then seed by seed."""
    found: List[Node] = []
    if not scale.nets:
        return _curve(maker, scale)
    smallest, others = scale.nets[-1], [net for net in scale.nets if net not in scale.controls]
    for criterion in ("loss", "scratch") + SCORES + ("random",):
        for seed in scale.seeds:
            for net in sorted(scale.controls, reverse=True):
                found += maker.scratch(net, seed) if criterion == "scratch" else maker.pruned(net, criterion, seed)
            found += maker.again(seed) if criterion == "loss" else []
    for seed in scale.seeds:
        for net in sorted(others, reverse=True):
            found += maker.pruned(net, "loss", seed)
    for seed in scale.seeds:
        found += [maker.longer(net, criterion, seed, iterations) for net, iterations in scale.long_retraining
                  for criterion in ("loss",) + SCORES]
        found += [maker.at_rate(smallest, seed, rate, kept) for rate in scale.rates for kept in (True, False)]
        for direction in scale.directions:
            for net in sorted(scale.controls, reverse=True):
                found += maker.pruned(net, "loss", seed, direction)
        found += [maker.segment(run, seed) for run in _shown(scale, seed)]
    found += _measured(maker, scale)
    for seed in scale.seeds[:scale.sparsity_seeds]:
        for criterion in SCORES:
            for net in sorted(others, reverse=True):
                found += maker.pruned(net, criterion, seed)
    for size in scale.patch_sizes:
        for seed in scale.patch_size_seeds:
            found += maker.of_size(size, seed)
    return found


def _curve(maker: Maker, scale: Scale) -> List[Node]:
    return [maker.train("N", f"N-s{FIRST}-i{length}", FIRST, iterations=length, facts={"criterion": "curve"})
            for length in scale.curve]


def _shown(scale: Scale, seed: int) -> List[str]:
    """Runs whose networks segment whole slices."""
    by_loss = scale.nets if seed == FIRST else scale.controls
    return ([f"N-s{seed}"] + [f"{net}-loss-s{seed}" for net in by_loss]
            + [f"{net}-{criterion}-s{seed}" for net in scale.nets[-1:] for criterion in SCORES])


def _measured(maker: Maker, scale: Scale) -> List[Node]:
    """Times, and Figure 3's curves of N, with as many further draws of mini-batches as the scale asks for."""
    found = [maker.timing([f"N-s{FIRST}"] + [f"{net}-loss-s{FIRST}" for net in scale.nets])]
    if scale.figure_3:
        found += [maker.orderings(seed) for seed in (scale.seeds if scale.figure_3_of_every_seed else (FIRST,))]
    return found + [maker.draw(FIRST, number, batches) for batches, draws in scale.draws for number in range(1, draws + 1)]


_COMPARED = (None, "loss", *SCORES, "random", "scratch", "none")


def _is_compared(node: Node) -> bool:
    """Whether claims compare patch by patch what this run's network classifies right."""
    facts = node.facts
    return (node.kind == "model" and facts["data"] != "second"
            and (facts["criterion"] in _COMPARED or str(facts["criterion"]).startswith("none-like-"))
            and (facts["step"] == "retrained" or (facts["step"] == "trained" and facts["criterion"] is None)))

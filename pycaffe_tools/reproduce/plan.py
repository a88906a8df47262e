"""The reproduction as data: data sets, scales, and the runs with what each one needs.

Nothing is run here; :mod:`pycaffe_tools.reproduce` does that.  A run is a
:class:`Node`: commands of this package, the file that is there when they are
done, and the nodes that have to be done before.  Paths hold ``{runs}`` (the
store) and ``{em}`` (the folder of stacks), so a store may be moved.

Names of nodes are names of folders in the store:

======================  ===========================================================================
``N-s1``                N trained with seed 1
``N-s1-again``          the same, retrained without pruning: the control for what retraining alone does
``N-s1-again-like-N7``  the same, for as long as N7, where N7 is retrained for longer than the others
``N7-loss-s1``          N-s1 pruned to N7 by the loss and retrained; ``...-pruned`` before retraining
``N7-scratch-s1``       N7 trained from random weights and retrained; ``...-trained`` before retraining
``N-second-s1``         N on the second definition of positives and negatives
``right-N-s1``          which validation patches N-s1 classifies right
``N-s1-i1000``          N trained for 1,000 iterations: a point of the learning curve
``data-main-s1``        patches of seed 1, where each seed holds out slices of its own
======================  ===========================================================================
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..nets import paper
from .catalogue import DATA_SETS, FIRST, SCORES, SEGMENTED, DataSet, Definition, Fold, Scale, scale_of


class Node(NamedTuple):
    """One run.

    Attributes
    ----------
    name : also its folder or file in the store.
    stage : of :data:`STAGES`.
    kind : what it makes: database, baseline, model, orderings, correctness, segmentation or timing.
    commands : module and arguments of each command, in order.
    output : file that is there when all is done, below ``{runs}``.
    needs : nodes that have to be done before.
    seconds : rough estimate on one core.
    facts : what the report has to know: network, criterion, seed, step, iterations ...
    resumes : whether the commands go on with what an interrupted run left; otherwise it is removed first.
    locks : nodes that share one do not run at the same time.
    alone : nothing else may run beside it, since it measures time.
    """

    name: str
    stage: str
    kind: str
    commands: Tuple[Tuple[str, ...], ...]
    output: str
    needs: Tuple[str, ...]
    seconds: float
    facts: Dict[str, Any]
    resumes: bool = False
    locks: Tuple[str, ...] = ()
    alone: bool = False


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
    return _Planner(scale_of(data_set, scale), DATA_SETS[data_set]).nodes()


# Measured on one core of a current processor, for estimates only.
_N_ITERATION = 0.48
_N_PATCH = 0.0013
_START = 4.0

# A patch of the ordering of all layers by loss, and of the same without c1 or by a score.
_ORDER_ALL, _ORDER_REST, _ORDER_SCORE = 0.055, 0.012, 0.006
_PIXEL = 2e-5


class _Planner:
    def __init__(self, scale: Scale, data: DataSet):
        self.scale, self.data = scale, data
        multiply_adds = {name: _multiply_adds(name) for name in paper.NAMES}
        # A part of an iteration does not shrink with the network.
        self.work = {name: 0.08 + 0.92 * count / multiply_adds["N"] for name, count in multiply_adds.items()}

    def nodes(self) -> List[Node]:
        scale, found = self.scale, []
        first_retrained = [f"{net}-loss-s{FIRST}" for net in scale.nets]
        for name in sorted({self._data(seed) for seed in scale.seeds}):
            found += [self._database(name, self.data.main), self._darkness(name)]
        found += [self._train("N", f"N-s{seed}", seed) for seed in scale.seeds]
        found += [self._train("N", f"N-s{FIRST}-i{length}", FIRST, iterations=length, facts={"criterion": "curve"})
                  for length in scale.curve]
        for criterion in ("loss",) + SCORES:
            # The deepest cut first: it makes the orderings of which the others need less.
            for net in sorted(scale.nets, reverse=True):
                found += self._pruned(net, criterion, FIRST)
        found += self._again(FIRST)
        if self.data.second and not scale.folds:
            found += [self._database("second", self.data.second), self._darkness("second"),
                      self._train("N", f"N-second-s{FIRST}", FIRST, data="second")]
        for net in scale.controls:
            found += self._pruned(net, "random", FIRST) + self._scratch(net, FIRST)
        shown = [f"N-s{FIRST}"] + first_retrained
        shown += [f"{net}-{criterion}-s{FIRST}" for net in scale.nets[-1:] for criterion in SCORES]
        found += [self._segment(run) for run in shown]
        found += [self._timing([f"N-s{FIRST}"] + first_retrained)]
        if scale.figure_3:
            found += [self._orderings(FIRST)]
        # Further seeds tell the spread of everything that the claims compare.
        for seed in scale.seeds[1:]:
            for criterion in ("loss",) + SCORES + ("random",):
                for net in sorted(scale.controls, reverse=True):
                    found += self._pruned(net, criterion, seed)
            for net in scale.controls:
                found += self._scratch(net, seed)
            found += self._again(seed)
        return found + [self._right(node) for node in found if _is_compared(node)]

    def _data(self, seed: int) -> str:
        """Name of the patches that a seed trains on."""
        return f"main-s{seed}" if self.scale.folds else "main"

    def _split(self, name: str) -> Tuple[Fold, str, str]:
        """Slices of a database, in words, and the seed that draws its patches."""
        data = self.data
        if not self.scale.folds:
            return Fold(data.slices or "", data.val_slices, data.shown), data.split, "0"
        seed = name.rsplit("-s", 1)[1]
        fold = data.folds[self.scale.folds[self.scale.seeds.index(int(seed))]]
        return fold, f"seed {seed} holds out pages {fold.val_slices} of {fold.slices}", seed

    # -- one kind of node each ---------------------------------------------------------------------------------

    def _database(self, name: str, definition: Definition) -> Node:
        data, scale = self.data, self.scale
        fold, split, seed = self._split(name)
        command = ["patches", "{em}/" + data.raw, "{em}/" + definition.labels, "{runs}/data-" + name, "--labels-are",
                   "membrane", "--val-slices=" + fold.val_slices, "--train", str(scale.train_patches), "--val",
                   str(scale.val_patches), "--seed", seed]
        command += [f"--slices={fold.slices}"] if fold.slices else []
        command += ["--exclude", "{em}/" + definition.exclude] if definition.exclude else []
        facts = {"definition": definition.text, "split": split}
        return Node(f"data-{name}", "data", "database", (tuple(command),), f"data-{name}/patches.json", (),
                    _START + 2e-4 * (scale.train_patches + scale.val_patches), facts)

    def _darkness(self, name: str) -> Node:
        command = ("darkness", "{runs}/data-" + name, "-o", "{runs}/darkness-" + name + ".json", "--force")
        return Node(f"darkness-{name}", "data", "baseline", (command,), f"darkness-{name}.json", (f"data-{name}",),
                    _START + 5e-5 * self.scale.train_patches, {})

    def _train(self, net: str, name: str, seed: int, data: Optional[str] = None, start: Optional[str] = None,
               facts: Optional[Dict[str, Any]] = None, like: Optional[str] = None,
               iterations: Optional[int] = None) -> Node:
        """Training, or from ``start`` retraining, which is as long as that of the network ``like``."""
        scale, data = self.scale, data or self._data(seed)
        iterations = iterations or (self._retraining(like or net) if start else scale.train_iterations)
        command = ["train", net, "--data", "{runs}/data-" + data, "--out", "{runs}/" + name, "--resume", "--seed",
                   str(seed)]
        command += ["--weights", "{runs}/" + start] if start else []
        command += ["--max-iter", str(iterations)] if iterations else []
        rate = scale.retrain_rate if start else None
        command += ["--base-lr", str(rate)] if rate else []
        command += ["--tests", str(scale.tests)] if scale.tests != 5 else []
        schedule = paper.RETRAINING if start else paper.TRAINING
        length = iterations or schedule.max_iter
        seconds = _START + self.work[net] * (length * _N_ITERATION + (scale.tests + 2) * scale.val_patches * _N_PATCH)
        facts = {"network": net, "criterion": None, "seed": seed, "step": "trained", "before": start, "data": data,
                 "iterations": length, "base_lr": rate or schedule.base_lr, **(facts or {})}
        return Node(name, "retrain" if start else "train", "model", (tuple(command),), f"{name}/model.json",
                    (start,) if start else (f"data-{data}",), seconds, facts, resumes=True)

    def _retraining(self, net: str) -> Optional[int]:
        return dict(self.scale.retrain_longer).get(net, self.scale.retrain_iterations)

    def _again(self, seed: int) -> List[Node]:
        """N retrained without pruning, as long as each of the pruned networks is."""
        found = {}
        for net in self.scale.nets:
            usual = self._retraining(net) == self.scale.retrain_iterations
            name = f"N-s{seed}-again" + ("" if usual else f"-like-{net}")
            facts = {"criterion": "none" if usual else f"none-like-{net}", "step": "retrained"}
            found[name] = self._train("N", name, seed, start=f"N-s{seed}", facts=facts, like=net)
        return list(found.values())

    def _right(self, node: Node) -> Node:
        name, facts = f"right-{node.name}", node.facts
        command = ("correctness", "{runs}/" + node.name, "--data", "{runs}/data-" + facts["data"], "-o",
                   "{runs}/" + name + ".json", "--force")
        seconds = _START + self.work[facts["network"]] * self.scale.val_patches * _N_PATCH
        return Node(name, "segment", "correctness", (command,), f"{name}.json", (node.name,), seconds,
                    {"run": node.name, **{key: facts[key] for key in ("network", "criterion", "seed")}})

    def _scratch(self, net: str, seed: int) -> List[Node]:
        name = f"{net}-scratch-s{seed}"
        facts = {"criterion": "scratch"}
        return [self._train(net, f"{name}-trained", seed, facts=facts),
                self._train(net, name, seed, start=f"{name}-trained", facts={**facts, "step": "retrained"})]

    def _pruned(self, net: str, criterion: str, seed: int) -> List[Node]:
        scale, name, source = self.scale, f"{net}-{criterion}-s{seed}", f"N-s{seed}"
        patches = scale.batches * scale.batch_size
        full = scale.figure_3 and criterion == "loss" and seed == FIRST
        command = ["prune", net, "--from", "{runs}/" + source, "--data", "{runs}/data-" + self._data(seed), "--out",
                   "{runs}/" + name + "-pruned", "--criterion", criterion, *self._sample(seed)]
        command += ["--full-order"] if full else []
        seconds = _START + self.work[net] * scale.val_patches * _N_PATCH
        if criterion == "loss":
            deepest = net == max(scale.nets)
            seconds += patches * (_ORDER_ALL if deepest else _ORDER_REST)
        else:
            seconds += patches * _ORDER_SCORE
        facts = {"network": net, "criterion": criterion, "seed": seed, "step": "pruned", "before": source,
                 "data": self._data(seed)}
        pruned = Node(f"{name}-pruned", "prune", "model", (tuple(command),), f"{name}-pruned/model.json",
                      (source,), seconds, facts, locks=(f"orderings-{criterion}-s{seed}",))
        return [pruned, self._train(net, name, seed, start=f"{name}-pruned",
                                    facts={"criterion": criterion, "step": "retrained"})]

    def _sample(self, seed: int) -> List[str]:
        """Options of everything that orders features of N of one seed, so that all share one set of mini-batches."""
        return ["--batches", str(self.scale.batches), "--batch-size", str(self.scale.batch_size), "--seed", str(seed),
                "--workers", "1", "--max-memory", "3G", "--cache", "{runs}/orderings-s" + str(seed)]

    def _orderings(self, seed: int) -> Node:
        name = f"figure3-s{seed}"
        command = ("ordering", "{runs}/N-s" + str(seed), "--data", "{runs}/data-" + self._data(seed), "--all-layers",
                   *self._sample(seed), "-o", "{runs}/" + name)
        seconds = _START + self.scale.batches * self.scale.batch_size * _ORDER_REST
        return Node(name, "segment", "orderings", (command,), f"{name}/fc4.json", (f"N-s{seed}",), seconds,
                    {"network": "N", "criterion": "loss", "seed": seed}, locks=(f"orderings-loss-s{seed}",))

    def _segment(self, run: str) -> Node:
        data, name, shown = self.data, f"segment-{run}", self._split(self._data(FIRST))[0].shown
        slices = ",".join(str(number) for number in shown)
        output = "{runs}/" + name + "/" + SEGMENTED
        segment = ("segment", "{em}/" + data.raw, "-o", output, "--model", "{runs}/" + run, f"--slices={slices}",
                   "--dtype", "uint8", "--workers", "1")
        score = ["evaluate", output, "{em}/" + data.main.labels, f"--slices={slices}", "--rand", "--json",
                 "{runs}/" + name + "/scores.json", "--force"]
        score += ["--exclude", "{em}/" + data.main.exclude] if data.main.exclude else []
        seconds = 2 * _START + self.work[run.split("-")[0]] * len(shown) * 800_000 * _PIXEL
        return Node(name, "segment", "segmentation", (segment, tuple(score)), f"{name}/scores.json", (run,), seconds,
                    {"run": run, "slices": list(shown)}, resumes=True)

    def _timing(self, runs: List[str]) -> Node:
        command = ("timing", *("{runs}/" + run for run in runs), "-o", "{runs}/timing.json", "--force", *self.scale.timing)
        return Node("timing", "segment", "timing", (command,), "timing.json", tuple(runs), _START + 20 * len(runs),
                    {}, alone=True)


def same_commands(commands: Sequence[Sequence[str]]) -> List[List[str]]:
    """Commands without the options that change how fast they are and not what they make."""
    return [[part for number, part in enumerate(command)
             if not {part, *command[max(number - 1, 0):number]} & {"--workers", "--max-memory"}]
            for command in commands]


def _is_compared(node: Node) -> bool:
    """Whether claims compare the accuracy of this run with others'."""
    facts = node.facts
    return (node.kind == "model" and facts["data"] != "second"
            and (facts["step"] == "retrained" or (facts["step"] == "trained" and facts["criterion"] is None)))


def _multiply_adds(net: str) -> int:
    from ..nets.files.schema import parse_prototxt
    from ..nets.netgraph import NetGraph
    return NetGraph(parse_prototxt(paper.deploy_prototxt(paper.counts_of(net), net))).multiply_accumulates()

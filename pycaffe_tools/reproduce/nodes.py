"""The runs of a reproduction, one kind each: which command makes it, of what, and how long that may take."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..nets import paper
from .catalogue import FIRST, SEGMENTED, DataSet, Definition, Fold, Scale, rate_name


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


def same_commands(commands: Sequence[Sequence[str]]) -> List[List[str]]:
    """Commands without the options that change how fast they are and not what they make."""
    return [[part for number, part in enumerate(command)
             if not {part, *command[max(number - 1, 0):number]} & {"--workers", "--max-memory"}]
            for command in commands]


# Measured on one core of a current processor, for estimates only.
_N_ITERATION = 0.23
_N_PATCH = 0.0013
START = 4.0

# A patch of the ordering of all layers by loss, and of the same without c1 or by a score.
_ORDER_ALL, _ORDER_REST, _ORDER_SCORE = 0.055, 0.012, 0.006
_PIXEL = 2e-5


class Maker:
    """Makes the nodes of one data set and scale."""

    def __init__(self, scale: Scale, data_set: DataSet):
        self.scale, self.data_set = scale, data_set
        multiply_adds = {name: _multiply_adds(name) for name in paper.NAMES}
        # A part of an iteration does not shrink with the network.
        self.work = {name: 0.08 + 0.92 * count / multiply_adds["N"] for name, count in multiply_adds.items()}

    def patches(self, seed: int) -> str:
        """Name of the patches that a seed trains on."""
        return f"main-s{seed}" if self.scale.folds else "main"

    def split(self, name: str) -> Tuple[Fold, str, str]:
        """Slices of a database, in words, and the seed that draws its patches."""
        data = self.data_set
        if not self.scale.folds:
            return Fold(data.slices or "", data.val_slices, data.shown), data.split, "0"
        seed = name.rsplit("-s", 1)[1]
        fold = data.folds[self.scale.folds[self.scale.seeds.index(int(seed))]]
        return fold, f"seed {seed} holds out pages {fold.val_slices} of {fold.slices}", seed

    # -- one kind of node each ---------------------------------------------------------------------------------

    def database(self, name: str, definition: Definition, patch_size: Optional[int] = None) -> Node:
        data, scale = self.data_set, self.scale
        fold, split, seed = self.split(name)
        command = ["patches", "{em}/" + data.raw, "{em}/" + definition.labels, "{runs}/data-" + name, "--labels-are",
                   "membrane", "--val-slices=" + fold.val_slices, "--train", str(scale.train_patches), "--val",
                   str(scale.val_patches), "--seed", seed]
        command += [f"--slices={fold.slices}"] if fold.slices else []
        command += ["--exclude", "{em}/" + definition.exclude] if definition.exclude else []
        command += ["--patch-size", str(patch_size)] if patch_size else []
        facts = {"definition": definition.text, "split": split}
        return Node(f"data-{name}", "data", "database", (tuple(command),), f"data-{name}/patches.json", (),
                    START + 2e-4 * (scale.train_patches + scale.val_patches), facts)

    def darkness(self, name: str) -> Node:
        command = ("darkness", "{runs}/data-" + name, "-o", "{runs}/darkness-" + name + ".json", "--force")
        return Node(f"darkness-{name}", "data", "baseline", (command,), f"darkness-{name}.json", (f"data-{name}",),
                    START + 5e-5 * self.scale.train_patches, {})

    def train(self, net: str, name: str, seed: int, data: Optional[str] = None, start: Optional[str] = None,
              facts: Optional[Dict[str, Any]] = None, like: Optional[str] = None,
              iterations: Optional[int] = None, rate: Optional[float] = None, work: Optional[float] = None,
              counts: Optional[Mapping[str, int]] = None) -> Node:
        """Training, or from ``start`` retraining, which is as long as that of the network ``like``.

        ``counts`` are those of a network of no name; ``work`` is that of an iteration, as a share of N's.
        """
        scale, data = self.scale, data or self.patches(seed)
        iterations = iterations or (self.retraining(like or net) if start else scale.train_iterations)
        named = ["--counts", ",".join(f"{layer}={count}" for layer, count in counts.items())] if counts else [net]
        command = ["train", *named, "--data", "{runs}/data-" + data, "--out", "{runs}/" + name, "--resume", "--seed",
                   str(seed)]
        command += ["--weights", "{runs}/" + start] if start else []
        command += ["--max-iter", str(iterations)] if iterations else []
        rate = rate or (scale.retrain_rate if start else None)
        command += ["--base-lr", str(rate)] if rate else []
        tests = scale.retrain_tests if start and scale.retrain_tests else scale.tests
        command += ["--tests", str(tests)] if tests != 5 else []
        schedule = paper.RETRAINING if start else paper.TRAINING
        length = iterations or schedule.max_iter
        seconds = self.seconds(length, self.work[net] if work is None else work, tests)
        facts = {"network": net, "criterion": None, "seed": seed, "step": "trained", "before": start, "data": data,
                 "iterations": length, "base_lr": rate or schedule.base_lr, **(facts or {})}
        return Node(name, "retrain" if start else "train", "model", (tuple(command),), f"{name}/model.json",
                    (start,) if start else (f"data-{data}",), seconds, facts, resumes=True)

    def seconds(self, iterations: int, work: float, tests: int = 2) -> float:
        """Estimate for a training whose iterations take a share of the work of N's."""
        return START + work * (iterations * _N_ITERATION + (tests + 2) * self.scale.val_patches * _N_PATCH)

    def retraining(self, net: str) -> Optional[int]:
        return dict(self.scale.retrain_longer).get(net, self.scale.retrain_iterations)

    def again(self, seed: int) -> List[Node]:
        """N retrained without pruning, as long as each of the pruned networks is."""
        found = {}
        for net in self.scale.nets:
            usual = self.retraining(net) == self.scale.retrain_iterations
            name = f"N-s{seed}-again" + ("" if usual else f"-like-{net}")
            facts = {"criterion": "none" if usual else f"none-like-{net}", "step": "retrained"}
            found[name] = self.train("N", name, seed, start=f"N-s{seed}", facts=facts, like=net)
        return list(found.values())

    def right(self, node: Node) -> Node:
        name, facts = f"right-{node.name}", node.facts
        command = ("correctness", "{runs}/" + node.name, "--data", "{runs}/data-" + facts["data"], "-o",
                   "{runs}/" + name + ".json", "--force")
        seconds = START + self.work[facts["network"]] * self.scale.val_patches * _N_PATCH
        return Node(name, "segment", "correctness", (command,), f"{name}.json", (node.name,), seconds,
                    {"run": node.name, **{key: facts[key] for key in ("network", "criterion", "seed")}})

    def transfer(self, other: str, scale: str, run: str, seed: int) -> Node:
        """A network of another data set, whose store lies beside this one, on the validation patches of this one."""
        name, data = f"from-{other}-{run}", self.patches(seed)
        command = ("correctness", "{runs}/../" + f"{other}-{scale}/{run}", "--data", "{runs}/data-" + data, "-o",
                   "{runs}/" + f"{name}.json", "--force")
        facts = {"run": run, "network": run.split("-")[0], "criterion": f"from-{other}", "seed": seed}
        return Node(name, "transfer", "correctness", (command,), f"{name}.json", (f"data-{data}",),
                    START + self.scale.val_patches * _N_PATCH, facts)

    def scratch(self, net: str, seed: int) -> List[Node]:
        name = f"{net}-scratch-s{seed}"
        facts = {"criterion": "scratch"}
        return [self.train(net, f"{name}-trained", seed, facts=facts),
                self.train(net, name, seed, start=f"{name}-trained", facts={**facts, "step": "retrained"})]

    def pruned(self, net: str, criterion: str, seed: int, direction: Optional[str] = None) -> List[Node]:
        """N pruned by a criterion (or by the loss, layers following each other in another direction), and retrained."""
        way = direction or criterion
        scale, name, source = self.scale, f"{net}-{way}-s{seed}", f"N-s{seed}"
        patches = scale.batches * scale.batch_size
        full = scale.figure_3 and way == "loss" and (seed == FIRST or scale.figure_3_of_every_seed)
        command = ["prune", net, "--from", "{runs}/" + source, "--data", "{runs}/data-" + self.patches(seed), "--out",
                   "{runs}/" + name + "-pruned", "--criterion", criterion, *self.sample(seed)]
        command += ["--full-order"] if full else []
        command += ["--direction", direction] if direction else []
        seconds = START + self.work[net] * scale.val_patches * _N_PATCH
        if criterion == "loss":
            deepest = net == max(scale.nets)
            seconds += patches * (_ORDER_ALL if deepest or direction else _ORDER_REST)
        else:
            seconds += patches * _ORDER_SCORE
        facts = {"network": net, "criterion": way, "seed": seed, "step": "pruned", "before": source,
                 "data": self.patches(seed)}
        pruned = Node(f"{name}-pruned", "prune", "model", (tuple(command),), f"{name}-pruned/model.json",
                      (source,), seconds, facts, locks=(f"orderings-{criterion}-s{seed}",))
        return [pruned, self.train(net, name, seed, start=f"{name}-pruned",
                                    facts={"criterion": way, "step": "retrained"})]

    def longer(self, net: str, criterion: str, seed: int, iterations: int) -> Node:
        """A pruned network retrained anew for longer: does it still gain?"""
        name = f"{net}-{criterion}-s{seed}"
        return self.train(net, f"{name}-long", seed, start=f"{name}-pruned", iterations=iterations,
                          facts={"criterion": f"{criterion}-long", "step": "retrained"})

    def at_rate(self, net: str, seed: int, rate: float, kept: bool) -> Node:
        """A pruned network retrained at another rate, with the weights that it kept or with random ones."""
        text = f"rate{rate_name(rate)}"
        if kept:
            return self.train(net, f"{net}-loss-s{seed}-{text}", seed, start=f"{net}-loss-s{seed}-pruned", rate=rate,
                              facts={"criterion": f"loss-{text}", "step": "retrained"})
        return self.train(net, f"{net}-fresh-s{seed}-{text}", seed, rate=rate,
                          iterations=self.retraining(net) or paper.RETRAINING.max_iter,
                          facts={"criterion": f"fresh-{text}"})

    def of_size(self, size: int, seed: int) -> List[Node]:
        """N on patches of another size: its database and its training."""
        data = f"n{size}-s{seed}"
        return [self.database(data, self.data_set.main, size),
                self.train("N", f"N-{data}", seed, data=data, facts={"criterion": f"n{size}"},
                           work=(size / paper.PATCH_SIZE) ** 2)]

    def draw(self, seed: int, number: int, batches: int) -> Node:
        """All layers of N ordered on another draw of mini-batches: how much of an order is chance?"""
        name = f"draw{number}-b{batches}-s{seed}"
        command = ("ordering", "{runs}/N-s" + str(seed), "--data", "{runs}/data-" + self.patches(seed), "--all-layers",
                   *self.sample(seed, number, batches), "-o", "{runs}/" + name)
        seconds = START + batches * self.scale.batch_size * _ORDER_ALL
        return Node(name, "segment", "orderings", (command,), f"{name}/fc4.json", (f"N-s{seed}",), seconds,
                    {"network": "N", "criterion": "loss", "seed": seed, "draw": number, "batches": batches})

    def sample(self, seed: int, draw: Optional[int] = None, batches: Optional[int] = None) -> List[str]:
        """Options of everything that orders features of N of one seed, so that all share one set of mini-batches.

        ``draw`` takes another set, of as many ``batches``.
        """
        return ["--batches", str(batches or self.scale.batches), "--batch-size", str(self.scale.batch_size), "--seed",
                str(seed if draw is None else 1000 * draw + seed), "--workers", "1", "--max-memory", "3G", "--cache",
                "{runs}/orderings-s" + str(seed)]

    def orderings(self, seed: int) -> Node:
        name = f"figure3-s{seed}"
        command = ("ordering", "{runs}/N-s" + str(seed), "--data", "{runs}/data-" + self.patches(seed), "--all-layers",
                   *self.sample(seed), "-o", "{runs}/" + name)
        seconds = START + self.scale.batches * self.scale.batch_size * _ORDER_REST
        return Node(name, "segment", "orderings", (command,), f"{name}/fc4.json", (f"N-s{seed}",), seconds,
                    {"network": "N", "criterion": "loss", "seed": seed}, locks=(f"orderings-loss-s{seed}",))

    def segment(self, run: str, seed: int = FIRST) -> Node:
        """Validation slices segmented by a run's network, and scored."""
        data, name, shown = self.data_set, f"segment-{run}", self.split(self.patches(seed))[0].shown
        slices = ",".join(str(number) for number in shown)
        output = "{runs}/" + name + "/" + SEGMENTED
        segment = ("segment", "{em}/" + data.raw, "-o", output, "--model", "{runs}/" + run, f"--slices={slices}",
                   "--dtype", "uint8", "--workers", "1")
        score = ["evaluate", output, "{em}/" + data.main.labels, f"--slices={slices}", "--rand", "--json",
                 "{runs}/" + name + "/scores.json", "--force"]
        score += ["--across-slices"] if self.scale.folds else []
        score += ["--exclude", "{em}/" + data.main.exclude] if data.main.exclude else []
        seconds = 2 * START + self.work[run.split("-")[0]] * len(shown) * 800_000 * _PIXEL
        return Node(name, "segment", "segmentation", (segment, tuple(score)), f"{name}/scores.json", (run,), seconds,
                    {"run": run, "seed": seed, "slices": list(shown)}, resumes=True)

    def timing(self, runs: List[str]) -> Node:
        command = ("timing", *("{runs}/" + run for run in runs), "-o", "{runs}/timing.json", "--force", *self.scale.timing)
        return Node("timing", "segment", "timing", (command,), "timing.json", tuple(runs), START + 20 * len(runs),
                    {}, alone=True)


def _multiply_adds(net: str) -> int:
    from ..nets.files.schema import parse_prototxt
    from ..nets.netgraph import NetGraph
    return NetGraph(parse_prototxt(paper.deploy_prototxt(paper.counts_of(net), net))).multiply_accumulates()

"""Logs of a reproduction as they would be, with numbers made up from a rule, so that reports can be tested without running one."""

import json

import numpy as np

from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.reproduce.catalogue import DATA_SETS, SCALES
from pycaffe_tools.reproduce.plan import plan
from pycaffe_tools.train.correctness import packed

CODE = {"commit": "0123456789abcdef0123456789abcdef01234567", "sources_sha256": "ab" * 32}
DROP = {"N": 0.0, "N6": 0.2, "N7": 1.9}
SLICES = [[0, 20, 0.5], [0, 22, 0.25], [0, 23, 0.25]]
"""Stack, slice and share of the patches."""
LESS = {None: 0.0, "none": -0.1, "none-like-N7": -0.1, "loss": 0.0, "apoz": 0.3, "l1": 0.2, "random": 1.5, "scratch": 2.5}


FRONT = {"layers": 0.3, "global": 0.2, "gradual": 0.1, "apoz": 1.0, "l1": 2.0}


def front_accuracy(way, budget, seed):
    """Made-up: all lose with the budget; from random weights, less than all others where 5 % and less are left."""
    lost = (0.05 if budget <= 0.05 else 0.4) if way == "uniform" else FRONT[way]
    return round((93.0 - lost - 2 * (1 - budget) ** 4 - 0.01 * (seed - 2)) / 100, 6)


def accuracy(network, criterion, seed, step):
    """Made-up accuracy: 93 less a drop by network, criterion and seed; 5 points less before retraining."""
    before = 5.0 if criterion in ("loss", "apoz", "l1", "random", "scratch") and step != "retrained" else 0.0
    base = None if criterion is None or criterion.startswith(("curve", "n4")) else criterion.split("-")[0]
    less = LESS[criterion] if criterion in LESS else LESS.get(base, 0.1)
    return round((93.0 - DROP.get(network, 0.1) - less - 0.01 * (seed - 2) - before) / 100, 6)


def write_logs(folder, data_set="epfl", scale="small", leave_out=()):
    """Write ``folder/logs`` of a complete reproduction, without the nodes named in ``leave_out``."""
    logs, numbers, data = folder / "logs", SCALES[scale][data_set], DATA_SETS[data_set]
    nodes = plan(data_set, scale)
    described = {**data._asdict(), "main": data.main._asdict(), "second": data.second and data.second._asdict()}
    _write(logs / "plan.json", {
        "data_set": described, "scale": {"name": scale, **numbers._asdict()},
        "nodes": [{"name": node.name, "stage": node.stage, "kind": node.kind, "needs": node.needs, **node.facts,
                   "commands": node.commands} for node in nodes]})
    _write(logs / "machine.json", {"processor": "a processor", "cores": 2, "memory_gigabytes": 8, "system": "Linux",
                                   "sessions": [{"started": "2026-01-01 00:00 UTC", "processes": 2, "seconds": 4000,
                                                 "nodes": len(nodes)}]})
    for node in nodes:
        if node.name in leave_out:
            continue
        _write(logs / "nodes" / f"{node.name}.json", {
            "name": node.name, "stage": node.stage, "kind": node.kind, **node.facts, "commands": node.commands,
            "seconds": 10.0, "processes": 2, "code": CODE, "output_sha256": "cd" * 32,
            "result": _result(node, logs, numbers)})


def _result(node, logs, numbers):
    if node.kind == "database":
        return {"class_balance": 0.03, "normalisation": {"mean": 138.0, "std": 30.0},
                "sources": [{"raw": {"path": "raw.tif", "sha256": "01" * 32}, "labels": {"path": "l.tif", "sha256": "02" * 32},
                             "exclude": None}]}
    if node.kind == "baseline":
        return {"sigma": 1.0, "threshold": 120.0, "train_accuracy": 0.88, "accuracy": 0.9, "auc": 0.95, "patches": 6000}
    if node.kind == "timing" and node.stage == "front":
        names = [part.split("}/")[1] for part in node.commands[0][1:] if part.startswith("{runs}/") and not part.endswith(".json")]
        return {"processor": "a processor", "threads": 1, "pixels": 7061769, "models": {
            name: {"dense": _time("native", 10.0 * float(name.split("-m")[1].split("-")[0]) / 1000 if "-m" in name else 10.0)}
            for name in names}}
    if node.kind == "timing":
        times = {name: {"patch": _time("patch", row.seconds * 80), "dense": _time("onnxruntime", row.seconds)}
                 for name, row in paper.TABLE_2.items()}
        return {"processor": "a processor", "threads": 1, "pixels": 7061769, "models": times}
    if node.kind == "segmentation":
        _write_crop(logs / "crops" / f"{node.facts['run']}.png", len(node.name))
        more = {"map": {"high_frequencies": 0.02 - 0.005 * ("N7" in node.name), "correlation": 0.95},
                "across_slices": {"thresholds": {"20": 0.8, "22": 0.9}, "f1": 0.58, "precision": 0.5, "recall": 0.69}} \
            if numbers.folds else {}
        return {"slices": node.facts["slices"], "auc": 0.97, "v_rand": {"score": 0.8}, "v_info": {"score": 0.7}, **more,
                "at_best_f1": {"threshold": 0.9, "f1": 0.6, "precision": 0.55, "recall": 0.66}}
    if node.kind == "correctness":
        facts = node.facts
        right = accuracy(facts["network"], facts["criterion"], facts["seed"], "retrained")
        # The same patches are easy for all networks.
        content = packed(np.arange(numbers.val_patches) < round(right * numbers.val_patches))
        if numbers.folds:
            content["by_slice"] = [[stack, z, round(share * numbers.val_patches), round(share * right * numbers.val_patches)]
                                   for stack, z, share in SLICES]
        return content
    if node.kind == "orderings" or (node.name.endswith("-pruned") and node.stage != "front"):
        _write_orderings(logs / "orderings" / f"{node.name}.json", node.facts["network"])
    if node.kind == "orderings":
        return {"layers": list(paper.PRUNED_LAYERS)}
    network = node.facts["network"]
    counts = paper.counts_of("N7" if network == "front" else network)
    net = NetGraph(parse_prototxt(paper.deploy_prototxt(counts, network)))
    facts = node.facts
    return {"counts": counts, "threshold": 0.9,
            "validation": {"patches": numbers.val_patches,
                           "accuracy": front_accuracy(facts["criterion"], facts["budget"], facts["seed"]) if network == "front"
                           else accuracy(network, facts["criterion"], facts["seed"], facts["step"])},
            "parameters": net.parameter_count(), "memory_bytes": net.memory_bytes(),
            "multiply_accumulates": net.multiply_accumulates(), "files": {"weights.caffemodel": "ef" * 32},
            "versions": {"caffe": "1.0.0", "numpy": "1.23.5"}}


def _time(engine, seconds):
    return {"seconds": seconds, "longest": 1.01 * seconds, "engine": engine, "tile": [32, 64], "repetitions": 3}


def _write_orderings(path, network):
    layers = {}
    for number, (layer, count) in enumerate(paper.TABLE_1["N"].items()):
        steps = np.arange(1, count + 1) / count
        layers[layer] = {"features": count, "kept": paper.TABLE_1[network][layer], "loss_before": 0.2,
                         "order": list(range(count)), "loss": [round(0.2 + value, 6) for value in
                                                               (0.5 * steps ** (number + 1)).tolist()]}
    _write(path, {"criterion": "loss", "layers": layers})


def _write_crop(path, seed):
    from PIL import Image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (64, 64)).astype(np.uint8)).save(path)


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))

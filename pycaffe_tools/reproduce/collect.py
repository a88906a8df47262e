"""What the report needs of a store of runs: numbers, curves and orders, small enough to be committed.

Below ``results/<data set>/logs``:

===========================  ==================================================================
``plan.json``                data set, scale, all runs with their commands
``machine.json``             processor, memory, system, and how long the runner worked
``nodes/<node>.json``        result of a run: accuracies, counts, hashes, versions, seconds
``training/<node>.csv``      loss and accuracy along a training
``orderings/<node>.json``    features of each layer in the order in which they went, with the loss
``crops/<run>.png``          probability map of Figure 4's crop, 8 bits
``crops/input.png``          the micrograph there, where its licence allows it; see ``crops/LICENCE.txt``
===========================  ==================================================================

Paths are written with the plan's placeholders, so no log names a folder of the
machine.  Files are written again only if their content changed.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.fields import read_fields
from ..base.files import PathLike, read_json_object, write_text
from ..base.host.machine import processor
from ..base.locks import FileLock
from ..nets.netgraph import read_net
from ..volumes.opening import open_volume
from .catalogue import DATA_SETS, FIRST, SCALES, SEGMENTED, DataSet, scale_of
from .maps import compare_maps
from .nodes import Node, same_commands
from .store import RunStore


def logs(results: PathLike) -> Path:
    """Folder of the logs below the results of one data set."""
    return Path(results) / "logs"


def results_lock(results: PathLike) -> FileLock:
    """Held while something is collected, since several runners may share the results."""
    return FileLock(Path(results) / ".collecting", results, "collects results there", "run the same command again", 120.0,
                    passing=True)


def collect(node: Node, store: RunStore, results: PathLike) -> None:
    """Write what the report needs of a node that is done."""
    record = store.record(node.name)
    assert record is not None, "only what is done is collected"
    content = {"name": node.name, "stage": node.stage, "kind": node.kind, **node.facts, "commands": record["commands"],
               "seconds": record["seconds"], "processes": record["processes"], "code": record["code"],
               "output_sha256": record["sha256"], "result": _RESULTS[node.kind](node, store, logs(results))}
    _write_json(logs(results) / "nodes" / f"{node.name}.json", content)


def collect_plan(nodes: Sequence[Node], store: RunStore, results: PathLike, trust_logs: bool = False) -> None:
    """Write what holds for the reproduction as a whole; keep the logs of other stores where they are trusted."""
    _remove_other_logs([node for node in nodes if store.record(node.name) is not None
                        or (trust_logs and is_logged(node, results))], logs(results))
    data_set, scale = store.root.name.rsplit("-", 1)
    described = DATA_SETS[data_set]._asdict()
    for key in ("main", "second"):
        described[key] = described[key] and described[key]._asdict()
    _write_json(logs(results) / "plan.json", {
        "data_set": described, "scale": {"name": scale, **SCALES[scale][data_set]._asdict()},
        "nodes": [{"name": node.name, "stage": node.stage, "kind": node.kind, "needs": list(node.needs), **node.facts,
                   "commands": [list(command) for command in node.commands]} for node in nodes]})
    _write_json(logs(results) / "machine.json", {
        "processor": processor(), "cores": os.cpu_count(), "memory_gigabytes": _memory_gigabytes(),
        "system": platform.platform(terse=True), "sessions": store.sessions()})


def refuse_another_scale(results: PathLike, scale: str) -> None:
    """Raise :class:`UserError` if the results hold those of another scale: two do not belong into one report."""
    path = logs(results) / "plan.json"
    held = read_json_object(path)["scale"]["name"] if path.is_file() else scale
    if held != scale:
        raise UserError(f"{results}: holds the results of scale {held}; choose another folder with --results, or remove "
                        f"this one")


def is_logged(node: Node, results: PathLike) -> bool:
    """Whether the results hold the log of this very node: it was done, in this store or in one that is gone."""
    path = logs(results) / "nodes" / f"{node.name}.json"
    return path.is_file() and same_commands(read_fields(path).list("commands")) == same_commands(node.commands)


def _remove_other_logs(nodes: Sequence[Node], folder: Path) -> None:
    """Keep the logs of these nodes alone: those of another plan or store would mix with them in one report."""
    names = {node.name for node in nodes} | {node.facts["run"] for node in nodes if node.kind == "segmentation"}
    for part in ("nodes", "training", "orderings", "crops"):
        for path in (folder / part).glob("*"):
            if path.stem not in names and path.name not in ("input.png", "LICENCE.txt"):
                path.unlink()


def _memory_gigabytes() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


# -- one function a kind of node -------------------------------------------------------------------------------

def _database(node: Node, store: RunStore, folder: Path) -> Dict[str, Any]:
    info = read_json_object(store.path(node.output))
    for source in info["sources"]:
        for key in ("raw", "labels", "add_labels", "exclude"):
            if source[key]:
                source[key]["path"] = Path(source[key]["path"]).name
    if node.name in ("data-main", "data-main-s1"):
        _input_crop(store, folder)
    return _without_folders(info, store)


def _as_written(node: Node, store: RunStore, folder: Path) -> Dict[str, Any]:
    return read_json_object(store.path(node.output))


def _model(node: Node, store: RunStore, folder: Path) -> Dict[str, Any]:
    directory = store.path(node.name)
    info = read_json_object(directory / "model.json")
    net = read_net(directory / "deploy.prototxt")
    if (directory / "train.csv").is_file():
        _write(folder / "training" / f"{node.name}.csv", (directory / "train.csv").read_text(encoding="utf-8"))
    result = {"counts": info["counts"], "threshold": info["threshold"], "validation": info["validation"],
              "parameters": net.parameter_count(), "memory_bytes": net.memory_bytes(),
              "multiply_accumulates": net.multiply_accumulates(), "files": info["files"],
              "weights_bytes": (directory / "weights.caffemodel").stat().st_size,
              "versions": info["provenance"]["versions"]}
    if (directory / "pruning.json").is_file():
        pruning = read_json_object(directory / "pruning.json")
        if "masked_slim_difference" in pruning:     # not after rounds, which end with a retraining
            result["masked_slim_difference"] = pruning["masked_slim_difference"]
        if node.stage != "front":
            _write_orderings(folder / "orderings" / f"{node.name}.json", pruning, pruning["layers"])
    return result


def _orderings(node: Node, store: RunStore, folder: Path) -> Dict[str, Any]:
    layers = [read_json_object(path) for path in sorted(store.path(node.name).glob("*.json"))]
    _write_orderings(folder / "orderings" / f"{node.name}.json", layers[0], layers)
    return {"layers": [layer["layer"] for layer in layers]}


def _write_orderings(path: Path, common: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> None:
    """One line a layer and column: as small as it can be while a person can still read it."""
    shared = {key: common[key] for key in ("criterion", "seed", "batches", "batch_size", "weights_sha256")}
    lines = [f' "{key}": {json.dumps(value)},' for key, value in shared.items()]
    parts = []
    for layer in layers:
        steps = layer["steps"]
        columns = {"features": layer["features"], "kept": layer.get("kept"), "loss_before": layer["loss_before"],
                   "order": [step["feature"] for step in steps],
                   "loss": [round(step["loss"], 7) for step in steps],
                   "runner_up": [step["runner_up"] for step in steps],
                   "margin": [step["margin"] and float("%.3g" % step["margin"]) for step in steps]}
        parts.append(f'  "{layer["layer"]}": {{\n' + ",\n".join(
            f'   "{key}": {json.dumps(value)}' for key, value in columns.items()) + "\n  }")
    _write(path, "{\n" + "\n".join(lines) + '\n "layers": {\n' + ",\n".join(parts) + "\n }\n}\n")


def _segmentation(node: Node, store: RunStore, folder: Path) -> Dict[str, Any]:
    scores = read_json_object(store.path(node.output))
    for key in ("probability", "labels", "exclude", "add_labels"):
        if scores.get(key):
            scores[key] = Path(scores[key]).name
    if scale_of(*store.root.name.rsplit("-", 1)).folds:
        full = store.path(f"segment-N-s{node.facts['seed']}") / SEGMENTED
        scores["map"] = compare_maps(store.path(node.name) / SEGMENTED, full if full.is_file() else None)
    if node.facts["seed"] != FIRST:
        return _without_folders(scores, store)
    crop = _data_set(store).crop
    with open_volume(store.path(node.name) / SEGMENTED) as volume:
        _write_png(folder / "crops" / f"{node.facts['run']}.png", volume.read(0)[crop[0]:crop[1], crop[2]:crop[3]])
    return _without_folders(scores, store)


def _without_folders(content: Dict[str, Any], store: RunStore) -> Dict[str, Any]:
    """Content whose warnings, where it has any, name files by the plan's placeholders."""
    if "warnings" in content:
        content["warnings"] = [text.replace(str(store.root), "{runs}").replace(str(store.em), "{em}")
                               for text in content["warnings"]]
    return content


_RESULTS: Dict[str, Callable[[Node, RunStore, Path], Dict[str, Any]]] = {
    "database": _database, "baseline": _as_written, "timing": _as_written, "correctness": _as_written, "model": _model,
    "orderings": _orderings, "segmentation": _segmentation}


# -- images ----------------------------------------------------------------------------------------------------

def _data_set(store: RunStore) -> DataSet:
    return DATA_SETS[store.root.name.rsplit("-", 1)[0]]


def _input_crop(store: RunStore, folder: Path) -> None:
    data = _data_set(store)
    if data.licence is None:
        return
    y0, y1, x0, x1 = data.crop
    with open_volume(store.em / data.raw) as volume:
        _write_png(folder / "crops" / "input.png", volume.read(data.shown[0] % volume.shape[0])[y0:y1, x0:x1])
    _write(folder / "crops" / "LICENCE.txt",
           f"input.png: rows {y0} to {y1 - 1}, columns {x0} to {x1 - 1} of page {data.shown[0]} of {data.raw}, "
           f"unchanged.\n{data.title}\nLicence: {data.licence}\nCitation: {data.citation}\n"
           f"The probability maps beside it were computed from the same pixels.\n")


def _write_png(path: Path, image: np.ndarray) -> None:
    """Write a grey image of 8 bits, without metadata."""
    from io import BytesIO

    from PIL import Image
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image, np.uint8)).save(buffer, "PNG", optimize=True)
    _write_bytes(path, buffer.getvalue())


# -- files -----------------------------------------------------------------------------------------------------

def _write_json(path: Path, content: Any) -> None:
    _write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _write_bytes(path: Path, content: bytes) -> None:
    from ..base.files import atomic_file
    if not path.is_file() or path.read_bytes() != content:
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)

"""The logs of a reproduction, read and checked: accuracies, curves, orders, times by run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from ..base.errors import UserError
from ..base.files import PathLike, read_json_object
from ..nets import paper as networks
from ..reproduce.nodes import same_commands

CRITERIA = ("loss", "apoz", "l1", "random", "scratch")


class Results:
    """What the logs of one data set hold.

    Attributes
    ----------
    folder : ``results/<data set>``.
    plan, machine : content of ``plan.json`` and ``machine.json``.
    nodes : result of every node that is done, by name.
    """

    def __init__(self, folder: PathLike):
        self.folder = Path(folder)
        self.logs = self.folder / "logs"
        if not (self.logs / "plan.json").is_file():
            raise UserError(f"{folder}: holds no logs/plan.json; run python -m pycaffe_tools.reproduce first")
        self.plan = _log(self.logs / "plan.json", "data_set", "scale", "nodes")
        _require(self.logs / "plan.json", self.plan["scale"], "name", "seeds", "train_patches", "val_patches")
        self.machine = _log(self.logs / "machine.json", "processor", "cores", "sessions")
        found = []
        for path in sorted((self.logs / "nodes").glob("*.json")):
            found.append(_log(path, "name", "kind", "commands", "result", "seconds", "code"))
            _require(path, found[-1]["result"], *_RESULT_KEYS.get(found[-1]["kind"], ()))
        # Logs of another plan, such as one of another scale before it, are not of this reproduction.
        planned = {node["name"]: same_commands(node["commands"]) for node in self.plan["nodes"]}
        self.nodes: Dict[str, Dict[str, Any]] = {
            node["name"]: node for node in found if planned.get(node["name"]) == same_commands(node["commands"])}

    def result(self, name: str) -> Optional[Dict[str, Any]]:
        """Result of a node; None if it is not done."""
        node = self.nodes.get(name)
        return node and node["result"]

    def missing(self) -> List[str]:
        """Nodes of the plan that are not done."""
        return [node["name"] for node in self.plan["nodes"] if node["name"] not in self.nodes]

    @property
    def seeds(self) -> List[int]:
        """Of the plan."""
        return list(self.plan["scale"]["seeds"])

    @property
    def has_folds(self) -> bool:
        """Whether each seed holds out slices of its own."""
        return bool(self.plan["scale"].get("folds"))

    @property
    def nets(self) -> List[str]:
        """N and the pruned networks of the plan, as in Table 1."""
        planned = {node.get("network") for node in self.plan["nodes"] if node["kind"] == "model"}
        return [name for name in networks.NAMES if name in planned]

    def accuracies(self, network: str, criterion: Optional[str], before: bool = False) -> Dict[int, float]:
        """Validation accuracy in percent by seed.

        Parameters
        ----------
        network : N, N1 ...
        criterion : one of ``CRITERIA``; None for N as trained, "none" for N retrained without pruning,
            "none-like-N7" for the same as long as N7.
        before : before retraining.
        """
        steps = {node["step"] for node in self.plan["nodes"] if node["kind"] == "model"
                 and (node["network"], node["criterion"]) == (network, criterion)}
        wanted = "pruned" if before and "pruned" in steps else "retrained" if not before and "retrained" in steps else "trained"
        found = [node for node in self.nodes.values()
                 if node["kind"] == "model" and node["network"] == network and node["criterion"] == criterion
                 and node["step"] == wanted and node["data"] != "second"]
        return {node["seed"]: 100 * node["result"]["validation"]["accuracy"]
                for node in sorted(found, key=lambda node: node["seed"])}

    def slices(self, network: str, criterion: Optional[str]) -> Dict[int, List[List[int]]]:
        """By seed, stack, slice, patches and those that the trained or retrained network classifies right, slice by slice."""
        found = [node for node in self.nodes.values() if node["kind"] == "correctness" and node["network"] == network
                 and node["criterion"] == criterion and "by_slice" in node["result"]]
        return {node["seed"]: node["result"]["by_slice"] for node in sorted(found, key=lambda node: node["seed"])}

    def darkness(self) -> Dict[int, float]:
        """What smoothed grey values alone classify right, in percent, by seed; the same for all that share their patches."""
        found = {seed: self.result(f"darkness-main-s{seed}") or self.result("darkness-main") for seed in self.seeds}
        return {seed: 100 * result["accuracy"] for seed, result in found.items() if result}

    def draws(self, batches: int) -> List[str]:
        """Names of the runs that ordered all layers of the first N on further draws of so many mini-batches."""
        return [node["name"] for node in self.nodes.values() if node["kind"] == "orderings" and node.get("batches") == batches]

    def first(self, network: str) -> Optional[Dict[str, Any]]:
        """The model of the network by loss (or N itself) of the first seed."""
        criterion = None if network == "N" else "loss"
        for node in sorted(self.nodes.values(), key=lambda node: (node.get("seed", 0), node["name"])):
            if (node["kind"] == "model" and node["network"] == network and node["criterion"] == criterion
                    and node["step"] in ("trained", "retrained") and node["data"] != "second"):
                return node
        return None

    def model_size(self, network: str) -> Optional[Dict[str, Any]]:
        """Parameters, memory and multiply-accumulates of any model of the network."""
        for node in self.nodes.values():
            if node["kind"] == "model" and node["network"] == network and "parameters" in node["result"]:
                result: Dict[str, Any] = node["result"]
                return result
        return None

    def scores(self, run: str) -> Optional[Dict[str, Any]]:
        """Scores of a run's segmentation."""
        return self.result(f"segment-{run}")

    def time(self, network: str) -> Optional[Dict[str, Any]]:
        """Segmentation times of a network."""
        timing = self.result("timing")
        return timing["models"].get(network) if timing else None

    def iterations(self, network: str, criterion: Optional[str]) -> Optional[int]:
        """Iterations of retraining of a network; None if it is not planned."""
        return next((node["iterations"] for node in self.plan["nodes"] if node["kind"] == "model"
                     and node["step"] == "retrained" and (node["network"], node["criterion"]) == (network, criterion)), None)

    def orderings(self, name: str) -> Optional[Dict[str, Any]]:
        """Orders of all layers of a pruning; None if there are none."""
        return _log(self.logs / "orderings" / f"{name}.json", "layers") if name in self.nodes else None


_RESULT_KEYS = {"model": ("validation", "counts", "parameters", "memory_bytes", "multiply_accumulates", "files", "versions"),
                "database": ("sources", "class_balance", "normalisation"), "baseline": ("accuracy", "auc"),
                "correctness": ("right", "patches"), "timing": ("models", "pixels", "processor"),
                "segmentation": ("v_rand", "v_info", "auc"), "orderings": ("layers",)}
"""What the report reads of a run, by its kind."""


def _log(path: Path, *needed: str) -> Dict[str, Any]:
    content = read_json_object(path)
    _require(path, content, *needed)
    return content


def _require(path: Path, content: Any, *needed: str) -> None:
    if not isinstance(content, dict) or not set(needed) <= set(content):
        raise UserError(f"{path}: is no log of a reproduction; remove it and run python -m pycaffe_tools.reproduce, which "
                        f"writes it again")

"""What is trained: a network of Table 1, one of own counts, or a pruned one, for patches of the database's size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Union

from ..base.errors import UserError
from ..base.files import PathLike
from ..nets import paper
from ..nets.files.schema import parse_prototxt, read_prototxt
from ..nets.layers import product
from ..nets.model import open_model
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights, check_weights
from ..nets.shapes import MOST_ELEMENTS
from ..patches.database import Database

_LARGEST_TRIED = 256
"""Up to this side, in pixels, other patch sizes are looked for when one is refused."""


class Network(NamedTuple):
    """What is trained: its name, features, and prototxts for patches and for training."""

    name: str
    counts: Dict[str, int]
    deploy: str
    train_val: Any

    def graph(self, batch: int = 1, patch_size: Optional[int] = None) -> NetGraph:
        """The network for patches, with another batch, and for patches of another size if one is given."""
        proto = parse_prototxt(self.deploy)
        return NetGraph(proto, input_shapes={value.blob: (batch, *shape[1:2], *([patch_size] * 2 if patch_size else shape[2:]))
                                             for value, shape in NetGraph(proto).inputs.items() if shape is not None})


def network_of(network: Union[str, Mapping[str, int]], database: Database, name: Optional[str] = None) -> Network:
    """The network to be trained on a database.

    Parameters
    ----------
    network : name of a network of Table 1; folder of a pruned network; or the number of features of each layer.
    database : its patches have the size of the network's input.
    name : what a network of own counts is called; ``custom-`` and its counts if it is not given.

    Raises
    ------
    UserError : there is no such network, or it is not for patches of this size.
    """
    if not isinstance(network, str):
        counts = _whole_counts(network)
        return _built(_own_name(name, counts), counts, database.patch_size)
    if name is not None:
        raise UserError(f"--name {name}: {network} has a name already; give --name with --counts only")
    if network in paper.TABLE_1:
        return _built(network, paper.counts_of(network), database.patch_size)
    directory = Path(network)
    if not (directory / "train_val.prototxt").is_file():
        raise UserError(f"{network}: is neither a network of Table 1 ({', '.join(paper.NAMES)}) nor a "
                        f"folder with a train_val.prototxt; give one of them")
    opened = open_model(directory)
    database.check_patch_size(opened.patch_size, network)
    opened.net()        # refuses a prototxt for patches of another size than model.json says
    return Network(opened.name, opened.counts, opened.deploy.read_text(encoding="utf-8"),
                   read_prototxt(directory / "train_val.prototxt"))


def _built(name: str, counts: Dict[str, int], patch_size: int) -> Network:
    return Network(name, counts, paper.deploy_prototxt(counts, name, patch_size),
                   parse_prototxt(paper.train_val_prototxt(counts, name)))


def _whole_counts(given: Mapping[str, int]) -> Dict[str, int]:
    """Counts of all layers, from the bottom up."""
    text = ",".join(f"{layer}={count}" for layer, count in given.items())
    if sorted(given) != sorted(paper.PRUNED_LAYERS) or min(given.values()) < 1:
        raise UserError(f"--counts {text}: give each of {', '.join(paper.PRUNED_LAYERS)} a count from 1 on, like "
                        f"c1=30,c2=20,c3=10,fc4=10")
    return {layer: given[layer] for layer in paper.PRUNED_LAYERS}


def _own_name(name: Optional[str], counts: Mapping[str, int]) -> str:
    if name is None:
        return "-".join(["custom", *map(str, counts.values())])
    if name in paper.TABLE_1:
        raise UserError(f"--name {name}: is a network of Table 1; give one of own counts another name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name!r}: use letters, digits, points, hyphens and underscores, and begin with one of the "
                        f"first two")
    return name


def check_shapes(network: Network, batch: int, database: Database) -> None:
    """Refuse a network from whose patches nothing is left for one of its layers, or of which a blob is too large.

    Parameters
    ----------
    batch : patches in the largest batch.

    Raises
    ------
    UserError : names the layer, and the smallest size of patch at which it has something to work on.
    """
    size = database.patch_size
    obstacle = _obstacle(network, batch)
    if obstacle is None:
        _check_weight_blobs(network)
        return
    smallest = next((other for other in range(1, _LARGEST_TRIED) if _obstacle(network, 1, other) is None), 0)
    advice = (f"it needs at least {smallest} x {smallest}, made with python -m pycaffe_tools.patches --patch-size {smallest}"
              if smallest > size else "ask for fewer features, or make smaller patches with python -m pycaffe_tools.patches --patch-size")
    raise UserError(f"{database.directory}: its patches of {size} x {size} pixels do not suit {network.name} "
                    f"({obstacle}); {advice}")


def _check_weight_blobs(network: Network) -> None:
    graph = network.graph()
    for layer in graph.layers:
        largest = max(map(product, graph.parameter_shapes(layer)), default=0)
        if largest > MOST_ELEMENTS:
            raise UserError(f"{network.name}: layer {layer.name} would have {largest:,} weights, more than the {MOST_ELEMENTS:,} "
                            f"that Caffe can hold; ask for fewer features")


def _obstacle(network: Network, batch: int, patch_size: Optional[int] = None) -> Optional[str]:
    try:
        graph = network.graph(batch, patch_size)
        for value in graph.outputs:
            graph.shape(value)
    except UserError as error:
        return str(error).split("; ")[0]
    return None


def check_initial_weights(network: Network, weights: Weights, path: PathLike, database: Database) -> None:
    """Refuse weights that are not those of a network, saying so where it is the patch size that differs.

    A caffemodel does not say for which patches it was trained; its inner products tell from how many elements on.

    Raises
    ------
    UserError : they do not fit.
    """
    try:
        check_weights(network.graph(), weights, str(path))
    except UserError:
        sizes = _sizes_that_fit(network, weights)
        if not sizes:
            raise
        made_for = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        raise UserError(f"{path}: holds weights for patches of {made_for} pixels a side, but those of {database.directory} have "
                        f"{database.patch_size}; start from weights that were trained on patches of this size") from None


def _sizes_that_fit(network: Network, weights: Weights) -> List[int]:
    found = []
    for size in range(1, _LARGEST_TRIED):
        try:
            check_weights(network.graph(patch_size=size), weights)
            found.append(size)
        except UserError:
            pass
    return found

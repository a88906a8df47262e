"""The way from a layer's features to the loss: what the fast oracle can follow, and what stops it."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from ..nets.layers import Layer
from ..nets.netgraph import NetGraph


class Route(NamedTuple):
    """The way from a layer to the scores: what carries its maps on, the next layer with weights, and what follows."""

    layer: Layer
    carriers: List[Layer]
    following: Layer
    rest: List[Layer]


def route(graph: NetGraph, name: str) -> Tuple[Optional[Route], str]:
    """The way from a layer to the output of the net, or why it cannot be taken incrementally.

    Returns
    -------
    The route and an empty string, or None and a sentence that names the layer in the way.
    """
    layer = graph.layer(name)
    behind: List[Layer] = []
    value = layer.outputs[0]
    while graph.readers(value):
        readers = graph.readers(value)
        if len(readers) > 1:
            return None, f"{len(readers)} layers ({', '.join(reader.name for reader in readers)}) read {value.blob!r}"
        found = readers[0]
        if len(found.inputs) != 1 or len(found.outputs) != 1:
            return None, f"layer {found.name} ({found.type}) has several inputs or outputs"
        problem = _unsupported(found)
        value = found.outputs[0]
        if problem or (found.type == "Softmax" and graph.readers(value)):
            return None, f"layer {found.name}: {problem or 'a Softmax is understood at the end only'}"
        behind.append(found)
    parametric = [at for at, found in enumerate(behind) if found.is_parametric]
    if not parametric:
        return None, f"layer {name} is the output layer"
    at = parametric[0]
    return Route(layer, behind[:at], behind[at], [found for found in behind[at + 1:] if found.type != "Softmax"]), ""


def obstacle(graph: NetGraph, name: str) -> Optional[str]:
    """Why a layer's candidates cannot be evaluated incrementally, naming the layer in the way; None if they can."""
    return route(graph, name)[1] or None


def _unsupported(layer: Layer) -> Optional[str]:
    if layer.type == "Pooling" and layer.pool == "STOCHASTIC":
        return "stochastic pooling is not evaluated incrementally"
    if layer.type == "InnerProduct":
        options = layer.proto.inner_product_param
        return "has an unusual axis or transposed weights" if options.axis != 1 or options.transpose else None
    if layer.type in ("Convolution", "ReLU", "Pooling", "Dropout", "Flatten", "Softmax"):
        return None
    return f"layers of type {layer.type} are not evaluated incrementally"

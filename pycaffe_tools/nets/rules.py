"""Caffe's rules of a net's form: which layers run in a phase, what comes in, and what makes no net."""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Optional, Sequence, Set

from ..base.errors import UserError
from .layers import DATA_TYPES, Shape
from .shapes import KNOWN_TYPES, TOPLESS_TYPES

_PHASES = {"TRAIN": 0, "TEST": 1}


def runs_in(proto: Any, phase: str, stages: Set[str]) -> bool:
    """Caffe's include and exclude rules for a net of level 0 with the stages that its own state names."""

    def met(rule: Any) -> bool:
        return ((not rule.HasField("phase") or rule.phase == _PHASES[phase])
                and stages.issuperset(rule.stage) and not stages.intersection(rule.not_stage)
                and rule.min_level <= 0 <= (rule.max_level if rule.HasField("max_level") else 0))

    if proto.include:
        return any(met(rule) for rule in proto.include)
    return not any(met(rule) for rule in proto.exclude)


def net_inputs(proto: Any) -> Dict[str, Shape]:
    """Inputs stated in the old way, as ``input:`` with ``input_dim:`` or ``input_shape``."""
    shapes = [tuple(shape.dim) for shape in proto.input_shape]
    dims = list(proto.input_dim)
    shapes += [tuple(dims[at:at + 4]) for at in range(0, len(dims), 4)]
    if len(shapes) != len(proto.input) or len(dims) % 4:
        raise UserError(f"net {proto.name}: states {len(proto.input)} inputs, but {len(shapes)} shapes for them (four "
                        f"input_dim each, or one input_shape each); correct the prototxt")
    return dict(zip(proto.input, shapes))


def data_shapes(proto: Any) -> List[Optional[Shape]]:
    """Shapes of a layer's tops where the layer itself states them, as Input and DummyData do; else None for each."""
    stated = (proto.input_param.shape if proto.type == "Input"
              else proto.dummy_data_param.shape if proto.type == "DummyData" else ())
    shapes: List[Optional[Shape]] = [tuple(shape.dim) for shape in stated]
    if len(shapes) == 1:
        shapes *= len(proto.top)
    return shapes + [None] * (len(proto.top) - len(shapes))


def check_layer(proto: Any, made: Collection[str], names: Sequence[str], net: str, phase: str) -> None:
    """Refuse a layer that Caffe would refuse for its place in the net, or that could not be told from another.

    Parameters
    ----------
    proto : its LayerParameter.
    made : names of the blobs that the layers before it make.
    names : names of the layers before it.
    net, phase : of the net, for messages.

    Raises
    ------
    UserError : what is wrong with it.
    """
    for blob in proto.bottom:
        if blob not in made:
            raise UserError(f"layer {proto.name}: reads the blob {blob!r} that no layer before it makes; "
                            f"correct the prototxt")
    for number, blob in enumerate(proto.top):
        if blob in made and list(proto.bottom[number:number + 1]) != [blob]:
            raise UserError(f"layer {proto.name}: makes the blob {blob!r} that another layer made before it; "
                            f"rename one")
    if proto.type in DATA_TYPES:
        return
    if not proto.name:
        raise UserError(f"net {net}: its {proto.type} layer after {names[-1] if names else 'the input'} has no name; "
                        f"name it, since weights are found by layer names")
    if proto.name in names:
        raise UserError(f"net {net}: two of its layers are called {proto.name}; "
                        f"rename one, since weights are found by layer names")
    if proto.type in KNOWN_TYPES and not proto.bottom:
        raise UserError(f"layer {proto.name}: reads no blob; name its bottom in the prototxt")
    if proto.type in KNOWN_TYPES - TOPLESS_TYPES and not proto.top:
        raise UserError(f"layer {proto.name}: makes no blob; name its top in the prototxt")
    if proto.HasField("phase") and proto.phase != _PHASES[phase]:
        # Such a layer works as in the other phase: a Dropout would drop at random when segmenting.
        raise UserError(f"layer {proto.name}: is to work in another phase than the net, {phase}; "
                        f"take the line with phase out, or write include {{ phase: ... }}")

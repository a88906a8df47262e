"""What a net costs, depending on how many features its layers have: parameters, arithmetic, or time.

A cost model is any object with the members of :class:`CostModel`; a global
ordering (:mod:`pycaffe_tools.ordering.global_order`) asks it for the cost of
the net at other counts, and writes down what :meth:`CostModel.as_json` says.
The time of the dense net is in :mod:`pycaffe_tools.ordering.cost.dense_time`.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Protocol

from ...base.errors import UserError
from ...dense_plan.plan import make_plan
from ...nets.netgraph import NetGraph


class CostModel(Protocol):
    """The cost of a net at given counts."""

    @property
    def unit(self) -> str:
        """What is counted, in the plural, such as ``parameters``."""

    def cost(self, counts: Mapping[str, int]) -> float:
        """The cost with so many features in each of the named layers; layers not named keep theirs."""

    def as_json(self) -> Dict[str, Any]:
        """What the cost depends on beside the net: equal content, equal costs."""


def with_counts(graph: NetGraph, counts: Mapping[str, int]) -> NetGraph:
    """A net with other numbers of features.

    Raises
    ------
    UserError : a layer that the net has not, or groups that do not divide the numbers.
    """
    proto = graph.with_batch(1)
    for name in counts:
        graph.layer(name)
    for layer in proto.layer:
        if layer.name in counts:
            options = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
            options.num_output = counts[layer.name]
    return NetGraph(proto)


class ParameterCost:
    """Number of weights and biases."""

    unit = "parameters"

    def __init__(self, graph: NetGraph):
        self._graph = graph

    def cost(self, counts: Mapping[str, int]) -> float:
        """See :class:`CostModel`."""
        return with_counts(self._graph, counts).parameter_count()

    def as_json(self) -> Dict[str, Any]:
        """See :class:`CostModel`."""
        return {"cost": "parameters"}


class ArithmeticCost:
    """Multiply-accumulate operations of the exact dense net for one output pixel.

    Raises
    ------
    UserError : the net has no dense form.
    """

    unit = "multiply-accumulates per pixel"

    def __init__(self, graph: NetGraph):
        self._graph = graph
        try:
            make_plan(graph)
        except UserError as reason:
            raise UserError(f"--cost macs: counts the dense net's arithmetic, but {reason}; "
                            f"or take --cost parameters") from None

    def cost(self, counts: Mapping[str, int]) -> float:
        """See :class:`CostModel`."""
        return make_plan(with_counts(self._graph, counts)).multiply_accumulates()

    def as_json(self) -> Dict[str, Any]:
        """See :class:`CostModel`."""
        return {"cost": "macs"}

"""What a net for patches gives at its end: the probabilities of its classes, or scores that a Softmax makes of them."""

from __future__ import annotations

from .layers import Layer
from .netgraph import NetGraph
from .paper import MEMBRANE

_SCORES = frozenset("Convolution Flatten InnerProduct Pooling ReLU Reshape".split())
"""Types of last layers whose values a loss such as SoftmaxWithLoss takes for scores."""


def last_layer(graph: NetGraph) -> Layer:
    """The last layer of a chain that does anything when a trained net runs."""
    return [layer for layer in graph.chain() if layer.type != "Dropout"][-1]


def lacks_softmax(graph: NetGraph) -> bool:
    """Whether a net for patches ends in the scores of its classes, so that a Softmax has to follow.

    A deploy prototxt without Softmax is common: in training the loss layer
    has one inside.  Taken for probabilities, scores would be wrong numbers.

    Raises
    ------
    UserError : the net is no chain, has fewer than two classes, or ends in something else.
    """
    last = last_layer(graph)
    shape = graph.output_shape(last)
    if len(shape) < 2 or shape[1] <= MEMBRANE:
        raise last.wrong(f"gives {shape[1] if len(shape) > 1 else 'no'} class for a patch, where two are needed, "
                         f"of which number {MEMBRANE} is membrane; give a net that was trained with two classes")
    if last.type == "Softmax":
        if last.axis(last.proto.softmax_param.axis, len(shape)) != 1:
            raise last.wrong("is a Softmax over another axis than the channels, so it gives no probabilities of "
                             "classes; correct its axis")
        return False
    if last.type not in _SCORES:
        raise last.wrong(f"is of type {last.type}, so the net ends neither in probabilities (Softmax) nor in scores of "
                         f"its classes; give a net that does")
    return True


def note(graph: NetGraph) -> str:
    """A sentence for whoever reads a written net, empty if the net has its own Softmax."""
    if not lacks_softmax(graph):
        return ""
    return (f"The net itself ends in the scores of layer {last_layer(graph).name}, without a Softmax; "
            f"one was added here, as its loss has it inside.")

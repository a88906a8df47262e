"""How patches are divided into chunks, and how much memory their evaluation takes."""

from __future__ import annotations

from ...nets.layers import Geometry, product
from ...nets.netgraph import NetGraph
from ..route import Route
from .contribution import Terms
from .kernels import Parameters, maps_entering, maps_leaving

# A chunk's pre-activations and its intermediate results stay in the processor's cache at about this size.
_CHUNK_BYTES = 3 << 20

_INTERPRETER_BYTES = 160 << 20


class ChunkLayout:
    """Shapes and sizes of the evaluation of one layer's candidates on ``count`` patches.

    Attributes
    ----------
    features : number of the layer's features.
    size : height and width of their maps as the next layer reads them.
    flat : whether the next layer reads them as one vector.
    outputs, output : number, and height and width, of the next layer's maps.
    parts : the patches of each chunk.
    term_bytes : memory of one feature's T_f on all patches.
    """

    def __init__(self, graph: NetGraph, way: Route, count: int):
        self.graph, self.way, self.count = graph, way, count
        self.features, self.outputs = way.layer.num_output, way.following.num_output
        self.size, self.output = maps_entering(graph, way.following)[1], maps_leaving(graph, way.following)
        self.flat = len(graph.input_shape(way.following)) == 2
        elements = product(self.output) * self.outputs
        patches = min(max(_CHUNK_BYTES // (4 * elements), 32), 1024)
        pieces = -(-count // patches)
        self.parts = [slice(count * piece // pieces, count * (piece + 1) // pieces) for piece in range(pieces)]
        self.largest = max(part.stop - part.start for part in self.parts)
        self.term_bytes = 4 * elements * count

    def terms(self, learnt: Parameters) -> Terms:
        """The operation that makes T_f, from the next layer's parameters, which may be those of fewer outputs."""
        following = self.way.following
        geometry = following.geometry if following.type == "Convolution" else Geometry(self.size)
        return Terms(learnt.weight, geometry, self.size, self.output)

    def bytes_needed(self, batch_size: int) -> int:
        """Memory of the process, generously: the interpreter with Caffe, the net, and the arrays kept here."""
        graph, elements = self.graph, self.term_bytes // (4 * self.count)
        first = graph.input_shape(graph.layers[0])
        net = graph.memory_bytes() // first[0] * min(batch_size, self.count)
        bottom = 4 * product(graph.input_shape(self.way.layer)[1:]) * self.count
        data = 2 * 4 * product(first[1:]) * self.count
        maps = 4 * self.features * product(self.size) * self.count
        pre_activations = (8 + 4) * elements * self.count
        working = 6 * 4 * elements * self.largest
        weights = 6 * 4 * graph.parameter_count()
        return _INTERPRETER_BYTES + net + bottom + data + maps + pre_activations + working + weights

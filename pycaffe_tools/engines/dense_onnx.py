"""The exact dense net in ONNX Runtime."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.ranges import Pair
from ..dense_plan.kernels import kernels
from ..dense_plan.onnx_printer import BLOCK, dense_model
from ..dense_plan.plan import make_plan
from ..dense_plan.steps import Combine, DensePlan, sources
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights, check_weights
from .engine import Engine

PROCESSOR, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

TILE_SIDES = (384, 352, 320, 288, 256, 224, 192, 160, 128, 112, 96, 80, 64, 48, 32, 16)
_LIGHT, _LIGHT_SIDE = 100_000, 128
"""A net of fewer multiply-accumulates a pixel waits for memory rather than for arithmetic: then maps that stay in the
processor's cache are worth more than a smaller halo (measured: N7 is 5 to 8 % faster at 128 than at 256, N is 8 % slower at
256 than at 384)."""

# Measured with ONNX Runtime 1.19.2 and 1.32.0 (tests/test_engines.py holds the formula against a fresh measurement): the
# process with its libraries, and what the runtime's buffers take over the maps that are alive at one time.
_BASE_BYTES = 120_000_000
_BUFFER_FACTOR = 1.7


class OnnxEngine(Engine):
    """One session for tiles of one size; smaller ones are filled up.

    ``plan`` is the net's exact dense plan unless another is given; ``provider`` is what ONNX Runtime computes on.
    """

    name = "onnxruntime"

    def __init__(self, graph: NetGraph, weights: Weights, tile: Pair, threads: int, plan: Optional[DensePlan] = None,
                 provider: str = PROCESSOR):
        super().__init__(graph, tile)
        check_weights(graph, weights)
        plan = plan or make_plan(graph)
        # The sizes are fixed for the session: only then does the runtime take additions and ReLUs into the
        # convolutions before them (a tenth of the time for N, a quarter for N7).
        self._shape = tuple(side + reach for side, reach in zip(self.tile, plan.input.reach))
        self._session = make_session(dense_model(plan, kernels(graph, weights), graph.name), threads,
                                     {"rows": self._shape[0], "columns": self._shape[1]}, provider)

    def predict(self, grey: np.ndarray) -> np.ndarray:
        filled = np.zeros((1, 1) + self._shape, np.float32)
        filled[0, 0, :grey.shape[0], :grey.shape[1]] = grey
        result: np.ndarray = self._session.run(None, {"grey": filled})[0][0, 0]
        before, after = self.halo
        return result[:grey.shape[0] - before - after, :grey.shape[1] - before - after]


def make_session(model: Any, threads: int, sizes: Dict[str, int], provider: str = PROCESSOR) -> Any:
    """A session, on the processor unless another provider is named.

    Parameters
    ----------
    model : ModelProto.
    threads : of this session; with 1, none but the caller's.
    sizes : lengths of the axes that the model leaves free, by name.
    provider : ``CPUExecutionProvider``, or ``CUDAExecutionProvider`` where this ONNX Runtime has it.

    Raises
    ------
    UserError : the provider is not there, or finds no device.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # A memory pattern would hold a second copy of all buffers, and the printed order needs less memory than the
    # runtime's own.
    options.enable_mem_pattern = False
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    if provider not in onnxruntime.get_available_providers():
        raise UserError(f"{provider}: this ONNX Runtime {onnxruntime.__version__} has none; install onnxruntime-gpu on a machine "
                        f"with an NVIDIA GPU")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
    if provider not in session.get_providers():     # it falls back to the processor without a word
        raise UserError(f"{provider}: finds no device that it can use; check the driver with nvidia-smi")
    return session


def create(graph: NetGraph, weights: Weights, tile: Pair, threads: int) -> OnnxEngine:
    """See :func:`pycaffe_tools.engines.create`."""
    return OnnxEngine(graph, weights, tile, threads)


def tile_sides(graph: NetGraph) -> Tuple[int, ...]:
    """See :func:`pycaffe_tools.engines.best_tile`."""
    light = make_plan(graph).multiply_accumulates() < _LIGHT
    return tuple(side for side in TILE_SIDES if side <= _LIGHT_SIDE) if light else TILE_SIDES


def predicted_bytes(graph: NetGraph, tile: Pair, threads: int) -> int:
    """See :func:`pycaffe_tools.engines.predicted_bytes`: the maps alive at one time, times a measured factor."""
    plan = make_plan(graph)
    area = (tile[0] + plan.input.reach[0]) * (tile[1] + plan.input.reach[1])
    return _BASE_BYTES + int(_BUFFER_FACTOR * 4 * area * _alive(plan)) + 16 * graph.parameter_count()


def _alive(plan: DensePlan) -> int:
    """Channels of all maps that are alive at one time, at most, when the steps run in their order."""
    last_use = {source.name: number for number, step in enumerate(plan.steps) for source in sources(step)}
    alive: Dict[str, int] = {}
    most = 0
    for number, step in enumerate(plan.steps):
        width = -(-step.out.channels // BLOCK) * BLOCK
        alive[step.out.name] = width
        # A combination goes through one more map on its way.
        most = max(most, sum(alive.values()) + (width if isinstance(step, Combine) else 0))
        alive = {name: channels for name, channels in alive.items() if last_use.get(name, number) > number}
    return most

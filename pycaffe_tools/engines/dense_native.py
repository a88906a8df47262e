"""The exact dense net in kernels of our own, see :mod:`pycaffe_tools.engines.native`."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import List, Optional, Tuple

import numpy as np

from ..base.ranges import Pair
from ..dense_plan.kernels import kernels
from ..dense_plan.plan import make_plan
from ..dense_plan.steps import DensePlan
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights, check_weights
from .engine import Engine
from .native.items import Output
from .native.library import Compiled, Workspace
from .native.lowering import Kernels, lower
from .native.program import Program, make_program

TILE_SIDES = (512, 448, 384, 320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 48, 32, 16)

STRIP = 512
"""Most columns that are computed at a time: wider ones leave the caches, narrower ones have more halo."""

LARGEST_ROUNDING = 4e-6
"""Of the probabilities, beyond which convolutions with fewer products are not taken; the engines' tolerance is 1e-5."""

# Measured: the interpreter with the packages that a worker imports (tests/test_engines.py holds the sum against a fresh
# measurement).
_BASE_BYTES = 62_000_000


class NativeEngine(Engine):
    """A program for tiles of any size; each thread that runs it has a workspace of its own.

    ``predict`` may be called by several threads at the same time.
    """

    name = "native"

    def __init__(self, graph: NetGraph, weights: Weights, tile: Pair, threads: int):
        super().__init__(graph, tile)
        check_weights(graph, weights)
        plan = make_plan(graph)
        layer_kernels = kernels(graph, weights)
        self.winograd = rounding_of_winograd(plan, layer_kernels) <= LARGEST_ROUNDING
        self._compiled = Compiled(make_program(lower(plan, layer_kernels), self.winograd))
        self._columns = max(_strips(self.tile[1]))
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def predict(self, grey: np.ndarray) -> np.ndarray:
        grey = np.ascontiguousarray(grey, np.float32)
        rim = sum(self.halo)
        result = np.empty((grey.shape[0] - rim, grey.shape[1] - rim), np.float32)
        jobs = []
        left = 0
        for columns in _strips(result.shape[1]):
            # What lies beyond the strip's own halo is there too: then it does not matter where strips begin.
            jobs.append((grey[None, :, left:], result[:, left:left + columns]))
            left += columns
        list((self._pool.map if self._pool else map)(lambda job: self._run(*job), jobs))
        return result

    def _run(self, grey: np.ndarray, out: np.ndarray) -> None:
        workspace: Optional[Workspace] = getattr(self._own, "workspace", None)
        if workspace is None:
            workspace = self._own.workspace = self._compiled.workspace(self._columns)
        self._compiled.run(workspace, grey, out)


def rounding_of_winograd(plan: DensePlan, layer_kernels: Kernels) -> float:
    """How far Winograd's products move probabilities from the direct form's, at most, on a picture for trial.

    Half the picture is noise, half is smooth, both of the spread of normalised grey values.  With two classes the
    scores are compared, since a probability moves by at most a quarter of their difference, and by just that where
    it is one half, which the picture need not have anywhere.  0 where no convolution would go by Winograd.
    """
    lowered = lower(plan, layer_kernels, logits=True)
    direct, quick = make_program(lowered, winograd=False), make_program(lowered)
    if np.array_equal(direct.numbers, quick.numbers):
        return 0.0
    picture = _trial_picture(plan)
    found = []
    for program in (direct, quick):
        compiled = Compiled(program)
        out = np.empty(tuple(picture.shape[1 + axis] - plan.input.reach[axis] for axis in (0, 1)), np.float32)
        compiled.run(compiled.workspace(out.shape[1]), picture, out)
        found.append(out.astype(float))
    scores = isinstance(lowered.items[-1], Output) and lowered.channels[lowered.items[-1].source] == 1
    return float(np.abs(found[0] - found[1]).max()) * (0.25 if scores else 1.0)


def _trial_picture(plan: DensePlan) -> np.ndarray:
    rows, columns = (16 + reach for reach in plan.input.reach)
    noise = np.random.default_rng(0).standard_normal((plan.input.channels, rows, 2 * columns))
    smooth = noise[:, :, columns:]
    for axis in (1, 2):
        smooth = np.sum([np.roll(smooth, shift, axis) for shift in range(-3, 4)], axis=0)
    noise[:, :, columns:] = smooth / smooth.std()
    return noise.astype(np.float32)


def _strips(columns: int) -> List[int]:
    """Widths of the strips that a tile is cut into, as equal as can be."""
    count = -(-columns // STRIP)
    return [columns * (number + 1) // count - columns * number // count for number in range(count)]


def create(graph: NetGraph, weights: Weights, tile: Pair, threads: int) -> NativeEngine:
    """See :func:`pycaffe_tools.engines.create`."""
    return NativeEngine(graph, weights, tile, threads)


def predicted_bytes(graph: NetGraph, tile: Pair, threads: int) -> int:
    """See :func:`pycaffe_tools.engines.predicted_bytes`: a workspace for each thread, and the tile before and after."""
    program, reach = _layout(graph)
    area = (tile[0] + reach[0]) * (tile[1] + reach[1])
    return (_BASE_BYTES + threads * program.workspace_bytes(max(_strips(tile[1]))) + 3 * 4 * area
            + 16 * graph.parameter_count())


@functools.lru_cache(maxsize=8)
def _layout(graph: NetGraph) -> Tuple[Program, Pair]:
    """The program of a net whose weights do not matter, and how far its input reaches beyond the output."""
    plan = make_plan(graph)
    zeros = {layer.name: [np.zeros(shape, np.float32) for shape in graph.parameter_shapes(layer)]
             for layer in graph.chain() if layer.is_parametric}
    return make_program(lower(plan, kernels(graph, zeros))), plan.input.reach

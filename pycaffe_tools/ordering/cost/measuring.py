"""The processor time that a dense engine takes for a pixel, under the conditions under which slices are segmented."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from ... import engines
from ...base.host.machine import available_memory
from ...base.ranges import Pair
from ...engines.engine import Engine
from ...nets.netgraph import NetGraph
from ...nets.running.runtime import Weights, random_weights

_TRAINED = np.float32(0.02)
"""Scores of random weights are this much closer together in a trained net.  The native engine looks at how far its
rounding moves probabilities before it takes the kernels with fewer products, so the scores decide about the time."""


def seconds_per_pixel(graph: NetGraph, engine: str, tile: Pair, workers: int = 1) -> float:
    """Processor seconds of one thread for a pixel, the mean over the threads, on a tile of noise with random weights.

    Parameters
    ----------
    graph : the net.
    engine : name of an engine.
    tile : rows and columns of output.
    workers : threads that compute a tile each at the same time, since what they share (memory, caches) slows them down;
        fewer where memory is short.

    Raises
    ------
    UserError : the engine is not installed or cannot run the net.
    """
    weights = like_trained(graph)
    room = available_memory() // 2 // max(engines.predicted_bytes(engine, graph, tile), 1)
    ready = [engines.create(engine, graph, weights, tile) for _ in range(max(1, min(workers, room)))]
    before, after = ready[0].halo
    shape = tuple(side + before + after for side in tile)
    grey = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    start = Barrier(len(ready))

    def spent(one: Engine) -> float:
        one.predict(grey)       # the first run also fetches memory
        start.wait()
        mark = time.thread_time()
        one.predict(grey)
        return time.thread_time() - mark

    with ThreadPoolExecutor(len(ready)) as threads:
        return float(np.mean(list(threads.map(spent, ready)))) / (tile[0] * tile[1])


def like_trained(graph: NetGraph) -> Weights:
    """Random weights whose scores are as close together as those of a trained net."""
    weights = random_weights(graph)
    last = [layer.name for layer in graph.layers if layer.is_parametric][-1]
    return {**weights, last: [blob * _TRAINED for blob in weights[last]]}

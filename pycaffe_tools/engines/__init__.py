"""Engines: one way each to turn a tile of grey values into membrane probabilities.

=============== ==================================================================================
``native``      the exact dense net in C++ kernels of our own; the fastest, needs a C++ compiler once
``onnxruntime`` the exact dense net in ONNX Runtime; needs no Caffe
``caffe``       the exact dense net in stock Caffe 1.0
``patch``       every patch by itself in Caffe: the paper's way, and the reference for the others
=============== ==================================================================================

All of them give the same numbers (|dp| <= 1e-5), so which one runs is a matter
of time and memory alone.  An engine knows nothing of volumes, slices or
processes:

    >>> engine = create("onnxruntime", graph, weights, tile=(256, 256))      # doctest: +SKIP
    >>> before, after = engine.halo                                          # doctest: +SKIP
    >>> probabilities = engine.predict(normalised[:256 + before + after, :256 + before + after])  # doctest: +SKIP

Source: exact dense evaluation of nets with clipped pooling windows, see :mod:`pycaffe_tools.dense_plan.plan`.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Dict, List, Tuple

from ..base.errors import UserError
from ..base.ranges import Pair
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights
from .engine import Engine

USEFUL_BYTES = 900_000_000
"""Memory of a process beyond which a larger tile gains only a few hundredths of the time."""

# Module that holds each engine, and the package that it cannot run without; the first installed one is the default.
_ENGINES: Dict[str, Tuple[str, str]] = {
    "native": ("dense_native", ""),
    "onnxruntime": ("dense_onnx", "onnxruntime"),
    "caffe": ("dense_caffe", "caffe"),
    "patch": ("patch", "caffe"),
}
NAMES = tuple(_ENGINES)

RUN_BY_THREADS = frozenset({"native"})
"""Engines that several threads of one process can call at once, without waiting for each other."""


def available() -> List[str]:
    """Names of the engines whose packages are installed here, or whose libraries are built, the fastest first."""
    return [name for name in _ENGINES if _is_installed(name)]


def _is_installed(name: str) -> bool:
    package = _ENGINES[name][1]
    if package:
        return importlib.util.find_spec(package) is not None
    from .native import library
    return library.available()


def default_name() -> str:
    """The fastest engine installed here; the native one is built if a compiler works, which is tried once.

    Raises
    ------
    UserError : none is.
    """
    from .native import library
    library.prepare()
    names = available()
    if not names:
        raise UserError("segmentation: neither onnxruntime nor Caffe is installed here; "
                        "run `make env` and use .caffe/bin/python, or `pip install onnx onnxruntime`")
    return names[0]


def create(name: str, graph: NetGraph, weights: Weights, tile: Pair, threads: int = 1) -> Engine:
    """Make an engine ready.

    Parameters
    ----------
    name : one of ``NAMES``.
    graph : the net for patches (deploy prototxt).
    weights : its blobs by layer name.
    tile : rows and columns of output that one call shall give at most; memory grows with it.
    threads : of the arithmetic in this process.  BLAS reads its number when it
        is loaded, so for the Caffe engines set OPENBLAS_NUM_THREADS before.

    Raises
    ------
    UserError : unknown engine, its package is missing, or the net is not of a kind that it can run.
    """
    package = _ENGINES[_known(name)][1]
    if package and not _is_installed(name):
        raise UserError(f"engine {name}: the package {package} is not installed here; "
                        + ("run `make env` and use .caffe/bin/python" if package == "caffe"
                           else "run `pip install onnx onnxruntime`"))
    engine: Engine = _module(name).create(graph, weights, tile, threads)
    return engine


def predicted_bytes(name: str, graph: NetGraph, tile: Pair, threads: int = 1) -> int:
    """Peak resident memory of one process that runs this engine with this tile, in bytes.

    A measured constant (the interpreter and its libraries) plus what the net's
    maps and buffers take by count; an upper estimate, not a bound proved.
    """
    return int(_module(name).predicted_bytes(graph, tile, threads))


def best_tile(name: str, graph: NetGraph, max_bytes: int) -> Pair:
    """The tile that gives the best speed within ``max_bytes`` of memory for one process.

    Larger tiles compute their halo less often; more than ``USEFUL_BYTES`` are not taken for that.

    Raises
    ------
    UserError : not even the smallest tile fits; says how much it would take.
    """
    module = _module(name)
    sides = module.tile_sides(graph) if hasattr(module, "tile_sides") else module.TILE_SIDES
    for side in sides:
        if predicted_bytes(name, graph, (side, side)) <= min(max_bytes, USEFUL_BYTES):
            return side, side
    least = predicted_bytes(name, graph, (module.TILE_SIDES[-1],) * 2)
    if least <= max_bytes:
        return (module.TILE_SIDES[-1],) * 2
    raise UserError(f"engine {name}: needs at least {-(-least // 10**6)}M of memory for one process of net "
                    f"{graph.name}, more than the {max_bytes // 10**6}M there are; allow more, or use fewer workers")


def _known(name: str) -> str:
    if name not in _ENGINES:
        raise UserError(f"engine {name}: is unknown; choose one of {', '.join(NAMES)}")
    return name


def _module(name: str) -> ModuleType:
    # None of the modules imports its engine's package before an engine is made, so predictions work anywhere.
    return importlib.import_module(f"{__name__}.{_ENGINES[_known(name)][0]}")

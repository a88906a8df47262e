"""Membrane segmentation in electron microscopy with pruned Caffe networks.

A reproduction of J. Roels et al., "Convolutional neural network pruning to
accelerate membrane segmentation in electron microscopy", ISBI 2017
(arXiv:1810.09735).  Every step is a command, ``pycaffe-tools NAME --help`` or
``python -m pycaffe_tools.NAME --help``, with a file between it and the next,
and a function:

    >>> import pycaffe_tools
    >>> with pycaffe_tools.open_volume("raw.tif") as volume:         # doctest: +SKIP
    ...     print(volume.shape)
    (16, 512, 512)
    >>> summary = pycaffe_tools.segment("raw.tif", "membranes.tif", "runs/N7")       # doctest: +SKIP

The names in ``__all__`` are the public door; ``docs/tutorial.md`` goes through
it.  Importing the package imports none of what is behind it: a name is loaded
when it is first used, so that what needs no Caffe works without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

__version__ = "0.1.0"

__all__ = ["LabelledStack", "OrderingOptions", "UserError", "draw_sample", "evaluate", "export", "make_database",
           "open_database", "open_model", "open_volume", "order_layer", "prune", "remove_features", "segment", "train",
           "verify", "write_synthetic"]

_WHERE = {
    "LabelledStack": "patches.sources",
    "OrderingOptions": "ordering.ordering",
    "UserError": "base.errors",
    "draw_sample": "ordering.sample",
    "make_database": "patches.making",
    "open_database": "patches.database",
    "open_model": "nets.model",
    "open_volume": "volumes.opening",
    "order_layer": "ordering.ordering",
    "remove_features": "surgery.surgery",
    "verify": "surgery.proof",
    "write_synthetic": "datasets.scene",
}
"""Modules that hold the names of the door."""

_CALLABLE_PACKAGES = ("evaluate", "export", "prune", "segment", "train")
"""Names of the door that are packages as well; see :mod:`pycaffe_tools.base.callable_package`."""

if TYPE_CHECKING:
    from .base.errors import UserError as UserError
    from .datasets.scene import write_synthetic as write_synthetic
    from .evaluate.evaluation import evaluate as evaluate
    from .export.onnx_net import export as export
    from .nets.model import open_model as open_model
    from .ordering.ordering import OrderingOptions as OrderingOptions, order_layer as order_layer
    from .ordering.sample import draw_sample as draw_sample
    from .patches.database import open_database as open_database
    from .patches.making import make_database as make_database
    from .patches.sources import LabelledStack as LabelledStack
    from .prune.door import prune as prune
    from .segment.door import segment as segment
    from .surgery.proof import verify as verify
    from .surgery.surgery import remove_features as remove_features
    from .train.training import train as train
    from .volumes.opening import open_volume as open_volume


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _WHERE:
        value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})

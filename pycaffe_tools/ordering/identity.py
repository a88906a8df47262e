"""What an ordering depends on, as digests: the same key, the same order."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from ..nets.files.schema import to_text
from ..nets.netgraph import NetGraph
from ..nets.running.runtime import Weights
from .sample import Sample


def weights_digest(weights: Weights) -> str:
    """SHA-256 over the names, shapes and float32 values of all blobs, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        for blob in weights[name]:
            digest.update(f"{name}{tuple(blob.shape)}".encode())
            digest.update(np.ascontiguousarray(blob, np.float32).tobytes())
    return digest.hexdigest()


def key_of(graph: NetGraph, weights: str, what: Any, sample: Sample, *options: Any) -> str:
    """SHA-256, in hexadecimal, over everything that an ordering depends on.

    Parameters
    ----------
    graph : the net; its name and its batch size do not count.
    weights : digest of its weights.
    what : what is ordered, such as a layer's name.
    sample : the patches.
    options : further values that JSON can hold.
    """
    net = graph.with_batch(1)
    net.name = ""
    patches = hashlib.sha256(np.ascontiguousarray(sample.data).tobytes())
    patches.update(np.asarray(sample.labels, np.int64).tobytes())
    parts = [to_text(net), weights, what, patches.hexdigest(), sample.rows, sample.batch_size, *options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""The proof that surgery changed nothing else: masked and slim net give the same output in Caffe."""

from __future__ import annotations

import numpy as np

from ..base.errors import UserError
from ..nets.running.runtime import load_net
from .surgery import Surgery

TOLERANCE = 1e-5
"""Largest difference between the masked and the slim net, relative to the largest value of the blob."""


def verify(surgery: Surgery, seed: int = 0) -> float:
    """Run the masked and the slim net in real Caffe on the same random input and compare all their blobs.

    Not only the outputs are compared: a saturated softmax could hide a
    difference.  Where the slim net lacks channels, those of the masked net
    must be exactly zero.

    Parameters
    ----------
    surgery : from :func:`remove_features`.
    seed : of the normally distributed input.

    Returns
    -------
    The largest absolute difference in a blob, divided by the blob's largest
    absolute value; infinite where one of them is not finite.

    Raises
    ------
    UserError : Caffe is not installed, or a shape cannot be derived.
    """
    net, channels = surgery.net, surgery.channels
    masked = load_net(net.proto, surgery.masked_weights)
    slim = load_net(surgery.slim_proto, surgery.slim_weights)
    generator = np.random.default_rng(seed)
    for name in masked.inputs:
        data = generator.standard_normal(masked.blobs[name].data.shape)
        masked.blobs[name].data[...] = slim.blobs[name].data[...] = data
    masked.forward()
    slim.forward()
    # Of several values with one name (in-place layers) the last is what the blob holds.
    last = {value.blob: value for layer in net.layers for value in layer.outputs}
    differences = [0.0]
    for blob, value in last.items():
        full, small = masked.blobs[blob].data, slim.blobs[blob].data
        removed = channels.removed(value)
        if removed is not None:
            differences.append(np.inf if full[:, removed].any() else 0.0)
            full = full[:, ~removed]
        differences.append(_relative_difference(full, small))
    return float(max(differences))


def _relative_difference(full: np.ndarray, small: np.ndarray) -> float:
    if full.shape != small.shape or not (np.isfinite(full).all() and np.isfinite(small).all()):
        return np.inf
    difference, scale = np.abs(full - small).max(initial=0), np.abs(full).max(initial=0)
    return float(difference / scale) if difference else 0.0


def prove(surgery: Surgery, seed: int = 0) -> float:
    """:func:`verify`, and refuse a result above :data:`TOLERANCE`.

    Raises
    ------
    UserError : the two nets differ.
    """
    difference = verify(surgery, seed)
    if not difference <= TOLERANCE:
        raise UserError(f"net {surgery.net.name}: the masked and the slim net differ by {difference:.2g} of the "
                        f"largest value (allowed: {TOLERANCE:g}), so nothing was written; check the weights for huge "
                        f"or undefined values")
    return difference

"""Training and retraining with Caffe."""

from __future__ import annotations

from ..base.callable_package import make_callable

make_callable(__name__, "training:train")

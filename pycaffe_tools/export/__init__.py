"""Models for other programs: Caffe, ONNX, bioimage.io."""

from __future__ import annotations

from ..base.callable_package import make_callable

make_callable(__name__, "onnx_net:export")

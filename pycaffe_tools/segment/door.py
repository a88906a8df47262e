"""What ``pycaffe_tools.segment(...)`` calls: a whole segmentation as one function."""

from __future__ import annotations

import os
import warnings
from contextlib import closing
from typing import Optional

from ..base.files import PathLike
from ..base.ranges import Pair, parse_part
from .request import Request
from .segmentation import Segmentation, Summary


def segment(input: PathLike, out: PathLike, model: PathLike, *, slices: Optional[str] = None, part: Optional[str] = None,
            crop: Optional[str] = None, axes: Optional[str] = None, threshold: Optional[float] = None, mask_out: Optional[PathLike] = None,
            overlay_out: Optional[PathLike] = None, mode: str = "dense", engine: str = "auto", tile: Optional[Pair] = None,
            max_memory: Optional[int] = None, workers: Optional[int] = None, dtype: str = "float32",
            incomplete: bool = False, force: bool = False, ome_zarr: str = "0.4", compress: bool = False,
            shared: bool = False, calibrated: bool = False, membrane_share: Optional[float] = None) -> Summary:
    """Write the probability of membrane at every pixel of a volume, or complete what an interrupted call has begun.

    Parameters
    ----------
    input, out : volumes; see :func:`pycaffe_tools.open_volume` for what is read, and
        :func:`pycaffe_tools.volumes.creating.create_volume` for what is written.
    model : a model directory, made by :func:`pycaffe_tools.train` or :func:`pycaffe_tools.prune`.
    slices : half-open ranges such as ``"0:4,9"``; by default all.
    part : only one part of these slices, such as ``"3/16"``, counted from 1; parts are joined by
        :func:`pycaffe_tools.segment.outputs.merge`, or write into one OME-Zarr, which
        :func:`pycaffe_tools.segment.in_place.sharing.finish` finishes.
    crop : part of each slice, ``"Y0:Y1,X0:X1"`` in pixels; patches reach beyond it.
    axes : axes of the input where the file does not name them, such as ``"CZYX"``.
    threshold : probability from which a pixel is membrane, 0 to 1; by default the model's.
    mask_out : where to write the mask, uint8, 0 and 255.
    overlay_out : folder for pictures, the mask's outline on the grey image, one PNG for each slice.
    mode : ``"dense"``, the exact dense evaluation, or ``"patch"``, patch by patch as in the paper (slow).
    engine : ``"onnxruntime"``, ``"caffe"``, or ``"auto"``: the first of the two that is installed.
    tile : rows and columns of a tile; by default chosen by ``max_memory``.
    max_memory : bytes for all processes together; by default 1 GB for each, at most half of what is free.
    workers : processes of one thread; by default one for each core.
    dtype : of the probabilities, ``"float32"``, or ``"uint8"`` for 255 times as much, rounded.
    incomplete : write the outputs even if slices failed; these slices are zero.
    force : replace outputs, and start unfinished ones from scratch.
    ome_zarr : version of a ``.zarr``, ``"0.4"`` or ``"0.5"``.
    compress : write an ``.h5`` in chunks, with gzip.
    calibrated : write probabilities at the volume's own share of membrane instead of one half.
    membrane_share : that share, above 0 and below 1; by default that of the model's validation slices.
    shared : write into an OME-Zarr in place although no part is asked for.

    Returns
    -------
    Numbers of the slices that were computed, were there already, or failed (with the reason of each), and the files
    written.  A slice that cannot be read fails alone; unless ``incomplete`` is given, nothing is written then.

    Raises
    ------
    UserError : what the user can put right; nothing half-written takes an output's name.

    Warns
    -----
    UserWarning : the grey values or the pixel size are not what the model was trained on.
    """
    def text(path: Optional[PathLike]) -> Optional[str]:
        return None if path is None else os.fspath(path)

    request = Request(os.fspath(input), os.fspath(out), os.fspath(model), slices, parse_part(part), crop, axes, threshold,
                      text(mask_out), text(overlay_out), mode, engine, tile, max_memory, workers, dtype, incomplete, force, ome_zarr,
                      compress, shared, calibrated, membrane_share)
    with closing(Segmentation(request)) as work:
        for sentence in work.warnings:
            # The caller's line is behind this function and the package that can be called.
            warnings.warn(sentence, stacklevel=3)
        return work.run()

"""Reading the slices of TIFF files, one at a time, whichever way they are stored."""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

from ..base.errors import UserError
from ..base.files import atomic_file
from . import pixel_size as calibration
from .axes import Layout, brief
from .hdf5 import reserve_space
from .pixel_size import PixelSize
from .volume import Volume

# What tifffile logs about a damaged file is said in one sentence by whoever reads it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffSlices(NamedTuple):
    """An open TIFF: ``read(z)`` gives slice z, y by x."""

    shape: Tuple[int, int, int]
    dtype: np.dtype
    pixel_size: calibration.PixelSize
    read: Callable[[int], np.ndarray]
    close: Callable[[], None]


def read_tiff(path: str, file: Path, axes: Optional[str]) -> TiffSlices:
    """Open a TIFF of any kind for reading slice by slice.

    Parameters
    ----------
    path : what to call it in messages.
    file : the TIFF.
    axes : a letter for each dimension, or None.

    Raises
    ------
    UserError : truncated, damaged, colour, or of a shape that is not supported.
    """
    import tifffile

    tif = None
    try:
        tif = tifffile.TiffFile(file)
        _check_page_chain(path, tif)
        layout, read = _tiff_reader(path, tif, axes)
        page = tif.pages[0]
        return TiffSlices(layout.shape, page.dtype, calibration.of_tiff(tif), read, tif.close)
    except (UserError, MemoryError, PermissionError):
        if tif is not None:
            tif.close()
        raise
    except Exception as error:          # whatever the parser runs into on bytes that are no TIFF
        if tif is not None:
            tif.close()
        raise UserError(f"{path}: is not a readable TIFF ({brief(error)}); copy it anew or save it again") from error


def _check_page_chain(path: str, tif: Any) -> None:
    """Refuse a file whose chain of page headers is cut: readers would silently see fewer slices."""
    layout, stream = tif.tiff, tif.filehandle
    size, position, seen = stream.size, 8 if layout.is_bigtiff else 4, set()
    order = "little" if layout.byteorder == "<" else "big"

    def number(at: int, length: int) -> int:
        stream.seek(at)
        piece = stream.read(length)
        if len(piece) != length:
            raise UserError(f"{path}: is truncated: the header of page {len(seen)} lies beyond its end; copy it anew")
        return int.from_bytes(piece, order)

    while True:
        offset = number(position, layout.offsetsize)
        if offset == 0 and seen:
            return
        if offset in seen or not 0 < offset < size:
            raise UserError(f"{path}: is truncated or damaged: the header of page {len(seen)} is not in the file; "
                            f"copy it anew")
        seen.add(offset)
        position = offset + layout.tagnosize + number(offset, layout.tagnosize) * layout.tagsize


def _tiff_reader(path: str, tif: Any, axes: Optional[str]) -> Tuple[Layout, Callable[[int], np.ndarray]]:
    series = tif.series[0]
    page = tif.pages[0]
    if page.samplesperpixel > 1 or "S" in series.axes:
        # tifffile's writer takes three or four slices for the planes of a colour picture unless told otherwise.
        planes = series.axes == "SYX"
        if not (planes and axes and series.dataoffset is not None):
            hint = ", or say --axes ZYX if these are slices" if planes else ""
            raise UserError(f"{path}: holds colour (RGB) pixels, shape {tuple(series.shape)}; convert it to grey "
                            f"values{hint}")
    promised = int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1
    found = max(len(tif.pages), series.size // page.size)   # ImageJ above 4 GB: many slices under one page header
    if found < promised:
        raise UserError(f"{path}: is truncated: it announces {promised} images and holds {found}; copy it anew")
    if len(tif.series) == 1 or tif.is_ome:
        layout = Layout(path, *_tiff_shape(series, axes))
        # All letters but z, y, x have size 1, so page z of the series is slice z, whatever their order.
        pages: Any = series.pages
    else:                               # pages of one size that differ otherwise, e.g. in compression
        odd = next((number for number, other in enumerate(tif.pages) if other.shape != page.shape), None)
        if odd is not None:
            raise UserError(f"{path}: page {odd} has shape {tif.pages[odd].shape}, page 0 has {page.shape}; "
                            f"bring all pages to one size, or give a folder of slices")
        layout, pages = Layout(path, (len(tif.pages),) + page.shape, axes), tif.pages
    if layout.transposed or page.shape[-2:] != layout.shape[1:]:
        raise UserError(f"{path}: pages of shape {page.shape} do not hold y and x in this order; save it as ZYX")
    if series.dataoffset is not None and pages is series.pages:
        # One block of bytes: the only way to see all of an ImageJ file above 4 GB, which has one page header.
        return layout, _block_reader(path, tif, series.dataoffset, layout.shape[1:], page.dtype)
    return layout, lambda z: _read_page(path, pages[z], z, layout.shape[1:])


def _tiff_shape(series: Any, axes: Optional[str]) -> Tuple[Tuple[int, ...], Optional[str]]:
    if axes is not None and len(axes) != len(series.shape):
        whole = series.get_shape(squeeze=False)     # axes of size 1 are left out of .shape
        if len(axes) == len(whole):
            return whole, axes
        if len(axes) > len(series.shape):           # the file does not hold them, so they are of size 1
            missing = len(axes) - len(series.shape)
            if not set(axes[:missing]) & set("ZYX"):
                return (1,) * missing + tuple(series.shape), axes
    return series.shape, axes


def _block_reader(path: str, tif: Any, start: int, shape: Tuple[int, int],
                  dtype: np.dtype) -> Callable[[int], np.ndarray]:
    dtype = np.dtype(dtype).newbyteorder(tif.byteorder)
    length = shape[0] * shape[1] * dtype.itemsize

    def read(z: int) -> np.ndarray:
        tif.filehandle.seek(start + z * length)
        piece = tif.filehandle.read(length)
        if len(piece) != length:
            raise _truncated(path, z)
        return np.frombuffer(piece, dtype).reshape(shape)

    return read


def _read_page(path: str, page: Any, z: int, shape: Tuple[int, int]) -> np.ndarray:
    if page is None:                    # an OME series whose other files are missing
        raise _truncated(path, z)
    stream = page.parent.filehandle
    if any(offset + count > stream.size for offset, count in zip(page.dataoffsets, page.databytecounts)):
        raise _truncated(path, z)
    image = page.asarray()
    return image.reshape(shape) if image.size == shape[0] * shape[1] else image


def _truncated(path: str, z: int) -> UserError:
    return UserError(f"{path}: slice {z} cannot be read because the file ends before it (truncated); copy it anew")


CLASSIC_TIFF_LIMIT = 4_000_000_000
"""Bytes of pixels up to which a TIFF is written in ImageJ's own layout; offsets there have 32 bits."""


# TIFF

def _create_tiff(stack: ExitStack, file: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                 pixel_size: PixelSize, description: str, force: bool) -> Callable[[int, np.ndarray], None]:
    import tifffile

    temporary = stack.enter_context(atomic_file(file))
    imagej = math.prod(shape) * dtype.itemsize < CLASSIC_TIFF_LIMIT
    options, metadata = (_imagej_metadata if imagej else _ome_metadata)(pixel_size, description)
    # The headers come first and the pixels are one block behind them, which is then filled slice by slice.
    with tifffile.TiffWriter(temporary, byteorder=">", imagej=imagej, ome=not imagej, bigtiff=not imagej) as tif:
        start, _ = tif.write(shape=shape, dtype=dtype, photometric="minisblack", metadata=metadata,
                             returnoffset=True, **options)
    reserve_space(temporary)
    stream = stack.enter_context(open(temporary, "r+b", buffering=0))
    length = shape[1] * shape[2] * dtype.itemsize

    def write(z: int, image: np.ndarray) -> None:
        rest = memoryview(image.astype(dtype.newbyteorder(">"), order="C").tobytes())
        stream.seek(start + z * length)
        while rest:
            rest = rest[stream.write(rest):]

    return write


def _imagej_metadata(size: PixelSize, description: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """ImageJ has one unit and no word for a single unknown axis: then a line of our own says which are known."""
    metadata: Dict[str, Any] = {"axes": "ZYX"}
    if description:
        metadata["Info"] = description
    options = {}
    if size.x is not None and size.y is not None:
        metadata["unit"] = "nm"
        options["resolution"] = tuple((1 / Fraction(f"{length:.9g}")).as_integer_ratio() for length in (size.x, size.y))
        if size.z is not None:
            metadata["spacing"] = size.z
    elif any(length is not None for length in size):
        metadata["pixel_size_nm"] = ",".join("unknown" if length is None else f"{length:.10g}" for length in size)
    return options, metadata


def _ome_metadata(size: PixelSize, description: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    metadata: Dict[str, Any] = {"axes": "ZYX"}
    if description:
        metadata["Description"] = description
    for axis, length in zip("ZYX", size):
        if length is not None:
            metadata.update({f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": "nm"})
    return {}, metadata


def _of_tiff(path: str, file: Path, axes: Optional[str]) -> Volume:
    tiff = read_tiff(path, file, axes)
    return Volume(path, tiff.shape, tiff.dtype, tiff.pixel_size, tiff.read, tiff.close, lambda: [file])

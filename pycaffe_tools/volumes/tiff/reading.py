"""Reading the slices of TIFF files, one at a time, whichever way they are stored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...base.errors import UserError
from ..axes import Layout, brief
from ..volume import Stored
from .headers import Header, headers_of
from .page import declared_colour, read_page, refuse_missing_codec, with_zero_black
from .pixel_size import pixel_size_of

# What tifffile logs about a damaged file is said in one sentence by whoever reads it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class _Image(NamedTuple):
    """The pages that make up one image of the file."""

    pages: Sequence[Any]
    shape: Tuple[int, ...]
    axes: Optional[str]                 # a letter for each dimension of the shape, as the file has them
    series: Optional[Any]               # of tifffile, where the image is one
    number: int


def read_tiff(path: str, file: Path, inner: Optional[str], axes: Optional[str]) -> Stored:
    """Open a TIFF of any kind for reading slice by slice.

    Parameters
    ----------
    path : what to call it in messages.
    file : the TIFF.
    inner : number of the image, counted from 0, in a file of several; or None.
    axes : a letter for each dimension, or None.

    Raises
    ------
    UserError : truncated, damaged, colour, several images or channels, compressed in a way that nothing here reads, or
        of a shape that is not supported.
    """
    import tifffile

    tif = None
    try:
        tif = tifffile.TiffFile(file)
        headers = headers_of(path, tif)
        image = _choose(path, file, tif, inner, axes, headers)
        if image.series is not None and image.series.axes == "SYX" and axes and image.series.dataoffset is not None:
            # tifffile's writer takes three or four slices for the planes of a colour picture unless told otherwise.
            layout = Layout(path, image.shape, axes)
            read = _block_reader(path, tif, image.series.dataoffset, layout.shape[1:], image.pages[0].dtype, None)
        else:
            own = _headers_of_image(tif, image, headers)
            _refuse_colour(path, image, own)
            _refuse_truncated(path, tif, image)
            layout = Layout(path, *_shape_and_axes(image, axes))
            read = _reader(path, tif, image, layout, own)
        page = _first_page(path, image)
        refuse_missing_codec(path, page)
        return Stored(layout.shape, page.dtype, pixel_size_of(tif, image.number, len(tif.series)), read, lambda: [file],
                      tif.close)
    except (UserError, MemoryError, PermissionError):
        if tif is not None:
            tif.close()
        raise
    except Exception as error:          # whatever the parser runs into on bytes that are no TIFF
        if tif is not None:
            tif.close()
        raise UserError(f"{path}: is not a readable TIFF ({brief(error)}); copy it again or save it again") from error


def _choose(path: str, file: Path, tif: Any, inner: Optional[str], axes: Optional[str],
            headers: Sequence[Header]) -> _Image:
    found = tif.series
    names = [f"{file}:{number} ({f'{series.name}, ' if series.name else ''}shape "
             f"{' x '.join(map(str, series.shape))})" for number, series in enumerate(found)]
    if inner is not None:
        if not inner.isdigit() or int(inner) >= len(found):
            raise UserError(f"{path}: there is no image {inner}; the file holds {', '.join(names[:8])}")
        return _whole_series(found[int(inner)], int(inner))
    if len(found) == 1:
        return _whole_series(found[0], 0)
    first = tif.pages[0]
    odd = next((number for number, page in enumerate(tif.pages) if page.shape != first.shape), None)
    declared = found[0].kind not in ("generic", "uniform") and any(len(series.shape) > 2 for series in found)
    if found[0].kind == "ome" or odd is None and declared and not axes or odd is not None and declared:
        again = ", or pass --axes ZYX to read all pages as one stack" if odd is None and found[0].kind != "ome" else ""
        raise UserError(f"{path}: holds {len(found)} images: {', '.join(names[:8])}{' ...' if names[8:] else ''}; "
                        f"name one of them, as in {file}:0{again}")
    if odd is not None:
        raise UserError(f"{path}: page {odd} has shape {tif.pages[odd].shape}, page 0 has {first.shape}; bring all pages "
                        f"to one size, give a folder of slices, or name one image, as in {file}:0")
    depths = [header.bits for header in headers]
    other = next((number for number, bits in enumerate(depths) if bits != depths[0]), None)
    if other is not None:
        raise UserError(f"{path}: page {other} has {depths[other]} bits a pixel, page 0 has {depths[0]}; bring all pages "
                        f"to one data type, or name one image, as in {file}:0")
    # Pages of one size that differ otherwise, in compression or in what is black.
    return _Image(tif.pages, (len(tif.pages), *first.shape), None, None, 0)


def _whole_series(series: Any, number: int) -> _Image:
    return _Image(series.pages, tuple(series.shape), series.axes, series, number)


def _first_page(path: str, image: _Image) -> Any:
    page = next((page for page in image.pages if page is not None), None)
    if page is None:
        raise UserError(f"{path}: the files that hold its pages are not beside it; copy the whole data set")
    return page.aspage()


def _headers_of_image(tif: Any, image: _Image, headers: Sequence[Header]) -> List[Header]:
    """The headers of an image's pages; those in other files of the data set are left out, and seen when they are read."""
    if len(tif.series) == 1 and image.series is not None and image.series.dataoffset is not None:
        return list(headers)            # without tifffile's parsing each page, which takes seconds for thousands
    return [headers[page.index] for page in image.pages
            if page is not None and page.parent is tif and page.index < len(headers)]


def _refuse_colour(path: str, image: _Image, headers: Sequence[Header]) -> None:
    for number, header in enumerate(headers):
        colour = declared_colour(header)
        if colour:
            planes = image.axes == "SYX"
            where = f"page {number} holds" if len(headers) > 1 else "holds"
            raise UserError(f"{path}: {where} {colour}, shape {image.shape}; convert it to grey values"
                            f"{', or pass --axes ZYX if these are slices' if planes else ''}")


def _refuse_truncated(path: str, tif: Any, image: _Image) -> None:
    promised = int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1
    # ImageJ above 4 GB: many slices under one page header.
    found = max(len(tif.pages), image.series.size // tif.pages[0].size if image.series is not None else 0)
    if found < promised:
        raise UserError(f"{path}: is truncated: it announces {promised} images and holds {found}; copy it again")


def _shape_and_axes(image: _Image, axes: Optional[str]) -> Tuple[Tuple[int, ...], Optional[str], Optional[str]]:
    """Shape, the user's axes, and the file's own, with as many letters as the shape has sizes."""
    if axes is not None and len(axes) != len(image.shape) and image.series is not None:
        # Before tifffile 2026.4, .shape leaves axes of size 1 out.
        whole = tuple(image.series.get_shape(squeeze=False) if hasattr(image.series, "get_shape") else image.series.shape)
        if len(axes) == len(whole):
            return whole, axes, None
        missing = len(axes) - len(image.shape)
        # The file does not hold them, so they are of size 1.
        if missing > 0 and not set(axes[:missing]) & set("ZYX"):
            return (1,) * missing + image.shape, axes, None
    return image.shape, axes, image.axes


def _reader(path: str, tif: Any, image: _Image, layout: Layout,
            headers: Sequence[Header]) -> Callable[[int], np.ndarray]:
    depth, shape = layout.shape[0], layout.shape[1:]
    first = _first_page(path, image)
    white_is_zero = {header.white_is_zero for header in headers}
    inverted = first if white_is_zero == {True} else None
    if layout.has_whole_slices and image.series is not None and image.series.dataoffset is not None and len(white_is_zero) < 2:
        # One block of bytes: the only way to see all of an ImageJ file above 4 GB, which has one page header.
        return _block_reader(path, tif, image.series.dataoffset, shape, first.dtype, inverted)
    if layout.has_whole_slices and len(image.pages) == depth:
        return lambda z: read_page(path, image.pages[z], z, shape)
    if image.series is None:
        raise UserError(f"{path}: its pages of shape {first.shape} are not slices of shape {shape}; save it as ZYX")
    if len(white_is_zero) > 1:
        raise UserError(f"{path}: its slices are spread over pages of which some are white for 0 and some black; "
                        f"save it as ZYX")
    return _turned_reader(path, tif, image, layout, inverted)


def _block_reader(path: str, tif: Any, start: int, shape: Tuple[int, int], dtype: Any,
                  inverted: Optional[Any]) -> Callable[[int], np.ndarray]:
    stored = np.dtype(dtype).newbyteorder(tif.byteorder)
    length = shape[0] * shape[1] * stored.itemsize

    def read(z: int) -> np.ndarray:
        tif.filehandle.seek(start + z * length)
        piece = tif.filehandle.read(length)
        if len(piece) != length:
            raise UserError(f"{path}: slice {z} cannot be read because the file ends before it (truncated); copy it again")
        pixels = np.frombuffer(piece, stored).reshape(shape)
        return pixels if inverted is None else with_zero_black(path, pixels, inverted)

    return read


def _turned_reader(path: str, tif: Any, image: _Image, layout: Layout,
                   inverted: Optional[Any]) -> Callable[[int], np.ndarray]:
    """Slices that are spread over the pages: mapped where they lie in one block, else decoded once into a scratch file."""
    series: Any = image.series
    mapped: List[Any] = []
    if series.dataoffset is not None:
        stored = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        if series.dataoffset + int(np.prod(image.shape)) * stored.itemsize > tif.filehandle.size:
            raise UserError(f"{path}: is truncated: its pixels go on beyond its end; copy it again")
        mapped.append(np.memmap(tif.filehandle.path, stored, "r", series.dataoffset, tuple(image.shape)))

    def read(z: int) -> np.ndarray:
        if not mapped:
            mapped.append(series.asarray(out="memmap").reshape(image.shape))
        pixels = layout.read(mapped[0], z)
        return pixels if inverted is None else with_zero_black(path, pixels, inverted)

    return read

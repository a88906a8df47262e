"""One page of a TIFF as grey values in which 0 is black."""

from __future__ import annotations

import importlib.util
from typing import Any, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ..axes import brief
from .headers import MIN_IS_BLACK, MIN_IS_WHITE, Header

_COLOURS = {2: "colour (RGB) pixels", 3: "colours of a palette", 4: "a transparency mask", 5: "colour (CMYK) pixels",
            6: "colour (YCbCr) pixels", 8: "colour (CIELab) pixels", 9: "colour (ICCLab) pixels",
            10: "colour (ITULab) pixels", 32803: "the raw pixels of a colour camera"}
_FAX = (2, 3, 4)


def declared_colour(header: Header) -> Optional[str]:
    """What a page holds instead of grey values, in words; None if it holds grey values."""
    if header.photometric not in (MIN_IS_WHITE, MIN_IS_BLACK):
        return _COLOURS.get(header.photometric, f"pixels of PhotometricInterpretation {header.photometric}")
    return f"{header.samples} values (channels) a pixel" if header.samples > 1 else None


def with_zero_black(path: str, image: np.ndarray, page: Any) -> np.ndarray:
    """Values of a page that is white for 0, turned round within the range that its bits can hold.

    Raises
    ------
    UserError : floats, which have no range of their own.
    """
    if image.dtype.kind == "f":
        raise UserError(f"{path}: holds floats for which 0 is white (MinIsWhite), and floats have no highest value to turn "
                        f"them round in; save it with 0 as black (in Fiji: Image > Lookup Tables > Invert LUT)")
    if image.dtype.kind in "bi":
        return ~image                   # of signed integers the lowest value becomes the highest
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * image.dtype.itemsize
    highest = (1 << min(bits, 8 * image.dtype.itemsize)) - 1
    return np.asarray(image.dtype.type(highest) - image, image.dtype)


def read_page(path: str, page: Any, z: int, shape: Tuple[int, int]) -> np.ndarray:
    """Decode slice ``z``.

    Parameters
    ----------
    path : what to call the file in messages.
    page : ``TiffPage`` or ``TiffFrame`` of tifffile; None where the file that holds it is missing.
    z : number of the slice, for messages.
    shape : of a slice, rows by columns.

    Raises
    ------
    UserError : truncated, colour, or compressed in a way that nothing here reads.
    """
    if page is None:
        raise UserError(f"{path}: slice {z} is in another file of the same OME data set, which is not beside it; copy the "
                        f"whole data set")
    page = page.aspage()                # with its own tags, not with those of the first page
    stream = page.parent.filehandle
    if any(offset + count > stream.size for offset, count in zip(page.dataoffsets, page.databytecounts)):
        raise UserError(f"{path}: slice {z} cannot be read because the file ends before it (truncated); copy it again")
    tag = page.tags.get(262)
    header = Header(MIN_IS_BLACK if tag is None else int(tag.value), page.samplesperpixel, 0)
    colour = declared_colour(header)
    if colour:
        raise UserError(f"{path}: slice {z} holds {colour}; convert it to grey values")
    if page.compression in _FAX and _missing_codec(page) is not None:
        image = _fax(path, page)        # Pillow gives 0 for black whatever the file says
    else:
        image = _decoded(path, page)
        if header.white_is_zero:
            image = with_zero_black(path, image, page)
    return image.reshape(shape) if image.size == shape[0] * shape[1] else image


def _decoded(path: str, page: Any) -> np.ndarray:
    try:
        return np.asarray(page.asarray())
    except Exception as error:
        missing = _missing_codec(page)
        # imagecodecs raises an ImportError for a codec that it was built without.
        if missing is None and (isinstance(error, ImportError) or "imagecodecs" in str(error)):
            missing = _advice(page, brief(error))
        if missing is None:
            raise
        raise UserError(f"{path}: {missing}") from error


def refuse_missing_codec(path: str, page: Any) -> None:
    """Raise :class:`UserError` if nothing that is installed decodes a page.

    That is not damage: the sentence names what to install.
    """
    missing = _missing_codec(page)
    if missing is not None and not (page.compression in _FAX and importlib.util.find_spec("PIL")):
        raise UserError(f"{path}: {missing}")


def _missing_codec(page: Any) -> Optional[str]:
    import tifffile

    try:
        if page.compression != 1:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != 1:
            tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        return _advice(page, brief(error).strip("'\""))
    return None


def _advice(page: Any, why: str) -> str:
    name = getattr(page.compression, "name", f"scheme {int(page.compression)}")
    need = ("install Pillow (pip install pillow)" if page.compression in _FAX
            else "install imagecodecs (pip install imagecodecs)" if importlib.util.find_spec("imagecodecs") is None
            else "install the newest tifffile and imagecodecs")
    return f"is compressed with {name}, which nothing that is installed here decodes ({why}); {need}, or save it without " \
           f"compression"


def _fax(path: str, page: Any) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(page.parent.filehandle.path) as opened:
            opened.seek(page.index)
            return np.asarray(opened)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: page {page.index} is not readable ({brief(error)}); the file is damaged or incomplete, "
                        f"copy it again") from error

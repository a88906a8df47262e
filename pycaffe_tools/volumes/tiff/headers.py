"""The page headers of a TIFF as they stand in the file: how many there are, and what each says of its pixels.

tifffile reads the first header of a series and takes the others for equal; a
stack may hold pages that are white for 0 beside others that are not.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Set

from ...base.errors import UserError

MIN_IS_WHITE, MIN_IS_BLACK = 0, 1
_BITS, _PHOTOMETRIC, _SAMPLES = 258, 262, 277
_SHORT, _LONG = 3, 4


class Header(NamedTuple):
    """Of one page: tags PhotometricInterpretation, SamplesPerPixel and BitsPerSample (0 where they differ by sample)."""

    photometric: int
    samples: int
    bits: int

    @property
    def white_is_zero(self) -> bool:
        """Whether the highest value is black."""
        return self.photometric == MIN_IS_WHITE


def headers_of(path: str, tif: Any) -> List[Header]:
    """The headers of an open ``tifffile.TiffFile`` in the order of its pages.

    Raises
    ------
    UserError : the chain of headers is cut; readers would silently see fewer slices.
    """
    layout, stream = tif.tiff, tif.filehandle
    size, position = stream.size, 8 if layout.is_bigtiff else 4
    offsets: Set[int] = set()
    headers: List[Header] = []

    def piece(at: int, length: int) -> bytes:
        stream.seek(at)
        found: bytes = stream.read(length)
        if len(found) != length:
            raise UserError(f"{path}: is truncated: the header of page {len(headers)} lies beyond its end; copy it again")
        return found

    def number(of: bytes) -> int:
        return int.from_bytes(of, "little" if layout.byteorder == "<" else "big")

    while True:
        offset = number(piece(position, layout.offsetsize))
        if offset == 0 and offsets:
            return headers
        if offset in offsets or not 0 < offset < size:
            raise UserError(f"{path}: is truncated or damaged: the header of page {len(headers)} is not in the file; "
                            f"copy it again")
        offsets.add(offset)
        tags = number(piece(offset, layout.tagnosize))
        position = offset + layout.tagnosize + tags * layout.tagsize
        if position > size:
            raise UserError(f"{path}: is truncated: the header of page {len(headers)} lies beyond its end; copy it again")
        block = piece(offset + layout.tagnosize, tags * layout.tagsize)
        values = {}
        for start in range(0, len(block), layout.tagsize):
            tag, kind = number(block[start:start + 2]), number(block[start + 2:start + 4])
            if tag in (_BITS, _PHOTOMETRIC, _SAMPLES) and kind in (_SHORT, _LONG):
                # A single value stands in the tag itself, several stand elsewhere.
                count = number(block[start + 4:start + layout.tagsize - layout.offsetsize])
                at = start + layout.tagsize - layout.offsetsize
                values[tag] = number(block[at:at + (2 if kind == _SHORT else 4)]) if count == 1 else 0
        headers.append(Header(values.get(_PHOTOMETRIC, MIN_IS_BLACK), values.get(_SAMPLES, 1), values.get(_BITS, 1)))

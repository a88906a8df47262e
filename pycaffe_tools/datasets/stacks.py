"""The stacks of the reproduction, put together from a public data set's own files.

The authors of a data set publish a folder or an archive of slices; the
reproduction reads multi-page TIFFs of chosen slices, with labels of 0 and 255.
Which slices of which files become which stack is said in ``data/datasets.json``,
together with the SHA-256 of the stack's pixels: so a stack is known to be the
one that the committed results were made from, however it is compressed.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, List, Mapping

import numpy as np

from ..base.errors import UserError
from ..base.files import PathLike, refuse_existing
from ..volumes.creating import create_volume
from ..volumes.pixel_size import PixelSize

MARKED_ABOVE = 127
"""Labels above this grey value are marked: a few drawn masks have smoothed edges."""


def build_stacks(name: str, entry: Mapping[str, Any], source: PathLike, out: PathLike, force: bool = False) -> List[Path]:
    """Write the stacks of a data set.

    Parameters
    ----------
    name, entry : of :func:`pycaffe_tools.datasets.catalogue.known`.
    source : folder that :func:`pycaffe_tools.datasets.download.fetch` filled.
    out : folder for the stacks.
    force : replace stacks that exist.

    Raises
    ------
    UserError : the reproduction uses no stack of the data set, or the files
        are missing, damaged, or not those that the results were made from.
    """
    if not entry.get("stacks"):
        raise UserError(f"{name}: the reproduction reads no stack of this data set; choose another one, or use its "
                        f"files as they are")
    paths = [Path(out) / stack for stack in entry["stacks"]]
    for path in paths:
        refuse_existing(path, force)
    read = _reader(name, entry, Path(source))
    for path, stack in zip(paths, entry["stacks"].values()):
        _write_stack(path, stack, read, entry, force)
    return paths


def _write_stack(path: Path, stack: Mapping[str, Any], read: Callable[[str], bytes], entry: Mapping[str, Any],
                 force: bool) -> None:
    members = [stack["slices"].format(number) for number in stack["numbers"]]
    images = [_grey(member, read(member)) for member in members]
    if stack["labels"]:
        images = [np.where(image > MARKED_ABOVE, 255, 0).astype(np.uint8) for image in images]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise UserError(f"{path}: its slices have different shapes ({', '.join(map(str, shapes))}); fetch the data set again")
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.tobytes())
    if digest.hexdigest() != stack["pixels_sha256"]:
        raise UserError(f"{path}: not written, since its pixels have SHA-256 {digest.hexdigest()} and the committed results "
                        f"were made from {stack['pixels_sha256']}; the data set changed at its origin, take its files "
                        f"as a stack of your own")
    with create_volume(path, (len(images), *shapes[0]), np.uint8, PixelSize(*entry["pixel_size_nm"]), entry["title"],
                       force) as volume:
        for z, image in enumerate(images):
            volume.write(z, image)


def _reader(name: str, entry: Mapping[str, Any], source: Path) -> Callable[[str], bytes]:
    """Reads a member of the data set's archive, or a file below its folder."""
    archive = source / str(entry.get("archive", ""))
    advice = f"fetch it with python -m pycaffe_tools.datasets fetch {name} -o {source}"

    def from_archive(member: str) -> bytes:
        try:
            with zipfile.ZipFile(archive) as opened:
                return opened.read(member)
        except FileNotFoundError:
            raise UserError(f"{archive}: there is no such file; {advice}") from None
        except KeyError:
            raise UserError(f"{archive}: holds no {member}; {advice}") from None
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise UserError(f"{archive}: is not a readable archive ({error}); remove it and {advice}") from None

    def from_folder(member: str) -> bytes:
        try:
            return (source / member).read_bytes()
        except FileNotFoundError:
            raise UserError(f"{source / member}: there is no such file; {advice}") from None

    return from_archive if "archive" in entry else from_folder


def _grey(member: str, content: bytes) -> np.ndarray:
    """Grey values of an image file: uint8, Y x X; an opaque alpha channel and equal colours are no information."""
    try:
        if member.endswith((".tif", ".tiff")):
            import tifffile
            image = np.asarray(tifffile.imread(io.BytesIO(content)))
        else:
            image = _png(content)
    except ImportError:
        raise UserError(f"{member}: reading PNG needs the Pillow package; install it") from None
    except Exception as error:      # any decoder may fail in any way on bytes that are not what it expects
        raise UserError(f"{member}: is not a readable image ({error}); fetch the data set again") from error
    if image.dtype == bool:
        image = np.where(image, 255, 0).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] in (2, 4) and np.all(image[..., -1] == 255):
        image = image[..., :-1]
    if image.ndim == 3 and np.all(image == image[..., :1]):
        image = image[..., 0]
    if image.ndim != 2 or image.dtype != np.uint8:
        raise UserError(f"{member}: is not a grey image of 8 bits (shape {image.shape}, {image.dtype}); "
                        f"fetch the data set again")
    return image


def _png(content: bytes) -> np.ndarray:
    from PIL import Image
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)

"""Slices of a volume, one at a time: TIFF, folders of slices, HDF5, OME-Zarr.

A volume is a grey image of axes z, y, x whose slices are read when they are
asked for; the whole of it is never in memory.

    with open_volume("stack.tif") as volume:
        volume.shape, volume.dtype, volume.pixel_size.as_list()
        grey = volume.read(0)                    # one slice, y by x, as stored

Axes are not guessed: two dimensions are YX, three are ZYX, and anything else
needs a file that names its axes itself or ``axes="CZYX"``, where all but z,
y and x have to have size 1.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from . import calibration
from .base.errors import UserError
from .base.files import PathLike, sha256
from .calibration import PixelSize
from .volume_axes import Layout, brief, checked_dtype
from .volume_tiff import read_tiff
from .volume_writers import split_dataset

SLICE_SUFFIXES = (".tif", ".tiff", ".png")
_CHUNK_CACHE_BYTES = 128 << 20


class Volume:
    """A volume that is read slice by slice; made by :func:`open_volume`.

    Attributes
    ----------
    path : what was opened, as given (``file.h5:/dataset`` included).
    shape : (z, y, x); a single image has z = 1.
    dtype : uint8, uint16 or float32; boolean files are read as uint8 of 0 and 1.
    pixel_size : nm in z, y, x; None where the file does not say.
    """

    def __init__(self, path: str, shape: Tuple[int, int, int], dtype: np.dtype, pixel_size: PixelSize,
                 read: Callable[[int], np.ndarray], close: Callable[[], None], files: Callable[[], List[Path]]):
        self.path = path
        self.shape = shape
        self.dtype = checked_dtype(path, dtype)
        self.pixel_size = pixel_size
        self._read = read
        self._close = close
        self._files = files

    def read(self, z: int) -> np.ndarray:
        """Slice ``z``: y by x, of ``dtype``, C-contiguous.

        Raises
        ------
        UserError : the slice cannot be read; the others still can.
        """
        if not 0 <= z < self.shape[0]:
            raise IndexError(f"{self.path}: slice {z} of {self.shape[0]}")
        try:
            image = self._read(z)
        except UserError:
            raise
        except Exception as error:      # any decoder may fail in any way on bytes that are not what it expects
            advice = ("install imagecodecs, or save it without compression" if "imagecodecs" in str(error)
                      else "the file is damaged or incomplete, copy it anew")
            raise UserError(f"{self.path}: slice {z} cannot be read ({brief(error)}); {advice}") from error
        if image.shape != self.shape[1:]:
            raise UserError(f"{self.path}: slice {z} has shape {image.shape}, the volume's slices have "
                            f"{self.shape[1:]}; bring all slices to one size")
        if checked_dtype(f"{self.path}, slice {z}", image.dtype) != self.dtype:
            raise UserError(f"{self.path}: slice {z} is {image.dtype}, the volume is {self.dtype}; "
                            f"bring all slices to one data type")
        return np.ascontiguousarray(image, dtype=self.dtype)

    def sha256(self) -> str:
        """Hash of the file's bytes; for a folder, of its files' names and hashes."""
        files = self._files()
        if len(files) == 1:
            return sha256(files[0])
        digest = hashlib.sha256()
        root = os.path.commonpath([str(file.parent) for file in files])
        for file in files:
            digest.update(f"{file.relative_to(root).as_posix()} {sha256(file)}\n".encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; reading is not possible any more."""
        self._close()

    def __enter__(self) -> "Volume":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_volume(path: PathLike, axes: Optional[str] = None, dataset: Optional[str] = None) -> Volume:
    """Open a volume for reading slice by slice.

    Parameters
    ----------
    path : a TIFF (plain, tiled, compressed, BigTIFF, ImageJ of any size,
        OME), a folder of one-slice TIFF or PNG files in natural order,
        ``file.h5:/volumes/raw`` (the dataset may be left out where there is
        only one) or an OME-Zarr folder (needs the zarr package).
    axes : a letter for each dimension of the file, e.g. ``"TZCYX"``.
    dataset : HDF5 or Zarr path inside the file, instead of ``:/...``.

    Raises
    ------
    UserError : missing, damaged, colour, or of a shape or data type that is not supported.
    """
    file, inner = split_dataset(path)
    inner = dataset or inner
    if not file.exists():
        raise UserError(f"{file}: there is no such file or folder; check the path")
    if axes is not None:
        axes = axes.upper()
        if len(set(axes)) != len(axes) or not set("YX") <= set(axes):
            raise UserError(f"{path}: axes {axes!r} are not different letters with Y and X among them; "
                            f"write for example ZYX or CZYX")
    if file.is_dir():
        if _is_zarr(file):
            return _open_zarr(str(path), file, inner, axes)
        return _open_folder(str(path), file)
    if file.suffix.lower() in (".tif", ".tiff"):
        return _of_tiff(str(path), file, axes)
    if file.suffix.lower() == ".png":
        return _open_images(str(path), [file])
    if file.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        return _open_hdf5(str(path), file, inner, axes)
    raise UserError(f"{file}: not a kind of volume that is supported; give a TIFF, a folder of slices, HDF5 or OME-Zarr")


def natural_key(name: str) -> List[Any]:
    """Sort key under which ``slice_10`` comes after ``slice_9``.

    >>> sorted(["s10.tif", "s9.tif"], key=natural_key)
    ['s9.tif', 's10.tif']
    """
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower())
            for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def _of_tiff(path: str, file: Path, axes: Optional[str]) -> Volume:
    tiff = read_tiff(path, file, axes)
    return Volume(path, tiff.shape, tiff.dtype, tiff.pixel_size, tiff.read, tiff.close, lambda: [file])


# Folders of slices

def _open_folder(path: str, folder: Path) -> Volume:
    files = sorted((file for file in folder.iterdir()
                    if file.suffix.lower() in SLICE_SUFFIXES and file.is_file() and not file.name.startswith(".")),
                   key=lambda file: natural_key(file.name))
    kinds = {file.suffix.lower()[:4] for file in files}
    if not files:
        raise UserError(f"{path}: this folder holds no .tif or .png slices; check the path")
    if len(kinds) > 1:
        raise UserError(f"{path}: this folder holds .tif and .png files; keep the slices of one volume there")
    return _open_images(path, files)


def _open_images(path: str, files: List[Path]) -> Volume:
    first_error = None
    for file in files:                  # a damaged first slice must not hide the others
        try:
            image, pixel_size = _read_image(file)
            break
        except UserError as error:
            first_error = first_error or error
    else:
        raise first_error
    return Volume(path, (len(files),) + image.shape, image.dtype, PixelSize(None, pixel_size.y, pixel_size.x),
                  lambda z: _read_image(files[z])[0], lambda: None, lambda: files)


def _read_image(file: Path) -> Tuple[np.ndarray, PixelSize]:
    if file.suffix.lower() == ".png":
        return _read_png(file), PixelSize()
    with _of_tiff(str(file), file, None) as slice_volume:
        if slice_volume.shape[0] != 1:
            raise UserError(f"{file}: holds {slice_volume.shape[0]} slices; a folder of slices has one a file")
        return slice_volume.read(0), slice_volume.pixel_size


def _read_png(file: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise UserError(f"{file}: reading PNG needs the Pillow package; install it, or save slices as TIFF") from None
    try:
        with Image.open(file) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is not a readable PNG ({brief(error)}); copy it anew") from error
    if mode not in ("1", "L", "I;16", "I;16B", "I"):
        raise UserError(f"{file}: holds colour (PNG mode {mode}); convert it to grey values")
    return pixels.astype(np.uint16) if mode.startswith("I") else pixels


# HDF5 and OME-Zarr

def _open_hdf5(path: str, file: Path, inner: Optional[str], axes: Optional[str]) -> Volume:
    import h5py

    try:
        handle = h5py.File(file, "r")
    except OSError as error:
        raise UserError(f"{file}: is not a readable HDF5 file ({brief(error)}); copy it anew") from error
    try:
        names: List[str] = []
        handle.visititems(lambda name, item: names.append("/" + name) if isinstance(item, h5py.Dataset) else None)
        if inner is None and len(names) != 1:
            raise UserError(f"{file}: holds {len(names)} datasets ({', '.join(names[:8])}); "
                            f"name one, as in {file.name}:{names[0] if names else '/raw'}")
        if inner is not None and not isinstance(handle.get(inner), h5py.Dataset):
            raise UserError(f"{file}: has no dataset {inner}; it holds {', '.join(names[:8]) or 'none'}")
        data = handle[inner or names[0]]
        tags = calibration.axistags(data)
        declared = "".join(str(tag.get("key", "?")).upper() for tag in tags) if tags else None
        layout = Layout(path, data.shape, axes, declared if declared and len(declared) == data.ndim else None)
        pixel_size = calibration.of_hdf5(data, layout.axes)
        data = _with_chunk_cache(file, data, layout)
        return Volume(path, layout.shape, data.dtype, pixel_size,
                      lambda z: layout.read(data, z), handle.close, lambda: [file])
    except BaseException:
        handle.close()
        raise


def _with_chunk_cache(file: Path, data: Any, layout: Layout) -> Any:
    """The dataset with a cache for one layer of chunks, if small: else chunks deep in z are decoded per slice."""
    import h5py

    if data.chunks is None:
        return data
    z_depth = dict(zip(layout.axes, data.chunks)).get("Z", 1)
    layer = z_depth * layout.shape[1] * layout.shape[2] * data.dtype.itemsize * 5 // 4
    if z_depth == 1 or layer > _CHUNK_CACHE_BYTES:
        return data
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(10007, layer, 0.75)
    return h5py.Dataset(h5py.h5d.open(data.file.id, data.name.encode(), access))


def _is_zarr(folder: Path) -> bool:
    return any((folder / marker).exists() for marker in (".zgroup", ".zarray", "zarr.json"))


def _open_zarr(path: str, folder: Path, inner: Optional[str], axes: Optional[str]) -> Volume:
    try:
        import zarr
    except ImportError:
        raise UserError(f"{folder}: reading OME-Zarr needs the zarr package; install it, or convert to TIFF") from None
    try:
        node = zarr.open(str(folder), mode="r")
        declared, pixel_size = None, PixelSize()
        if not hasattr(node, "shape"):
            attributes = dict(node.attrs)
            levels = attributes.get("ome", attributes).get("multiscales")
            if levels:
                declared = "".join(str(axis["name"] if isinstance(axis, dict) else axis).upper()
                                   for axis in levels[0].get("axes", ["t", "c", "z", "y", "x"]))
                if (inner or "").strip("/") in ("", str(levels[0]["datasets"][0]["path"])):
                    pixel_size = calibration.of_multiscale(levels[0])
            inner = inner or (levels and levels[0]["datasets"][0]["path"])
            if not inner:
                raise UserError(f"{folder}: is a Zarr group without OME-Zarr metadata; name an array, as in "
                                f"{folder.name}:/0")
            node = node[str(inner).strip("/")]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: is not a readable OME-Zarr ({brief(error)}); check the path, or copy it anew") from error
    layout = Layout(path, node.shape, axes, declared)
    return Volume(path, layout.shape, node.dtype, pixel_size, lambda z: layout.read(node, z), lambda: None,
                  lambda: sorted(file for file in folder.rglob("*") if file.is_file()))

"""The door to volumes: any path that a user may name, opened for reading."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from ..base.errors import UserError
from ..base.files import PathLike
from .chunked.reading import is_chunked, read_chunked
from .hdf5.reading import read_hdf5
from .images.slice_folder import read_folder, read_png
from .microscopes.mrc import MRC_SUFFIXES, read_mrc
from .microscopes.ncem import DM_SUFFIXES, SER_SUFFIXES, read_dm, read_ser
from .paths import split_dataset, split_pattern
from .tiff.reading import read_tiff
from .volume import Stored, Volume

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".emd")


def open_volume(path: PathLike, axes: Optional[str] = None, dataset: Optional[str] = None) -> Volume:
    """Open a volume of grey values for reading slice by slice.

    Parameters
    ----------
    path : a TIFF (plain, tiled, compressed, BigTIFF, ImageJ of any size,
        OME; ``file.ome.tif:1`` is the second of several images), a folder of
        one-slice TIFF or PNG files in the order of their numbers or a pattern
        of such files (``folder/*_raw.png``), ``file.h5:/volumes/raw`` (the
        dataset may be left out where there is only one image), an OME-Zarr,
        N5 or Neuroglancer precomputed folder, or what microscopes write: MRC,
        DM3 and DM4, SER, EMD.
    axes : a letter for each dimension of the file, e.g. ``"TZCYX"``.
    dataset : HDF5 or Zarr path inside the file, instead of ``:/...``.

    Raises
    ------
    UserError : missing, damaged, colour, several images, or of a shape or data type that is not supported.
    """
    return _opened(path, axes, dataset, labels=False)


def open_labels(path: PathLike, axes: Optional[str] = None, dataset: Optional[str] = None) -> Volume:
    """Open a volume of labels, which may be of any integer type; everything else is as for :func:`open_volume`."""
    return _opened(path, axes, dataset, labels=True)


def _opened(path: PathLike, axes: Optional[str], dataset: Optional[str], labels: bool) -> Volume:
    file, inner = split_dataset(path)
    inner = dataset or inner
    folder, pattern = split_pattern(file)
    if pattern is None and not file.exists():
        raise UserError(f"{file}: there is no such file or folder; check the path")
    if axes is not None:
        axes = axes.upper()
        if len(set(axes)) != len(axes) or not set("YX") <= set(axes):
            raise UserError(f"{path}: axes {axes!r} are not different letters with Y and X among them; "
                            f"write for example ZYX or CZYX")
    if pattern is not None:
        return Volume(str(path), read_folder(str(path), folder, pattern), labels)
    stored = _stored(str(path), file, inner, axes)
    try:
        return Volume(str(path), stored, labels)
    except BaseException:
        stored.close()
        raise


def _stored(path: str, file: Path, inner: Optional[str], axes: Optional[str]) -> Stored:
    if file.is_dir():
        return read_chunked(path, file, inner, axes) if is_chunked(file) else read_folder(path, file)
    suffix = file.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return read_tiff(path, file, inner, axes)
    if suffix == ".png":
        return read_png(path, file)
    if suffix in HDF5_SUFFIXES:
        return read_hdf5(path, file, inner, axes)
    if suffix in MRC_SUFFIXES:
        return read_mrc(path, file, axes)
    if suffix in DM_SUFFIXES:
        return read_dm(path, file, axes)
    if suffix in SER_SUFFIXES:
        return read_ser(path, file)
    raise UserError(f"{file}: not a kind of volume that is supported; give a TIFF, a folder of slices, HDF5, OME-Zarr, N5, "
                    f"MRC, DM3, DM4, SER or EMD")

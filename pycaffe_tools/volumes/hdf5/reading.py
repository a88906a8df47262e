"""Reading HDF5 volumes slice by slice: ``file.h5:/dataset``, BigDataViewer's and EMD files among them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ..attributes import declared_axes, pixel_size_of
from ..axes import Layout, brief, listing
from ..microscopes import emd
from ..pixel_size import PixelSize
from ..volume import Stored
from . import scales
from .bigdataviewer import is_cells, setup_pixel_size

_CHUNK_CACHE_BYTES = 128 << 20
_LEVEL = re.compile(r"^(?P<image>.*/)s?(?P<level>[0-9]+)(?P<rest>/cells)?$")
_FILTERS = {32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP", 32015: "Zstandard", 32026: "Blosc2"}


def read_hdf5(path: str, file: Path, inner: Optional[str], axes: Optional[str]) -> Stored:
    """Open a dataset for reading slice by slice.

    Parameters
    ----------
    path : what to call it in messages.
    file : the HDF5 file.
    inner : a dataset, or a group with one image below it; None is the whole file.
    axes : a letter for each dimension, or None.

    Raises
    ------
    UserError : damaged, several images, compressed with a filter that is not installed, or of a shape that is not
        supported.
    """
    import h5py

    try:
        handle = h5py.File(file, "r")
    except OSError as error:
        raise UserError(f"{file}: is not a readable HDF5 file ({brief(error)}); copy it again") from error
    try:
        data = handle[_name_of_image(handle, file, inner)]
        layout = Layout(path, data.shape, axes, None if axes else _declared(path, data))
        pixel_size = _pixel_size(file, data, layout.axes)
        read, stored = _reader(path, file, data, layout)
        return Stored(layout.shape, stored, pixel_size, read, lambda: [file], handle.close)
    except (UserError, MemoryError):
        handle.close()
        raise
    except Exception as error:          # the library on bytes that are not what it expects
        handle.close()
        raise UserError(f"{path}: is not a readable HDF5 volume ({brief(error)}); copy it again") from error


def _name_of_image(handle: Any, file: Path, inner: Optional[str]) -> str:
    import h5py

    names = full_resolution(_images(handle))
    if inner is not None and inner != "/":
        place = handle.get(inner)
        if isinstance(place, h5py.Dataset):
            return inner
        below = [name for name in names if name.startswith(inner.rstrip("/") + "/")]
        if place is None or not below:
            raise UserError(f"{file}: has no dataset {inner}; it holds {listing(names) or 'no image'}")
        names = below
    if len(names) != 1:
        advice = f"name one, as in {file}:{names[0]}" if names else "check the file"
        raise UserError(f"{file}: holds {len(names)} images ({listing(names) or 'no array of two or more dimensions'}); {advice}")
    return names[0]


def _images(handle: Any) -> Dict[str, Tuple[int, ...]]:
    """Name and shape of each dataset that may be an image: numbers in two or more dimensions."""
    import h5py

    found: Dict[str, Tuple[int, ...]] = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) >= 2 and item.dtype.kind in "biufc" \
                and not h5py.h5ds.is_scale(item.id):
            found["/" + name] = tuple(item.shape)

    handle.visititems(look)
    special = {name: shape for name, shape in found.items() if is_cells(name) or emd.is_image(handle[name])}
    return special or found


def full_resolution(images: Mapping[str, Tuple[int, ...]]) -> List[str]:
    """Names without the lower levels of a pyramid: ``/raw/s1`` where there is a larger ``/raw/s0``.

    >>> full_resolution({"/raw/s0": (8, 64, 64), "/raw/s1": (8, 32, 32), "/labels": (8, 64, 64)})
    ['/raw/s0', '/labels']
    """
    lower = set()
    for name, shape in images.items():
        match = _LEVEL.match(name)
        if match is None or int(match["level"]) == 0 or not (match["rest"] or name.rsplit("/", 1)[1].startswith("s")):
            continue
        above = int(match["level"]) - 1
        for other in (f"{match['image']}{above}{match['rest'] or ''}", f"{match['image']}s{above}{match['rest'] or ''}"):
            larger = images.get(other)
            if larger is not None and len(larger) == len(shape) and larger != shape \
                    and all(one >= two for one, two in zip(larger, shape)):
                lower.add(name)
    return [name for name in images if name not in lower]


def _declared(path: str, data: Any) -> Optional[str]:
    own = emd.axes_of(data)
    return own if own is not None else declared_axes(path, data.ndim, data.attrs, scales.labels(data))


def _pixel_size(file: Path, data: Any, axes: str) -> PixelSize:
    holders: List[Any] = [data.attrs]
    group = data.parent
    while True:
        holders.append(group.attrs)
        if group.name == "/":
            break
        group = group.parent
    size = pixel_size_of(holders, axes)
    if size == PixelSize() and is_cells(data.name):
        size = setup_pixel_size(file, data)
    if size == PixelSize():
        size = emd.pixel_size_of(data, axes)
    return size if size != PixelSize() else _of_scales(data, axes)


def _of_scales(data: Any, axes: str) -> PixelSize:
    """From attached scales with units: coordinates along each axis, evenly spaced."""
    sizes = {}
    for number, letter in enumerate(axes):
        scale = scales.scale_of(data, number)
        if scale is not None and scale.ndim == 1 and len(scale) > 1:
            sizes[letter] = emd.spacing(scale[()], scale.attrs.get("units"))
    return PixelSize(*(sizes.get(letter) for letter in "ZYX"))


def _reader(path: str, file: Path, data: Any, layout: Layout) -> Tuple[Callable[[int], np.ndarray], Any]:
    missing = _missing_filters(data)
    if missing:
        try:                            # a chunk may have been stored without its filter
            data[(0,) * data.ndim]
        except OSError as error:
            raise UserError(f"{path}: is compressed with the HDF5 filter {' and '.join(missing)}, which is not installed "
                            f"here; install it (pip install hdf5plugin), or save it with gzip") from error
    source = _with_chunk_cache(data, layout)
    if is_cells(data.name) and data.dtype == np.int16:
        # BigDataViewer has no unsigned type there, and writes the bits of unsigned grey values.
        return lambda z: np.ascontiguousarray(layout.read(source, z)).view(np.uint16), np.dtype("uint16")
    return lambda z: layout.read(source, z), data.dtype


def _missing_filters(data: Any) -> List[str]:
    import h5py

    plist = data.id.get_create_plist()
    codes = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if not all(map(h5py.h5z.filter_avail, codes)):
        try:
            import hdf5plugin  # noqa: F401 - registers its filters
        except ImportError:
            pass
    return [f"{code} ({_FILTERS[code]})" if code in _FILTERS else str(code)
            for code in codes if not h5py.h5z.filter_avail(code)]


def _with_chunk_cache(data: Any, layout: Layout) -> Any:
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

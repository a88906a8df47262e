"""Writing OME-Zarr volumes slice by slice, each slice with its levels of the pyramid.

A volume appears when it is whole (:func:`create_zarr`), or is made first and filled in place by several processes, each
with slices of its own (:func:`make_image`, :class:`ImageWriter`).
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.files import PathLike, atomic_directory, flush, write_json
from ..pixel_size import PixelSize
from ..storage import ZARR_2_IMAGE, Storage
from .arrays import make_array, open_array, package_for, slice_folder
from .pyramid import halved, level_shapes
from .tree import ZARR_2, ZARR_3

ENTRIES = (".zgroup", ".zattrs", "zarr.json", "0")
"""What a written volume holds at its top; names of levels are numbers."""


def kind_of(storage: Storage) -> str:
    """The kind of Zarr in which a volume is stored."""
    return ZARR_2 if storage.ome_zarr == ZARR_2_IMAGE else ZARR_3


def check_zarr(folder: PathLike, inner: Optional[str], storage: Storage) -> None:
    """Raise :class:`UserError` where no package that writes it is installed, or ``inner`` is not level 0."""
    if inner not in (None, "/0"):
        raise UserError(f"{folder}: OME-Zarr is written as level 0 of a new folder; leave {inner} out")
    if package_for(kind_of(storage)) is None:
        need = "the zarr package" if kind_of(storage) == ZARR_2 else "zarr, version 3 or later, or tensorstore"
        raise UserError(f"{folder}: writing OME-Zarr {storage.ome_zarr} needs {need}; install it "
                        f"(pip install {'zarr' if kind_of(storage) == ZARR_2 else 'tensorstore'}), or choose .tif or .h5")


def create_zarr(stack: ExitStack, folder: Path, inner: Optional[str], shape: Tuple[int, int, int], dtype: np.dtype,
                pixel_size: PixelSize, description: str, force: bool, storage: Storage) -> Callable[[int, np.ndarray], None]:
    """Create an OME-Zarr of zeros; see :func:`~pycaffe_tools.volumes.creating.create_volume`.

    Returns
    -------
    A function that writes slice z; ``stack`` finishes the folder.
    """
    check_zarr(folder, inner, storage)
    temporary = stack.enter_context(atomic_directory(folder, force, ENTRIES))
    _fill(temporary, folder.stem, shape, dtype, pixel_size, description, storage)
    return ImageWriter(temporary, shape, storage).write


def make_image(folder: Path, shape: Tuple[int, int, int], dtype: np.dtype, pixel_size: PixelSize, description: str,
               storage: Storage, force: bool = False) -> None:
    """Make an OME-Zarr of zeros that is there at once, for :class:`ImageWriter`; ``force`` replaces another one.

    Raises
    ------
    UserError : ``folder`` exists, or a package is missing.
    """
    check_zarr(folder, None, storage)
    with atomic_directory(folder, force, ENTRIES) as temporary:
        _fill(temporary, folder.stem, shape, dtype, pixel_size, description, storage)


class ImageWriter:
    """Writes slices of an OME-Zarr that is there, as several processes may do at a time with different slices.

    Parameters
    ----------
    folder : of the image.
    shape : (z, y, x).
    storage : as it was made.

    Raises
    ------
    UserError : it is not readable.
    """

    def __init__(self, folder: Path, shape: Tuple[int, int, int], storage: Storage):
        self.shape = shape
        self._kind, self._reduction = kind_of(storage), storage.reduction
        self._folders = [folder / str(level) for level in range(len(level_shapes(shape)))]
        self._levels = [open_array(str(each), each, self._kind, write=True) for each in self._folders]

    def matches(self, dtype: Any) -> bool:
        """Whether the arrays on the disk have the right shapes and this data type."""
        return all(tuple(array.shape) == shape and array.dtype == dtype
                   for array, shape in zip(self._levels, level_shapes(self.shape)))

    def write(self, z: int, image: np.ndarray) -> None:
        """Write slice ``z``, rows x columns, and what the lower levels hold of it."""
        for number, array in enumerate(self._levels):
            if number:
                image = halved(image, self._reduction)
            array[z] = image

    def replace(self, z: int, image: np.ndarray) -> None:
        """Write slice ``z`` in the place of whatever a killed process may have left of it, down to the disk."""
        folders = [slice_folder(level, self._kind, z) for level in self._folders]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.write(z, image)
        for folder in folders:
            for file in folder.rglob("*"):
                flush(file)

    def read(self, z: int) -> np.ndarray:
        """Slice ``z`` as it stands on the disk."""
        return np.asarray(self._levels[0][z])

    def mend_levels(self, z: int, image: np.ndarray) -> None:
        """Write the lower levels of slice ``z`` again where they do not follow from ``image``."""
        for array in self._levels[1:]:
            image = halved(image, self._reduction)
            if not np.array_equal(np.asarray(array[z]), image):
                array[z] = image


def _fill(folder: Path, name: str, shape: Tuple[int, int, int], dtype: np.dtype, pixel_size: PixelSize, description: str,
          storage: Storage) -> None:
    kind, shapes = kind_of(storage), level_shapes(shape)
    for level, each in enumerate(shapes):
        make_array(folder / str(level), kind, each, np.dtype(dtype))
    entry = {"name": name, "type": storage.reduction,
             "axes": [{"name": letter, "type": "space", **({"unit": "nanometer"} if length else {})}
                      for letter, length in zip("zyx", pixel_size)],
             "datasets": [{"path": str(level), "coordinateTransformations": _transformations(pixel_size, level)}
                          for level in range(len(shapes))]}
    more = {"description": description} if description else {}
    if kind == ZARR_2:
        write_json(folder / ".zgroup", {"zarr_format": 2})
        write_json(folder / ".zattrs", {"multiscales": [{"version": storage.ome_zarr, **entry}], **more})
    else:
        write_json(folder / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {
            "ome": {"version": storage.ome_zarr, "multiscales": [entry]}, **more}})


def _transformations(pixel_size: PixelSize, level: int) -> List[Dict[str, Any]]:
    """Pixel size of a level, and where the centre of its first pixel lies: that of 2 x 2 pixels is between them."""
    z, y, x = (float(length or 1) for length in pixel_size)
    found: List[Dict[str, Any]] = [{"type": "scale", "scale": [z, y * 2 ** level, x * 2 ** level]}]
    if level:
        found.append({"type": "translation", "translation": [0.0, y * (2 ** level - 1) / 2, x * (2 ** level - 1) / 2]})
    return found

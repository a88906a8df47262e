"""Arrays of Zarr and N5 on the disk: opened by the zarr package or by TensorStore, and made with nothing but JSON."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from ...base.errors import UserError
from ...base.files import write_json
from ..axes import brief
from .tree import N5, ZARR_2, ZARR_3

CHUNK = 512
"""Rows and columns of a chunk, at most."""

_TENSORSTORE_DRIVERS = {ZARR_2: "zarr", ZARR_3: "zarr3", N5: "n5"}


def package_for(kind: str) -> Optional[str]:
    """The package that opens arrays of a kind here, ``zarr`` or ``tensorstore``; None if none is installed."""
    if kind != N5 and importlib.util.find_spec("zarr") is not None:
        import zarr

        if kind == ZARR_2 or int(zarr.__version__.split(".")[0]) >= 3:
            return "zarr"
    return "tensorstore" if importlib.util.find_spec("tensorstore") is not None else None


def open_array(path: str, folder: Path, kind: str, write: bool = False) -> Any:
    """An array that is indexed lazily.

    Parameters
    ----------
    path : what to call it in messages.
    folder : of the array.
    kind : ``Zarr 2``, ``Zarr 3`` or ``N5``.
    write : whether it can be assigned to as well.

    Raises
    ------
    UserError : damaged, or a package or a codec is not installed.
    """
    try:
        package = package_for(kind)
        if package is None:
            need = {ZARR_2: "zarr", ZARR_3: "zarr, version 3 or later, or tensorstore", N5: "tensorstore"}[kind]
            raise UserError(f"{path}: is {kind}, and for that the package {need} is needed; install it "
                            f"(pip install {'zarr' if kind == ZARR_2 else 'tensorstore'}), or use TIFF")
        if package == "zarr":
            import zarr

            return zarr.open(str(folder), mode="r+" if write else "r")
        return TensorStoreArray({"driver": _TENSORSTORE_DRIVERS[kind],
                                 "kvstore": {"driver": "file", "path": f"{folder.resolve()}/"}}, write)
    except UserError:
        raise
    except Exception as error:          # the library on bytes that are not what it expects
        raise missing_codec(path, error) or UserError(
            f"{path}: is not readable {kind} ({brief(error)}); check the path, or copy it again") from error


class TensorStoreArray:
    """An array of TensorStore, indexed like one of numpy."""

    def __init__(self, spec: Any, write: bool = False):
        import tensorstore

        store = tensorstore.open(spec, open=True, read=True, write=write).result()
        self._store = store[tensorstore.d[:].translate_to[0]]
        self.shape = tuple(int(size) for size in self._store.shape)
        self.dtype = self._store.dtype.numpy_dtype
        self.labels = list(self._store.domain.labels)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._store[index].read().result())

    def __setitem__(self, index: Any, pixels: np.ndarray) -> None:
        self._store[index].write(pixels).result()


def missing_codec(path: str, error: Exception) -> Optional[UserError]:
    """A sentence on a codec that is not installed, if ``error`` says that."""
    text = str(error).lower()
    if "codec" in text or "compressor" in text and ("support" in text or "regist" in text):
        return UserError(f"{path}: is compressed in a way that nothing installed here decodes ({brief(error)}); install its "
                         f"codec (pip install imagecodecs numcodecs), or save it with another")
    return None


# What a new array says of itself.  Both kinds read as zeros where nothing has been written, and their files are one
# slice deep, so two processes that write different slices never touch one file.

def make_array(folder: Path, kind: str, shape: Tuple[int, int, int], dtype: np.dtype) -> None:
    """Make an array of zeros of axes z, y, x.

    Parameters
    ----------
    folder : where; it is made.
    kind : ``Zarr 2``: a file for each chunk. ``Zarr 3``: a file for each slice, with its chunks as a shard.
    """
    folder.mkdir(parents=True)
    write_json(folder / (".zarray" if kind == ZARR_2 else "zarr.json"), (_zarr_2 if kind == ZARR_2 else _zarr_3)(shape, dtype))


def slice_folder(array: Path, kind: str, z: int) -> Path:
    """Where the files of slice ``z`` lie, and no others."""
    return array / str(z) if kind == ZARR_2 else array / "c" / str(z)


def _zarr_2(shape: Tuple[int, int, int], dtype: np.dtype) -> Dict[str, Any]:
    return {"zarr_format": 2, "shape": shape, "chunks": _chunk(shape), "dtype": dtype.newbyteorder("<").str,
            "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
            "fill_value": dtype.type(0).item(), "order": "C", "filters": None, "dimension_separator": "/"}


def _zarr_3(shape: Tuple[int, int, int], dtype: np.dtype) -> Dict[str, Any]:
    in_file = {"name": "bytes", "configuration": {"endian": "little"}}
    chunk = _chunk(shape)
    return {"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {
                "chunk_shape": [-(-size // part) * part if axis else 1 for axis, (size, part) in enumerate(zip(shape, chunk))]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": dtype.type(0).item(),
            "codecs": [{"name": "sharding_indexed", "configuration": {
                "chunk_shape": chunk,
                "codecs": [in_file if dtype.itemsize > 1 else {"name": "bytes"}, {"name": "blosc", "configuration": {
                    "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": dtype.itemsize, "blocksize": 0}}],
                "index_codecs": [in_file, {"name": "crc32c"}], "index_location": "end"}}],
            "dimension_names": ["z", "y", "x"], "attributes": {}}


def _chunk(shape: Tuple[int, int, int]) -> Tuple[int, int, int]:
    return 1, min(shape[1], CHUNK), min(shape[2], CHUNK)

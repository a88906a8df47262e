"""Slices in, tiles out to whoever has time, whole slices back: the middle of a segmentation.

Tiles are handed out in order, across the end of a slice, so that any number
of workers is busy with a single slice as well as with many.  Only a few
slices are in memory at a time, however many there are.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ...base.errors import UserError
from ...base.ranges import Region
from .tiles import PaddedSlice


class TileTask(NamedTuple):
    """A tile of slice ``z``; ``grey`` holds its grey values with their halo."""

    z: int
    tile: Region
    grey: np.ndarray


class _OpenSlice:
    def __init__(self, padded: PaddedSlice, shape: Sequence[int], tiles: int):
        self.padded = padded
        self.probability = np.empty(tuple(shape), np.float32)
        self.tiles_left = tiles
        self.sentence: Optional[str] = None


def slices_in_memory(workers: int, tiles: int) -> int:
    """How many slices are open at a time so that no worker waits: one more than the workers can be busy with."""
    return 1 + -(-workers // tiles)


class SliceQueue:
    """Hands out tiles to threads and collects what they bring back.

    Parameters
    ----------
    slices : numbers of the slices, in order.
    read : slice number to grey values; its :class:`UserError` makes the slice a failed one.
    pad : grey values to the slice that tiles are cut from.
    tiles : the tiles of a slice.
    shape : rows and columns of a result.
    finish : called with slice number, grey values and probabilities of a whole slice, by the thread that brought
        its last tile.
    fail : called with slice number and sentence.
    capacity : slices in memory at a time.
    more : whether further slices will come by :meth:`add`, until :meth:`close` says that there are no more.
    """

    def __init__(self, slices: Sequence[int], read: Callable[[int], np.ndarray],
                 pad: Callable[[np.ndarray], PaddedSlice], tiles: List[Region], shape: Sequence[int],
                 finish: Callable[[int, np.ndarray, np.ndarray], None], fail: Callable[[int, str], None],
                 capacity: int, more: bool = False):
        self._waiting = deque(slices)
        self._more = more
        self._read, self._pad, self._finish, self._fail = read, pad, finish, fail
        self._tiles, self._shape, self._capacity = tiles, tuple(shape), capacity
        self._open: Dict[int, _OpenSlice] = {}
        self._current: Optional[int] = None
        self._next_tile = 0
        self._changed = threading.Condition()
        self._error: Optional[BaseException] = None
        self._ending = False

    def take(self) -> Optional[TileTask]:
        """The next tile, as soon as there is room for its slice; None if there is no more."""
        with self._changed:
            while self._error is None:
                if self._current is not None:
                    return self._cut(self._current)
                if self._ending or not self._waiting and not self._more:
                    return None
                if self._waiting and len(self._open) < self._capacity:
                    self._open_next()
                else:
                    self._changed.wait()
            return None

    def add(self, z: int) -> None:
        """One more slice, for a queue that was made with ``more``."""
        with self._changed:
            self._waiting.append(z)
            self._changed.notify_all()

    def close(self) -> None:
        """No more slices will come: who asks for a tile when all are handed out gets None."""
        with self._changed:
            self._more = False
            self._changed.notify_all()

    def _cut(self, z: int) -> TileTask:
        tile = self._tiles[self._next_tile]
        task = TileTask(z, tile, self._open[z].padded.cut(tile))
        self._next_tile += 1
        if self._next_tile == len(self._tiles):
            self._current = None
        return task

    def _open_next(self) -> None:
        z = self._waiting.popleft()
        try:
            grey = self._read(z)
            if grey.dtype.kind == "f" and not np.isfinite(grey).all():
                raise UserError(f"slice {z}: holds values that are not finite (NaN or infinity); "
                                f"replace them in the input")
        except UserError as error:
            self._fail(z, str(error))
            return
        self._open[z] = _OpenSlice(self._pad(grey), self._shape, len(self._tiles))
        self._current, self._next_tile = z, 0

    def done(self, task: TileTask, probability: np.ndarray) -> None:
        """Bring back a tile's probabilities."""
        tile = task.tile
        self._open[task.z].probability[tile.top:tile.bottom, tile.left:tile.right] = probability
        self._count_down(task)

    def failed(self, task: TileTask, sentence: str) -> None:
        """Say that a tile cannot be computed; the rest of its slice is left out, too."""
        with self._changed:
            self._open[task.z].sentence = sentence
            if self._current == task.z:
                self._open[task.z].tiles_left -= len(self._tiles) - self._next_tile
                self._current = None
        self._count_down(task)

    def _count_down(self, task: TileTask) -> None:
        with self._changed:
            image = self._open[task.z]
            image.tiles_left -= 1
            if image.tiles_left:
                return
        if image.sentence is None:
            self._finish(task.z, image.padded.grey, image.probability)
        else:
            self._fail(task.z, image.sentence)
        with self._changed:
            del self._open[task.z]
            self._changed.notify_all()

    def begin_no_more(self) -> None:
        """Hand out the tiles of the slices that are begun, and of no others; a signal handler may call this."""
        self._ending = True

    def stop(self, error: BaseException) -> None:
        """Hand out no more tiles; the first error is kept."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    @property
    def error(self) -> Optional[BaseException]:
        """What :meth:`stop` was told."""
        return self._error

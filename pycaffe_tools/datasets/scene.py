"""The synthetic volume: slices with membranes, mitochondria and texture, drawn from cells of :mod:`pycaffe_tools.datasets.tissue`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from scipy.ndimage import gaussian_filter

from ..base.errors import UserError
from ..base.files import PathLike, atomic_directory
from ..base.progress import Progress
from ..volumes.creating import create_volume
from ..volumes.pixel_size import PixelSize
from .tissue import TYPICAL_GREY, Tissue, Tube, Waves, steepness

# Lengths in nm, grey values on the 8-bit scale: electron-dense is dark.
MITO_MARGIN = 30.0           # cytoplasm between a mitochondrion and the plasma membrane
RETICULUM_MARGIN = 16.0
CELL_LABEL = 4.0             # the label reaches this far beyond a plasma membrane's dark line
MITO_LABEL = (-22.0, 5.0)    # the outline's label, as distance from the outer membrane
MEMBRANE, SHEET = 96.0, 150.0


class Slice(NamedTuple):
    """One slice: three uint8 arrays of one shape; in the labels 255 is positive."""

    raw: np.ndarray
    membranes: np.ndarray
    mitochondria: np.ndarray


class _Canvas(NamedTuple):
    """A slice while it is drawn, all arrays of its shape."""

    z: float                   # nm
    depth: np.ndarray          # distance in nm into the cell from its plasma membrane, negative in a glial sheet
    cell: np.ndarray           # number of the cell
    texture: np.ndarray        # the cytoplasm's grain, grey values around 0
    image: np.ndarray          # float grey values, before the microscope
    membranes: np.ndarray      # bool
    mitochondria: np.ndarray   # bool


class Scene:
    """Draws the tissue of one seed.

    Parameters
    ----------
    slices, size : number of slices and their height and width in pixels.
    seed : the same seed gives the same picture.
    pixel_size : nm, the same along z, y and x.
    """

    def __init__(self, slices: int, size: int, seed: int = 0, pixel_size: float = 5.0):
        self.count, self.size, self.pixel = slices, size, float(pixel_size)
        self.axis = np.arange(size) * self.pixel
        self.tissue = Tissue(slices * self.pixel, size * self.pixel, seed)

    def slices(self) -> Iterator[Slice]:
        """Draw the slices in order, with the memory of one."""
        pixel, y = self.pixel, self.axis
        texture = _Texture(self.tissue.rng(6), self.size, pixel)
        gap, cell = self.tissue.cells.gap_on_slice(0.0, y, y)
        for number in range(self.count):
            z = number * pixel
            above, cell_of_above = self.tissue.cells.gap_on_slice(z + pixel, y, y)
            slope = [(above - gap) / pixel, *np.gradient(gap, pixel)]
            from_border = gap / steepness(slope)
            yield self._draw(number, z, from_border, cell, next(texture))
            gap, cell = above, cell_of_above

    def _draw(self, number: int, z: float, from_border: np.ndarray, cell: np.ndarray,
              texture: np.ndarray) -> Slice:
        cells, y = self.tissue.cells, self.axis
        depth = _at_most_rising(from_border - cells.half_sheet(cells.sheet.on_slice(z, y, y)), self.pixel)
        image = np.where(depth < 0, SHEET, cells.grey[cell]) + texture
        canvas = _Canvas(z, depth, cell, texture, image, np.zeros(image.shape, bool), np.zeros(image.shape, bool))
        self._draw_ribosomes(canvas)
        for tube in self.tissue.reticulum:
            self._draw_reticulum(canvas, tube)
        self._draw_vesicles(canvas)
        for tube in self.tissue.mitochondria:
            self._draw_mitochondrion(canvas, tube)
        self._draw_plasma_membranes(canvas)
        self._draw_synapses(canvas)
        return Slice(self._expose(canvas.image, number), _label(canvas.membranes), _label(canvas.mitochondria))

    def _draw_plasma_membranes(self, canvas: _Canvas) -> None:
        # Two lipid leaflets, each a dark line on its side of the narrow extracellular gap.
        cells, y = self.tissue.cells, self.axis
        from_gap = np.abs(canvas.depth) - (7.0 + cells.fray.on_slice(canvas.z, y, y))
        grey = MEMBRANE + cells.stain.on_slice(canvas.z, y, y) + 0.5 * canvas.texture
        canvas.image[:] += _line(from_gap, 6.5) * (grey - canvas.image)
        canvas.membranes[:] |= from_gap < CELL_LABEL

    def _draw_mitochondrion(self, canvas: _Canvas, tube: Tube) -> None:
        window = tube.window(canvas.z, self.pixel, self.size)
        if window is None:
            return
        z, y, x = canvas.z, self.axis[window[0]], self.axis[window[1]]
        inside = tube.distance(z, y, x, canvas.depth[window], canvas.cell[window], MITO_MARGIN)
        position = np.stack(np.broadcast_arrays(z, y[:, None], x[None, :]), axis=-1) @ tube.across
        ripple = np.cos(2 * np.pi * position / 38.0 + tube.cristae.on_slice(z, y, x))
        strength = np.clip(12.0 + 4.0 * tube.cristae.on_slice(z, y + 400.0, x), 3.0, 22.0)
        matrix = 110.0 + 4.0 * tube.tone + strength * ripple * np.clip(-(inside + 18.0) / 20.0, 0, 1)
        part = canvas.image[window]
        part += _filled(inside, 2.0) * (matrix + 0.8 * canvas.texture[window] - part)
        part += np.maximum(_line(inside + 3.0, 5.0), 0.65 * _line(inside + 19.0, 4.5)) * (84.0 - part)
        canvas.membranes[window] |= (inside > MITO_LABEL[0]) & (inside < MITO_LABEL[1])
        canvas.mitochondria[window] |= inside < MITO_LABEL[1]

    def _draw_reticulum(self, canvas: _Canvas, tube: Tube) -> None:
        window = tube.window(canvas.z, self.pixel, self.size)
        if window is None:
            return
        inside = tube.distance(canvas.z, self.axis[window[0]], self.axis[window[1]], canvas.depth[window],
                               canvas.cell[window], RETICULUM_MARGIN)
        part = canvas.image[window]
        part += _filled(inside, 3.0) * (124.0 + 9.0 * tube.tone - part)
        part += 0.85 * _line(inside + 2.0, 5.0) * (98.0 + 5.0 * tube.tone - part)

    def _draw_vesicles(self, canvas: _Canvas) -> None:
        near = self.tissue.vesicles[np.abs(self.tissue.vesicles[:, 0] - canvas.z) < 27.0]
        grid, away = self._stamps(near[:, :3], canvas.z, 28.0)
        shell = away - near[:, 3, None, None]
        grey = TYPICAL_GREY - 62.0 * _line(shell, 6.0) - 24.0 * (shell < 0)
        np.minimum.at(canvas.image, grid, np.where(shell < 9.0, grey + 0.5 * canvas.texture[grid], np.inf))

    def _draw_ribosomes(self, canvas: _Canvas) -> None:
        near = self.tissue.ribosomes[np.abs(self.tissue.ribosomes[:, 0] - canvas.z) < 18.0]
        grid, away = self._stamps(near[:, :3], canvas.z, 18.0)
        np.subtract.at(canvas.image, grid, near[:, 3, None, None] * _line(away, 8.0))

    def _draw_synapses(self, canvas: _Canvas) -> None:
        y = self.axis
        for cz, cy, cx, radius, owner in self.tissue.synapses:
            if abs(cz - canvas.z) >= radius:
                continue
            window = (slice(*np.searchsorted(y, [cy - radius, cy + radius])),
                      slice(*np.searchsorted(y, [cx - radius, cx + radius])))
            away = np.sqrt((canvas.z - cz) ** 2 + (y[window[0], None] - cy) ** 2 + (y[None, window[1]] - cx) ** 2)
            side = np.where(canvas.cell[window] == owner, 22.0, 9.0)  # the postsynaptic side is the thicker one
            density = _line(np.maximum(canvas.depth[window], 0), side) * np.clip(4.0 * (1 - away / radius), 0, 1)
            canvas.image[window] += 0.85 * density * (76.0 - canvas.image[window])

    def _stamps(self, centres: np.ndarray, z: float,
                reach: float) -> Tuple[Tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Index arrays (N x k x k) of a square around each centre, and distances from the centre in nm."""
        half = int(np.ceil(reach / self.pixel))
        offset = np.arange(-half, half + 1)
        middle = np.rint(centres[:, 1:] / self.pixel).astype(int)
        rows = middle[:, 0, None, None] + offset[None, :, None]
        columns = middle[:, 1, None, None] + offset[None, None, :]
        rows, columns = np.broadcast_arrays(rows, columns)
        squared = ((rows * self.pixel - centres[:, 1, None, None]) ** 2
                   + (columns * self.pixel - centres[:, 2, None, None]) ** 2
                   + (z - centres[:, 0, None, None]) ** 2)
        away = np.sqrt(squared)
        outside = (rows < 0) | (rows >= self.size) | (columns < 0) | (columns >= self.size)
        return (np.clip(rows, 0, self.size - 1), np.clip(columns, 0, self.size - 1)), np.where(outside, 1e3, away)

    def _expose(self, image: np.ndarray, number: int) -> np.ndarray:
        """What the microscope adds: shading, blur, a slightly uneven dose, shot noise, 8 bits."""
        rng = self.tissue.rng(7, number)
        slow = Waves(self.tissue.rng(8), 2.5 * self.tissue.extent, 4.0, count=6)
        shading = slow.on_slice(number * self.pixel, self.axis, self.axis)
        image = _blur(image + shading + rng.normal(0, 0.8), 5.0 / self.pixel)
        noise = _blur(rng.normal(size=image.shape), 0.38) * np.sqrt(np.maximum(image, 1.0) / TYPICAL_GREY)
        return np.asarray(np.clip(np.rint(image + 11.5 * noise), 0, 255), np.uint8)


class _Texture:
    """The cytoplasm's grain: blurred white noise at two scales, each slice resembling the one before."""

    SCALES = ((12.0, 7.0), (36.0, 6.0))  # (correlation length in nm, standard deviation in grey values)

    def __init__(self, rng: np.random.Generator, size: int, pixel: float):
        self.rng, self.size, self.pixel = rng, size, pixel
        self.state: Optional[List[np.ndarray]] = None

    def __next__(self) -> np.ndarray:
        fresh = []
        for length, deviation in self.SCALES:
            sigma = length / self.pixel
            noise = _blur(self.rng.normal(size=(self.size, self.size)), sigma)
            fresh.append(noise * deviation * max(1.0, 2 * np.sqrt(np.pi) * sigma))
        if self.state is None:
            self.state = fresh
        else:
            keep = [np.exp(-0.5 * (self.pixel / length) ** 2) for length, _ in self.SCALES]
            self.state = [k * old + np.sqrt(1 - k * k) * new for k, old, new in zip(keep, self.state, fresh)]
        return np.asarray(np.sum(self.state, axis=0))


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with mirrored borders; ``sigma`` in pixels."""
    sigma = max(sigma, 1e-3)
    half = max(1, min(int(np.ceil(3 * sigma)), min(image.shape) - 1))
    # scipy calls "mirror" what numpy's pad calls "reflect"; truncate is the kernel's half width in sigmas.
    blurred: np.ndarray = gaussian_filter(image, sigma, mode="mirror", truncate=half / sigma)
    return blurred


def _at_most_rising(depth: np.ndarray, pixel: float) -> np.ndarray:
    """``depth`` made to change by no more than the way between two pixels, as a distance must.

    A gap divided by its slope overestimates the depth where the gap is flat;
    a mitochondrion bounded by it would end without an outline.
    """
    depth = depth.copy()
    for shift in (1, 2, 4, 8):
        for dy, dx in ((0, shift), (shift, 0), (shift, shift), (shift, -shift)):
            rise = pixel * np.hypot(dy, dx)
            here, there = _overlapping(depth, dy, dx)
            ceiling = there + rise
            np.minimum(there, here + rise, out=there)
            np.minimum(here, ceiling, out=here)
    return depth


def _overlapping(image: np.ndarray, dy: int, dx: int) -> Tuple[np.ndarray, np.ndarray]:
    """Two views in which equal positions are (dy, dx) apart; ``dy`` is not negative."""
    height, width = image.shape
    left, right = max(-dx, 0), max(dx, 0)
    return image[:height - dy, left:width - right], image[dy:, right:width - left]


def _line(distance: np.ndarray, width: Union[float, np.ndarray]) -> np.ndarray:
    """How much of a blurred line there is at ``distance`` from it: 1 on it, 0 far away."""
    return np.exp(-0.5 * (distance / width) ** 2)


def _filled(inside: np.ndarray, softness: float) -> np.ndarray:
    """1 where the signed distance is negative, 0 where it is positive, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(inside / softness, -30, 30)))


def _label(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


def write_synthetic(out_dir: PathLike, slices: int = 8, size: int = 384, seed: int = 0,
                    pixel_size: float = 5.0, force: bool = False) -> Dict[str, float]:
    """Write ``raw.tif``, ``membranes.tif`` and ``mitochondria.tif`` into ``out_dir``.

    Parameters
    ----------
    slices, size, seed, pixel_size : see :class:`Scene`; ``pixel_size`` in nm.
    force : replace an existing folder.

    Returns
    -------
    The fraction of pixels that are positive in ``membranes`` and ``mitochondria``.

    Raises
    ------
    UserError : the folder exists, or a size makes no volume.
    """
    if slices < 1 or size < 32 or not 0.5 <= pixel_size <= 50 or seed < 0:
        raise UserError(f"{out_dir}: cannot draw {slices} slices of {size} pixels of {pixel_size} nm with seed "
                        f"{seed}; ask for at least 1 slice, 32 pixels, 0.5 to 50 nm and a seed from 0")
    positive = dict.fromkeys(Slice._fields[1:], 0)
    with atomic_directory(out_dir, force) as folder, ExitStack() as stack:
        scene = Scene(slices, size, seed, pixel_size)
        progress = stack.enter_context(Progress(slices, "drawing slices"))
        writers = [stack.enter_context(create_volume(folder / f"{name}.tif", (slices, size, size), np.uint8,
                                                     PixelSize(pixel_size, pixel_size, pixel_size)))
                   for name in Slice._fields]
        for number, drawn in enumerate(scene.slices()):
            for writer, image in zip(writers, drawn):
                writer.write(number, image)
            for name in positive:
                positive[name] += int((getattr(drawn, name) > 0).sum())
            progress.update(number + 1)
    return {name: count / (slices * size * size) for name, count in positive.items()}

"""A synthetic electron micrograph of neural tissue, with its exact labels.

The embedded default data: everything in this package runs on it without a
download.  The scene is a set of smooth functions of position (z, y, x) in
nanometres, so slices continue each other and a slice costs the memory of one
slice:

* cells are regions of a weighted, anisotropic Voronoi diagram whose sites
  wander with z, in space warped by smooth noise (:class:`_Cells`); in places a
  thin glial sheet runs between two of them;
* mitochondria, endoplasmic reticulum and endosomes are tubes around 3-D
  polylines, kept inside their cell (:class:`_Tube`);
* vesicles, ribosomes, synaptic densities, texture, shading, blur and shot
  noise make darkness alone a poor classifier.

Only numpy computes; the picture of a seed is the same on every run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import click
import numpy as np

from .commandline import OPTIONS, run
from .errors import UserError
from .files import PathLike, atomic_directory
from .progress import Progress

# All lengths in nm, all grey values on the 8-bit scale, bright = few electrons scattered.
PROFILE_AREA = 95e3          # mean area of a cell's cross-section
WARP = ((420.0, 45.0), (140.0, 9.0))  # (wavelength, amplitude) of the deformation of space
MITO_MARGIN = 30.0           # cytoplasm between a mitochondrion and the plasma membrane
CELL_LABEL = 6.0             # the label reaches this far beyond a plasma membrane's dark line
MITO_LABEL = (-22.0, 5.0)    # the outline's label, as distance from the outer membrane
CYTOPLASM, MEMBRANE, SHEET = 166.0, 88.0, 150.0


class Slice(NamedTuple):
    """One slice: three uint8 arrays of one shape; in the labels 255 is positive."""

    raw: np.ndarray
    membranes: np.ndarray
    mitochondria: np.ndarray


class _Waves:
    """A smooth random function of (z, y, x): a sum of plane waves, unit variance times ``amplitude``."""

    def __init__(self, rng: np.random.Generator, wavelength: float, amplitude: float, count: int = 24):
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = wavelength * rng.uniform(0.7, 1.6, size=(count, 1))
        self.wave = 2 * np.pi * direction / length
        self.phase = rng.uniform(0, 2 * np.pi, count)
        self.scale = amplitude * np.sqrt(2.0 / count)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Values at ``points`` (P x 3)."""
        return self.scale * np.cos(points @ self.wave.T + self.phase).sum(axis=1)

    def on_slice(self, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values on the grid ``y`` x ``x``: a product of two small matrices, since exp(a+b) = exp(a) exp(b)."""
        rows = np.exp(1j * (np.outer(y, self.wave[:, 1]) + (z * self.wave[:, 0] + self.phase)))
        columns = np.exp(1j * np.outer(self.wave[:, 2], x))
        return self.scale * (rows.real @ columns.real - rows.imag @ columns.imag)


class _Cells:
    """Cells as a Voronoi diagram: site i is at distance |M_i (p - c_i)|; c_i and M_i change with z."""

    TILE = 48

    def __init__(self, rng: np.random.Generator, extent: float):
        margin = 700.0
        count = int((extent + 2 * margin) ** 2 / PROFILE_AREA)
        self.centre = rng.uniform(-margin, extent + margin, size=(count, 2))
        self.slope = rng.normal(0, 0.45, size=(count, 2))
        self.radius = np.exp(rng.normal(0, 0.42, count)) * np.sqrt(PROFILE_AREA / np.pi)
        self.aspect = np.exp(rng.uniform(0, 0.5, count))
        self.angle = rng.uniform(0, np.pi, count)
        self.turn = rng.normal(0, 1 / 1500.0, count)
        self.grey = rng.normal(CYTOPLASM, 5.0, count)
        self.has_vesicles = rng.random(count) < 0.45
        self.warp = [[_Waves(rng, length, amplitude) for length, amplitude in WARP] for _ in range(2)]
        self.sheet = _Waves(rng, 520.0, 34.0)
        self.fray = _Waves(rng, 110.0, 2.2)

    def gap(self, points: np.ndarray, shift: Optional[np.ndarray] = None,
            candidates: Optional[np.ndarray] = None) -> Tuple[np.ndarray, np.ndarray]:
        """How much farther the second nearest site is than the nearest, and the nearest (P x 3 -> P, P)."""
        if shift is None:
            shift = np.stack([sum(wave.at(points) for wave in axis) for axis in self.warp], axis=1)
        which = np.arange(len(self.radius)) if candidates is None else candidates
        z = points[:, :1]
        dy = points[:, 1:2] + shift[:, :1] - self.centre[which, 0] - self.slope[which, 0] * z
        dx = points[:, 2:3] + shift[:, 1:] - self.centre[which, 1] - self.slope[which, 1] * z
        angle = self.angle[which] + self.turn[which] * z[:1]  # z of the first point where all share one
        if len(points) > 1 and np.ptp(z):
            angle = self.angle[which] + self.turn[which] * z
        c, s = np.cos(angle), np.sin(angle)
        scale = np.sqrt(self.aspect[which])
        distance = np.hypot((c * dy + s * dx) * scale, (c * dx - s * dy) / scale) / self.radius[which]
        two = np.partition(distance, 1, axis=1)[:, :2]
        return two[:, 1] - two[:, 0], which[np.argmin(distance, axis=1)]

    def depth(self, points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Distance in nm from the cell's own plasma membrane (negative inside a glial sheet), and the cell."""
        step = 4.0
        gap, cell = self.gap(points)
        slope = [(self.gap(points + step * axis)[0] - gap) / step for axis in np.eye(3)]
        return gap / _steepness(slope) - self._half_sheet(self.sheet.at(points)), cell

    @staticmethod
    def _half_sheet(wave: np.ndarray) -> np.ndarray:
        return np.clip(wave - 22.0, 0.0, 60.0)

    def gap_on_slice(self, z: float, y: np.ndarray, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """:meth:`gap` on a grid, tile by tile with the sites that can matter there."""
        shift = np.stack([sum(wave.on_slice(z, y, x) for wave in axis) for axis in self.warp], axis=-1)
        gap, cell = np.empty(shift.shape[:2]), np.empty(shift.shape[:2], dtype=np.int32)
        site = self.centre + self.slope * z
        tightest, widest = np.sqrt(self.aspect) / self.radius, 1 / (np.sqrt(self.aspect) * self.radius)
        for top in range(0, len(y), self.TILE):
            for left in range(0, len(x), self.TILE):
                tile = np.s_[top:top + self.TILE, left:left + self.TILE]
                rows, columns = np.meshgrid(y[tile[0]], x[tile[1]], indexing="ij")
                grid = np.stack([rows, columns], axis=-1) + shift[tile]
                middle = grid.mean(axis=(0, 1))
                reach = np.linalg.norm(grid - middle, axis=-1).max()
                away = np.linalg.norm(site - middle, axis=1)
                # A site whose smallest distance exceeds the second smallest largest one is never among the two.
                limit = np.partition((away + reach) * tightest, 1)[1]
                near = np.flatnonzero(np.maximum(away - reach, 0) * widest <= limit)
                points = np.stack([np.full(rows.size, z), rows.ravel(), columns.ravel()], axis=1)
                values, owner = self.gap(points, shift[tile].reshape(-1, 2), near)
                gap[tile], cell[tile] = values.reshape(rows.shape), owner.reshape(rows.shape)
        return gap, cell


def _steepness(slope: List[np.ndarray]) -> np.ndarray:
    # The floor keeps the distance finite where two sites recede alike.
    return np.maximum(np.sqrt(sum(part ** 2 for part in slope)), 1.5e-3)


class _Tube:
    """An organelle: all points closer than ``radius`` to a 3-D polyline, inside its cell."""

    def __init__(self, line: np.ndarray, radius: float, cell: int, rng: np.random.Generator):
        self.line, self.radius, self.cell = line, radius, cell
        self.wobble = _Waves(rng, 4.0 * radius, 0.10 * radius, count=8)
        self.tone = rng.normal()
        self.cristae = _Waves(rng, 260.0, 2.2, count=8)
        along = line[-1] - line[0] + rng.normal(0, 30.0, 3)
        self.across = along / max(np.linalg.norm(along), 1.0)
        self.low, self.high = line.min(axis=0) - 1.4 * radius, line.max(axis=0) + 1.4 * radius

    def window(self, z: float, pixel: float, size: int) -> Optional[Tuple[slice, slice]]:
        """Rows and columns of the slice at ``z`` that the tube can touch; None if it does not."""
        if not self.low[0] <= z <= self.high[0]:
            return None
        low = np.clip(np.floor(self.low[1:] / pixel).astype(int), 0, size)
        high = np.clip(np.ceil(self.high[1:] / pixel).astype(int) + 1, 0, size)
        return None if (low >= high).any() else (slice(low[0], high[0]), slice(low[1], high[1]))

    def distance(self, z: float, y: np.ndarray, x: np.ndarray, depth: np.ndarray, cell: np.ndarray,
                 margin: float) -> np.ndarray:
        """Signed distance from the surface, negative inside, on the grid ``y`` x ``x``."""
        grid = np.stack(np.broadcast_arrays(z, y[:, None], x[None, :]), axis=-1)
        nearest = np.full(grid.shape[:2], np.inf)
        for start, end in zip(self.line[:-1], self.line[1:]):
            span = end - start
            t = np.clip((grid - start) @ span / max(span @ span, 1e-9), 0, 1)
            nearest = np.minimum(nearest, np.linalg.norm(grid - start - t[..., None] * span, axis=-1))
        tube = nearest - self.radius + self.wobble.on_slice(z, y, x)
        wall = np.where(cell == self.cell, margin - depth, margin + np.abs(depth))
        soft = 12.0  # rounds the edge between the tube and the wall
        return np.maximum(tube, wall) + soft * np.exp(-np.abs(tube - wall) / soft) * 0.5


class Scene:
    """The synthetic tissue of one seed; :meth:`slices` draws it.

    Parameters
    ----------
    slices, size : number of slices and their height and width in pixels.
    seed : the same seed gives the same picture.
    pixel_size : nm, the same along z, y and x.
    """

    def __init__(self, slices: int, size: int, seed: int = 0, pixel_size: float = 5.0):
        self.count, self.size, self.seed, self.pixel = slices, size, seed, float(pixel_size)
        self.extent, self.thickness = size * self.pixel, slices * self.pixel
        self.axis = np.arange(size) * self.pixel
        self.cells = _Cells(self._rng(0), self.extent)
        self.mitochondria = self._place_mitochondria(self._rng(1))
        self.reticulum = self._place_reticulum(self._rng(2))
        self.vesicles = self._place_vesicles(self._rng(3))
        self.synapses = self._place_synapses(self._rng(4))
        self.ribosomes = self._place_ribosomes(self._rng(5))

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    def _points(self, rng: np.random.Generator, count: int, margin: float) -> np.ndarray:
        low, high = np.array([-margin] * 3), np.array([self.thickness] + 2 * [self.extent]) + margin
        return rng.uniform(low, high, size=(count, 3))

    def _expected(self, area: float, height: float) -> int:
        """How many objects to draw for one per ``area`` nm2 of a slice, if each is ``height`` nm tall."""
        return int(round((self.extent + 2 * height) ** 2 / area * (self.thickness + 2 * height) / height))

    def _place_mitochondria(self, rng: np.random.Generator) -> List[_Tube]:
        placed: List[_Tube] = []
        centres = self._points(rng, self._expected(36e3, 300.0), 300.0)
        depth, cell = self.cells.depth(centres)
        for index in np.flatnonzero(depth > 105.0):
            direction = rng.normal(size=(16, 3)) * (0.5, 1.0, 1.0)
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            radius = min(rng.uniform(80.0, 165.0), 0.9 * (depth[index] - 20.0))
            steps = np.arange(-5, 6)[:, None] * 70.0
            along = centres[index] + steps * direction[:, None, :]
            clear, owner = self.cells.depth(along.reshape(-1, 3))
            free = ((clear > 0.5 * radius) & (owner == cell[index])).reshape(16, -1)
            best = np.argmax([_run_around(row, 5)[1] - _run_around(row, 5)[0] for row in free])
            first, last = _run_around(free[best], 5)
            line = along[best, first:last + 1] + rng.normal(0, 8.0, size=(last + 1 - first, 3))
            if len(line) < 2:
                line = np.repeat(line, 2, axis=0)
            tube = _Tube(line, radius, int(cell[index]), rng)
            if all(_apart(tube, other) for other in placed):
                placed.append(tube)
        return placed

    def _place_reticulum(self, rng: np.random.Generator) -> List[_Tube]:
        placed: List[_Tube] = []
        starts = self._points(rng, self._expected(32e3, 80.0), 80.0)
        depth, cell = self.cells.depth(starts)
        for index in np.flatnonzero(depth > 38.0):
            round_one = rng.random() < 0.14  # an endosome, or a large dense vesicle
            radius = rng.uniform(22.0, 42.0) if round_one else rng.uniform(11.0, 20.0)
            turns = rng.normal(size=(1 if round_one else rng.integers(3, 7), 3))
            heading = np.cumsum(turns * 0.45, axis=0) + rng.normal(size=3)
            heading /= np.linalg.norm(heading, axis=1, keepdims=True)
            steps = heading * (1.0 if round_one else 45.0)
            line = np.concatenate([starts[index:index + 1], starts[index] + np.cumsum(steps, axis=0)])
            placed.append(_Tube(line, radius, int(cell[index]), rng))
        return placed

    def _place_vesicles(self, rng: np.random.Generator) -> np.ndarray:
        """Synaptic vesicles, N x 4: centre and radius."""
        clusters = self._points(rng, self._expected(80e3, 300.0), 250.0)
        depth, cell = self.cells.depth(clusters)
        kept = [np.empty((0, 3))]
        for index in np.flatnonzero((depth > 40.0) & self.cells.has_vesicles[cell]):
            spread = rng.uniform(90.0, 190.0)
            around = clusters[index] + rng.normal(0, spread, size=(rng.integers(90, 330), 3))
            around = around[(around[:, 0] > -30.0) & (around[:, 0] < self.thickness + 30.0)]
            if len(around):
                clear, owner = self.cells.depth(around)
                kept.append(around[(clear > 26.0) & (owner == cell[index])])
        centres = _spaced(np.concatenate(kept), 34.0)
        return np.column_stack([centres, rng.normal(19.0, 1.8, len(centres))])

    def _place_synapses(self, rng: np.random.Generator) -> np.ndarray:
        """Densities at plasma membranes, N x 5: centre, radius, the cell that is darkened."""
        points = self._points(rng, self._expected(40e3, 200.0), 150.0)
        depth, cell = self.cells.depth(points)
        at_wall = (depth > 0.0) & (depth < 18.0)
        return np.column_stack([points, rng.uniform(70.0, 140.0, len(points)), cell])[at_wall]

    def _place_ribosomes(self, rng: np.random.Generator) -> np.ndarray:
        """Ribosomes and cut filaments, N x 4: centre and darkness."""
        points = self._points(rng, self._expected(3.2e3, 20.0), 15.0)
        return np.column_stack([points, rng.gamma(2.0, 11.0, len(points))])

    def slices(self) -> Iterator[Slice]:
        """Draw the slices in order, with the memory of one."""
        pixel, y = self.pixel, self.axis
        texture = _Texture(self._rng(6), self.size, pixel)
        gap, cell = self.cells.gap_on_slice(0.0, y, y)
        for number in range(self.count):
            z = number * pixel
            above, cell_above = self.cells.gap_on_slice(z + pixel, y, y)
            slope = [(above - gap) / pixel, *np.gradient(gap, pixel)]
            from_border = gap / _steepness(slope)
            yield self._draw(number, z, from_border, cell, next(texture))
            gap, cell = above, cell_above

    def _draw(self, number: int, z: float, from_border: np.ndarray, cell: np.ndarray,
              texture: np.ndarray) -> Slice:
        cells, y = self.cells, self.axis
        sheet = cells._half_sheet(cells.sheet.on_slice(z, y, y))
        depth = from_border - sheet
        image = np.where(depth < 0, SHEET, cells.grey[cell]) + texture
        self._draw_ribosomes(image, z)
        for tube in self.reticulum:
            self._draw_reticulum(image, tube, z, depth, cell)
        self._draw_vesicles(image, z, texture)
        membranes, mitochondria = np.zeros(image.shape, bool), np.zeros(image.shape, bool)
        for tube in self.mitochondria:
            self._draw_mitochondrion(image, membranes, mitochondria, tube, z, depth, cell, texture)
        # Two lipid leaflets, each a dark line on its side of the narrow extracellular gap.
        half_gap = 8.0 + cells.fray.on_slice(z, y, y)
        leaflet = np.exp(-0.5 * ((np.abs(depth) - half_gap) / 6.5) ** 2)
        image += leaflet * (MEMBRANE + 0.35 * texture - image)
        membranes |= np.abs(depth) < half_gap + CELL_LABEL
        self._draw_synapses(image, z, depth, cell)
        return Slice(self._expose(image, number), _label(membranes), _label(mitochondria))

    def _draw_mitochondrion(self, image, membranes, mitochondria, tube, z, depth, cell, texture) -> None:
        window = tube.window(z, self.pixel, self.size)
        if window is None:
            return
        y, x = self.axis[window[0]], self.axis[window[1]]
        inside = tube.distance(z, y, x, depth[window], cell[window], MITO_MARGIN)
        position = np.stack(np.broadcast_arrays(z, y[:, None], x[None, :]), axis=-1) @ tube.across
        ripple = np.cos(2 * np.pi * position / 38.0 + tube.cristae.on_slice(z, y, x))
        strength = np.clip(15.0 + 4.0 * tube.cristae.on_slice(z, y + 400.0, x), 5.0, 26.0)
        matrix = 110.0 + 4.0 * tube.tone + strength * ripple * np.clip(-(inside + 18.0) / 20.0, 0, 1)
        outer = np.exp(-0.5 * ((inside + 3.0) / 5.0) ** 2)
        inner = 0.65 * np.exp(-0.5 * ((inside + 19.0) / 4.5) ** 2)
        cover = 1 / (1 + np.exp(np.clip(inside / 2.0, -30, 30)))
        part = image[window]
        part += cover * (matrix + 0.8 * texture[window] - part)
        part += np.maximum(outer, inner) * (84.0 - part)
        membranes[window] |= (inside > MITO_LABEL[0]) & (inside < MITO_LABEL[1])
        mitochondria[window] |= inside < MITO_LABEL[1]

    def _draw_reticulum(self, image, tube, z, depth, cell) -> None:
        window = tube.window(z, self.pixel, self.size)
        if window is None:
            return
        inside = tube.distance(z, self.axis[window[0]], self.axis[window[1]], depth[window], cell[window], 16.0)
        part = image[window]
        cover = 1 / (1 + np.exp(np.clip(inside / 3.0, -30, 30)))
        part += cover * (124.0 + 9.0 * tube.tone - part)
        part += 0.85 * np.exp(-0.5 * ((inside + 2.0) / 5.0) ** 2) * (98.0 + 5.0 * tube.tone - part)

    def _draw_vesicles(self, image: np.ndarray, z: float, texture: np.ndarray) -> None:
        near = self.vesicles[np.abs(self.vesicles[:, 0] - z) < 27.0]
        grid, inside = self._stamps(near[:, :3], z, 28.0)
        shell = inside - near[:, 3, None, None]
        grey = CYTOPLASM - 62.0 * np.exp(-0.5 * (shell / 6.0) ** 2) - 24.0 * (shell < 0)
        np.minimum.at(image, grid, np.where(shell < 9.0, grey + 0.5 * texture[grid], np.inf))

    def _draw_ribosomes(self, image: np.ndarray, z: float) -> None:
        near = self.ribosomes[np.abs(self.ribosomes[:, 0] - z) < 18.0]
        grid, away = self._stamps(near[:, :3], z, 18.0)
        np.subtract.at(image, grid, near[:, 3, None, None] * np.exp(-0.5 * (away / 8.0) ** 2))

    def _stamps(self, centres: np.ndarray, z: float, reach: float):
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

    def _draw_synapses(self, image, z, depth, cell) -> None:
        y = self.axis
        for cz, cy, cx, radius, owner in self.synapses:
            if abs(cz - z) >= radius:
                continue
            rows = slice(*np.searchsorted(y, [cy - radius, cy + radius]))
            columns = slice(*np.searchsorted(y, [cx - radius, cx + radius]))
            away = (z - cz) ** 2 + (y[rows, None] - cy) ** 2 + (y[None, columns] - cx) ** 2
            envelope = np.clip(4.0 * (1 - np.sqrt(away) / radius), 0, 1)
            side = np.where(cell[rows, columns] == owner, 22.0, 9.0)
            density = np.exp(-0.5 * (np.maximum(depth[rows, columns], 0) / side) ** 2) * envelope
            image[rows, columns] += 0.85 * density * (76.0 - image[rows, columns])

    def _expose(self, image: np.ndarray, number: int) -> np.ndarray:
        """What the microscope adds: shading, blur, a slightly uneven dose, shot noise, 8 bits."""
        rng = self._rng(7, number)
        shading = _Waves(self._rng(8), 2.5 * self.extent, 4.0, count=6).on_slice(number * self.pixel, self.axis, self.axis)
        image = _blur(image + shading + rng.normal(0, 0.8), 5.0 / self.pixel)
        noise = _blur(rng.normal(size=image.shape), 0.38) * np.sqrt(np.maximum(image, 1.0) / CYTOPLASM)
        return np.clip(np.rint(image + 11.5 * noise), 0, 255).astype(np.uint8)


class _Texture:
    """The cytoplasm's grain: blurred white noise at two scales, each slice resembling the one before."""

    SCALES = ((11.0, 5.5), (32.0, 4.5))  # (correlation length in nm, standard deviation in grey values)

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
        return sum(self.state)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with mirrored borders; ``sigma`` in pixels."""
    half = max(1, min(int(np.ceil(3 * sigma)), min(image.shape) - 1))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(half, half) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        image = sum(weight * (padded[i:i + image.shape[0]] if axis == 0 else padded[:, i:i + image.shape[1]])
                    for i, weight in enumerate(kernel))
    return image


def _run_around(free: np.ndarray, middle: int) -> Tuple[int, int]:
    """First and last position of the run of True around ``middle``."""
    first = last = middle
    while first > 0 and free[first - 1]:
        first -= 1
    while last + 1 < len(free) and free[last + 1]:
        last += 1
    return first, last


def _apart(one: _Tube, other: _Tube) -> bool:
    between = np.linalg.norm(one.line[:, None] - other.line[None], axis=-1).min()
    return between > 1.15 * (one.radius + other.radius) + 35.0


def _spaced(points: np.ndarray, distance: float) -> np.ndarray:
    """The points, less those closer than ``distance`` to an earlier one."""
    kept: List[int] = []
    bins: Dict[Tuple[int, ...], List[int]] = {}
    steps = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    for index, key in enumerate(map(tuple, np.floor(points / distance).astype(int))):
        around = [i for a, b, c in steps for i in bins.get((key[0] + a, key[1] + b, key[2] + c), ())]
        if not around or (((points[around] - points[index]) ** 2).sum(axis=1) >= distance ** 2).all():
            kept.append(index)
            bins.setdefault(key, []).append(index)
    return points[kept]


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
    import tifffile

    positive = dict.fromkeys(Slice._fields[1:], 0)
    with atomic_directory(out_dir, force) as folder, Progress(slices, "drawing slices") as progress:
        files = [tifffile.memmap(folder / f"{name}.tif", shape=(slices, size, size), dtype=np.uint8, imagej=True,
                                 resolution=(1e3 / pixel_size, 1e3 / pixel_size),
                                 metadata={"axes": "ZYX", "unit": "um", "spacing": pixel_size / 1e3})
                 for name in Slice._fields]
        for number, drawn in enumerate(Scene(slices, size, seed, pixel_size).slices()):
            for file, image in zip(files, drawn):
                file[number] = image
            for name in positive:
                positive[name] += int((getattr(drawn, name) > 0).sum())
            progress.update(number + 1)
        for file in files:
            file.flush()
        del file, files
    return {name: count / (slices * size * size) for name, count in positive.items()}


@click.command(context_settings=OPTIONS)
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--slices", default=8, help="Number of slices.")
@click.option("--size", default=384, help="Height and width of a slice in pixels.")
@click.option("--seed", default=0, help="The same seed gives the same files, byte for byte.")
@click.option("--pixel-size", default=5.0, help="nm, the same along z, y and x.")
@click.option("--force", is_flag=True, help="Replace OUT_DIR if it exists.")
def cli(out_dir: Path, slices: int, size: int, seed: int, pixel_size: float, force: bool) -> None:
    """Draw a synthetic electron micrograph of neural tissue, with its labels.

    OUT_DIR gets three ImageJ TIFF stacks, 8 bits, with the pixel size:

    \b
    raw.tif           the micrograph
    membranes.tif     255 = plasma membranes and the outlines of mitochondria
                      (outer membrane to inner boundary membrane), 0 = the rest
    mitochondria.tif  255 = mitochondria, filled, outline included, 0 = the rest

    Cristae, endoplasmic reticulum, vesicles and synaptic densities are dark
    too, but are not positive: darkness alone does not solve the task. For the
    outlines of mitochondria alone, as in the paper, take mitochondria.tif with
    `--labels-are mitochondria` in pycaffe_tools.patches.

    \b
    Example:
      python -m pycaffe_tools.synth data/synthetic --slices 8 --size 384 --seed 0
    """
    fractions = write_synthetic(out_dir, slices, size, seed, pixel_size, force)
    click.echo(f"{out_dir}: {slices} slices of {size} x {size} pixels of {pixel_size:g} nm; "
               + ", ".join(f"{100 * value:.1f} % {name}" for name, value in fractions.items()))


if __name__ == "__main__":
    run(cli, "synth")

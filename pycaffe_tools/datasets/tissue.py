"""Where things are in the synthetic tissue: geometry in nanometres, without a pixel.

The tissue is a set of smooth functions of position (z, y, x), so slices
continue each other and any slice can be drawn on its own:

* cells are regions of a weighted, anisotropic Voronoi diagram whose sites
  wander with z, in space warped by smooth noise (:class:`Cells`); in places a
  thin glial sheet runs between two of them;
* mitochondria, endoplasmic reticulum and endosomes are tubes around 3-D
  polylines, kept inside their cell (:class:`Tube`);
* vesicles, synaptic densities and ribosomes are points with a radius.

:class:`Tissue` places all of them for a seed.  How they look in the
microscope is the part of :mod:`pycaffe_tools.datasets.scene`.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

PROFILE_AREA = 110e3                  # nm2, mean area of a cell's cross-section
WARP = ((420.0, 45.0), (140.0, 9.0))  # (wavelength, amplitude) of the deformation of space, nm
MITOCHONDRIA = 0.13                   # of the volume, at most
TYPICAL_GREY = 166.0                  # cytoplasm, on the 8-bit scale


class Waves:
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
        return np.asarray(self.scale * np.cos(points @ self.wave.T + self.phase).sum(axis=1))

    def on_slice(self, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values on the grid ``y`` x ``x``: a product of two small matrices, since exp(a+b) = exp(a) exp(b)."""
        rows = np.exp(1j * (np.outer(y, self.wave[:, 1]) + (z * self.wave[:, 0] + self.phase)))
        columns = np.exp(1j * np.outer(self.wave[:, 2], x))
        return np.asarray(self.scale * (rows.real @ columns.real - rows.imag @ columns.imag))


class Cells:
    """Cells as a Voronoi diagram: site i is at distance |M_i (p - c_i)|; c_i and M_i change with z."""

    TILE = 48      # pixels
    BLOCK = 400.0  # nm

    def __init__(self, rng: np.random.Generator, thickness: float, extent: float):
        self.middle = thickness / 2
        margin = 700.0 + 0.6 * thickness  # sites beyond the picture wander into it along z
        count = int((extent + 2 * margin) ** 2 / PROFILE_AREA)
        self.centre = rng.uniform(-margin, extent + margin, size=(count, 2))
        self.slope = rng.normal(0, 0.45, size=(count, 2))
        self.radius = np.exp(rng.normal(0, 0.42, count)) * np.sqrt(PROFILE_AREA / np.pi)
        self.aspect = np.exp(rng.uniform(0, 0.5, count))
        self.angle = rng.uniform(0, np.pi, count)
        self.turn = rng.normal(0, 1 / 1500.0, count)
        self.grey = rng.normal(TYPICAL_GREY, 6.0, count) - 26.0 * (rng.random(count) < 0.12)  # some are dark
        self.has_vesicles = rng.random(count) < 0.45
        self.warp = [[Waves(rng, length, amplitude) for length, amplitude in WARP] for _ in range(2)]
        self.sheet = Waves(rng, 520.0, 32.0)
        self.fray = Waves(rng, 110.0, 2.2)   # of the extracellular gap
        self.stain = Waves(rng, 170.0, 9.0)  # how dark membranes are, in grey values

    def gap(self, points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """How much farther (without unit) the second nearest site is than the nearest, and which that is.

        ``points`` are P x 3; the results have length P.
        """
        shift = np.stack([sum(wave.at(points) for wave in axis) for axis in self.warp], axis=1)
        gap, cell = np.empty(len(points)), np.empty(len(points), dtype=np.int32)
        _, block = np.unique(np.floor(points / self.BLOCK).astype(int), axis=0, return_inverse=True)
        order = np.argsort(block.ravel(), kind="stable")
        for part in np.split(order, np.cumsum(np.bincount(block.ravel()))[:-1]):
            gap[part], cell[part] = self._two_nearest(points[part, 0], points[part, 1:] + shift[part])
        return gap, cell

    def gap_on_slice(self, z: float, y: np.ndarray, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """:meth:`gap` on the grid ``y`` x ``x`` (nm) of the slice at ``z``."""
        warped = np.stack([sum(wave.on_slice(z, y, x) for wave in axis) for axis in self.warp], axis=-1)
        warped += np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
        gap, cell = np.empty(warped.shape[:2]), np.empty(warped.shape[:2], dtype=np.int32)
        for top in range(0, len(y), self.TILE):
            for left in range(0, len(x), self.TILE):
                tile = np.s_[top:top + self.TILE, left:left + self.TILE]
                values, owner = self._two_nearest(np.array([z]), warped[tile].reshape(-1, 2))
                gap[tile], cell[tile] = values.reshape(gap[tile].shape), owner.reshape(gap[tile].shape)
        return gap, cell

    def _two_nearest(self, z: np.ndarray, warped: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        # Exact, but only the sites that can matter to these neighbouring points are looked at.
        height = z[:, None] - self.middle
        which = self._that_matter(height, warped)
        dy = warped[:, :1] - self.centre[which, 0] - self.slope[which, 0] * height
        dx = warped[:, 1:] - self.centre[which, 1] - self.slope[which, 1] * height
        angle = self.angle[which] + self.turn[which] * height
        c, s = np.cos(angle), np.sin(angle)
        scale = np.sqrt(self.aspect[which])
        distance = np.hypot((c * dy + s * dx) * scale, (c * dx - s * dy) / scale) / self.radius[which]
        two = np.partition(distance, 1, axis=1)[:, :2]
        return two[:, 1] - two[:, 0], which[np.argmin(distance, axis=1)]

    def _that_matter(self, height: np.ndarray, warped: np.ndarray) -> np.ndarray:
        tightest, widest = np.sqrt(self.aspect) / self.radius, 1 / (np.sqrt(self.aspect) * self.radius)
        centre, level = warped.mean(axis=0), height.mean()
        reach = (np.linalg.norm(warped - centre, axis=1).max()
                 + np.linalg.norm(self.slope, axis=1) * np.abs(height - level).max())
        away = np.linalg.norm(self.centre + self.slope * level - centre, axis=1)
        # A site whose smallest distance exceeds the second smallest largest one is never among the two.
        limit = np.partition((away + reach) * tightest, 1)[1]
        return np.flatnonzero(np.maximum(away - reach, 0) * widest <= limit)

    def depth(self, points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Distance in nm from the cell's own plasma membrane (negative inside a glial sheet), and the cell."""
        step = 4.0
        gap, cell = self.gap(points)
        slope = [(self.gap(points + step * axis)[0] - gap) / step for axis in np.eye(3)]
        return gap / steepness(slope) - self.half_sheet(self.sheet.at(points)), cell

    @staticmethod
    def half_sheet(wave: np.ndarray) -> np.ndarray:
        """Half the thickness in nm of the glial sheet where :attr:`sheet` has this value; mostly 0."""
        return np.clip(wave - 26.0, 0.0, 60.0)


def steepness(slope: List[np.ndarray]) -> np.ndarray:
    """Length of a gradient given by its components: turns :meth:`Cells.gap` into nm."""
    # The floor keeps the distance finite where two sites recede alike.
    return np.maximum(np.sqrt(sum(part ** 2 for part in slope)), 1.5e-3)


class Tube:
    """An organelle: all points closer than ``radius`` to a 3-D polyline, inside its cell."""

    def __init__(self, line: np.ndarray, radius: float, cell: int, rng: np.random.Generator):
        self.line, self.radius, self.cell = line, radius, cell
        self.wobble = Waves(rng, 4.0 * radius, 0.10 * radius, count=8)
        self.tone = rng.normal()
        self.cristae = Waves(rng, 200.0, 2.8, count=8)
        along = line[-1] - line[0] + rng.normal(0, 30.0, 3)
        self.across = along / max(np.linalg.norm(along), 1.0)
        self.low, self.high = line.min(axis=0) - 1.4 * radius, line.max(axis=0) + 1.4 * radius

    @property
    def volume(self) -> float:
        """In nm3, before the cell's wall cuts it."""
        length = np.linalg.norm(np.diff(self.line, axis=0), axis=1).sum()
        return float(np.pi * self.radius ** 2 * (length + 4 / 3 * self.radius))

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
        return np.asarray(np.maximum(tube, wall) + soft * np.exp(-np.abs(tube - wall) / soft) * 0.5)


class Tissue:
    """All cells and organelles of one seed.

    Parameters
    ----------
    thickness, extent : size along z, and along y and x, in nm.
    seed : the same seed places the same things.
    """

    def __init__(self, thickness: float, extent: float, seed: int):
        self.thickness, self.extent, self.seed = thickness, extent, seed
        self.cells = Cells(self.rng(0), thickness, extent)
        self.mitochondria = self._place_mitochondria(self.rng(1))
        self.reticulum = self._place_reticulum(self.rng(2))
        self.vesicles = self._place_vesicles(self.rng(3))
        self.synapses = self._place_synapses(self.rng(4))
        self.ribosomes = self._place_ribosomes(self.rng(5))

    def rng(self, *stream: int) -> np.random.Generator:
        """A generator of its own for every purpose, so that a change in one leaves the others alone."""
        return np.random.default_rng([self.seed, *stream])

    def _points(self, rng: np.random.Generator, count: int, margin: float) -> np.ndarray:
        low, high = np.array([-margin] * 3), np.array([self.thickness] + 2 * [self.extent]) + margin
        return rng.uniform(low, high, size=(count, 3))

    def _expected(self, area: float, height: float) -> int:
        """How many objects to draw for one per ``area`` nm2 of a slice, if each is ``height`` nm tall."""
        return int(round((self.extent + 2 * height) ** 2 / area * (self.thickness + 2 * height) / height))

    def _place_mitochondria(self, rng: np.random.Generator) -> List[Tube]:
        placed: List[Tube] = []
        filled, room = 0.0, MITOCHONDRIA * (self.thickness + 600.0) * (self.extent + 600.0) ** 2
        centres = self._points(rng, self._expected(20e3, 300.0), 300.0)
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
            tube = Tube(line, radius, int(cell[index]), rng)
            if all(_apart(tube, other) for other in placed):
                placed.append(tube)
                filled += tube.volume
            if filled > room:
                break
        return placed

    def _place_reticulum(self, rng: np.random.Generator) -> List[Tube]:
        placed: List[Tube] = []
        starts = self._points(rng, self._expected(15e3, 80.0), 80.0)
        depth, cell = self.cells.depth(starts)
        for index in np.flatnonzero(depth > 38.0):
            round_one = rng.random() < 0.14  # an endosome, or a large dense vesicle
            radius = rng.uniform(22.0, 42.0) if round_one else rng.uniform(11.0, 20.0)
            turns = rng.normal(size=(1 if round_one else rng.integers(3, 7), 3))
            heading = np.cumsum(turns * 0.45, axis=0) + rng.normal(size=3)
            heading /= np.linalg.norm(heading, axis=1, keepdims=True)
            steps = heading * (1.0 if round_one else 45.0)
            line = np.concatenate([starts[index:index + 1], starts[index] + np.cumsum(steps, axis=0)])
            placed.append(Tube(line, radius, int(cell[index]), rng))
        return placed

    def _place_vesicles(self, rng: np.random.Generator) -> np.ndarray:
        """Synaptic vesicles, N x 4: centre and radius."""
        clusters = self._points(rng, self._expected(80e3, 300.0), 250.0)
        depth, cell = self.cells.depth(clusters)
        kept = [np.empty((0, 3))]
        for index in np.flatnonzero((depth > 40.0) & self.cells.has_vesicles[cell]):
            spread = rng.uniform(90.0, 190.0)
            around = clusters[index] + rng.normal(0, spread, size=(rng.integers(120, 560), 3))
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
        points = self._points(rng, self._expected(2.2e3, 20.0), 15.0)
        return np.column_stack([points, rng.gamma(2.0, 12.0, len(points))])


def _run_around(free: np.ndarray, middle: int) -> Tuple[int, int]:
    """First and last position of the run of True around ``middle``."""
    first = last = middle
    while first > 0 and free[first - 1]:
        first -= 1
    while last + 1 < len(free) and free[last + 1]:
        last += 1
    return first, last


def _apart(one: Tube, other: Tube) -> bool:
    between = np.linalg.norm(one.line[:, None] - other.line[None], axis=-1).min()
    return bool(between > 1.15 * (one.radius + other.radius) + 35.0)


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

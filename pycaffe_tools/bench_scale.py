"""What a segmentation costs beside the network when it has 10, 100, 1,000 or 10,000 slices.

    python -m pycaffe_tools.bench_scale

The input is an HDF5 file of slices of the paper's size, 3069 x 2301, that holds
no data: it takes no room, and reads as zeros.  Nothing is left out or imitated:
every slice is read as a whole, its grey values are hashed, the net N7 (random
weights) runs, and the result is kept, joined and recorded as always.  But only a
crop of 32 x 32 pixels is segmented, so what remains is the bookkeeping, the question
here.  What whole slices cost beside that depends on no number of slices; a last
row shows them for a few.

=============  ==========================================================================
``alone``      one run into a TIFF; "resume" is the start of a second run that finds all
               slices finished, "finish" puts the TIFF together
``parts``      16 runs, each with a TIFF of its own; "finish" is ``--merge``
``in place``   16 runs into one OME-Zarr 0.5; "finish" is ``--finish``
=============  ==========================================================================

Every step is a process of its own, one after the other; its memory is the
largest that was resident.  Times are of the processor, which other programs
disturb less, and in brackets as they elapsed.  "Bytes" are those of records and manifests, without
pixels; "files" those in the fullest folder before the last step.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np

from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.files import write_json, write_text
from .base.host.machine import peak_so_far
from .base.ranges import Part
from .nets import model as models
from .nets.files.caffemodel import write_weights
from .nets.netgraph import read_net
from .nets.paper import SLICE_SHAPE, TABLE_1, deploy_prototxt
from .nets.running.runtime import random_weights
from .segment.in_place.sharing import finish, finished_slices
from .segment.outputs import merge, parts_path
from .segment.request import Request
from .segment.segmentation import Segmentation
from .volumes.provenance import read_provenance

KINDS = ("alone", "parts", "in place")
NETWORK = "N7"
CROP = "0:32,0:32"
PARTS = 16


class Time(NamedTuple):
    """Seconds of the processor, and of the clock."""

    processor: float
    elapsed: float

    def minus(self, other: Time) -> Time:
        """What is left without ``other``."""
        return Time(self.processor - other.processor, self.elapsed - other.elapsed)


class Row(NamedTuple):
    """The cost of one way to segment a number of slices."""

    kind: str
    slices: int
    plan: Time
    """From the request to the plan."""
    slice: Time
    """For each slice, from reading it to its record on the disk, network included."""
    resume: Time
    """Until a run knows that all its slices are finished."""
    finish: Time
    """Of the last step."""
    bytes: float
    """Of records and manifests, for each slice."""
    files: int
    """In the fullest folder."""
    peak: int
    """Resident bytes of the process that needed most."""


class _Took(NamedTuple):
    time: Time
    peak: int
    result: Any


def bench(kind: str, slices: int, folder: Path, crop: Optional[str] = CROP) -> Row:
    """Segment a number of slices in a folder, and remove what was written.

    Parameters
    ----------
    kind : one of ``KINDS``.
    slices : how many.
    folder : an empty one, with room for the results.
    crop : what of each slice; None is all of it.

    Raises
    ------
    UserError : a step failed, or did not give all slices.
    """
    make_input(folder / "raw.h5", slices)
    make_model(folder / "model")
    out = folder / ("p.zarr" if kind == "in place" else "p.tif")
    request = Request(str(folder / "raw.h5"), str(out), str(folder / "model"), crop=crop, workers=1, ome_zarr="0.5" if kind == "in place"
                      else "0.4")
    parts = [Part(number, min(PARTS, slices)) for number in range(1, min(PARTS, slices) + 1)]
    if kind == "alone":
        runs = [request]
    elif kind == "parts":
        runs = [request._replace(out=str(folder / f"part{part.number}.tif"), part=part) for part in parts]
    else:
        runs = [request._replace(part=part) for part in parts]
    work = [_apart(_compute if kind == "alone" else _run, each) for each in runs]
    planned = [took.result for took in work]
    files = max(sum(1 for _ in place.iterdir()) for place in [folder, *folder.rglob("*")] if place.is_dir())
    resumed = [_apart(_plan, each) for each in runs]
    if sum(took.result for took in resumed) != slices:
        raise UserError(f"bench_scale: {sum(took.result for took in resumed)} of {slices} slices are finished; this is a defect")
    steps: Dict[str, Callable[[], Any]] = {"alone": partial(_run, request), "in place": partial(finish, out),
                                           "parts": partial(merge, [each.out for each in runs], out)}
    pixels = 4 * (32 * 32 if crop else SLICE_SHAPE[0] * SLICE_SHAPE[1])
    written = _bookkeeping(folder, out, pixels)
    ended = _apart(steps[kind])
    record = read_provenance(out)
    if record is None or len(record["slices"]) != slices or len(finished_slices(out)) != slices:
        raise UserError(f"bench_scale: {out} does not hold {slices} slices; this is a defect")
    done = [took.time.minus(plan) for took, plan in zip(work, planned)]
    return Row(kind, slices, max(planned), Time(*(sum(times) / slices for times in zip(*done))),
               max(took.time for took in resumed), ended.time, max(written, _bookkeeping(folder, out, pixels)) / slices, files,
               max(took.peak for took in [*work, *resumed, ended]))


def make_input(path: Path, slices: int) -> None:
    """An HDF5 file of empty slices of the paper's size, uint8, that takes no room."""
    import h5py

    with h5py.File(path, "w") as handle:
        handle.create_dataset("volume", (slices,) + SLICE_SHAPE, np.uint8)


def make_model(folder: Path) -> None:
    """A model directory of :data:`NETWORK` with random weights."""
    folder.mkdir()
    write_text(folder / models.DEPLOY, deploy_prototxt(TABLE_1[NETWORK], NETWORK))
    net = read_net(folder / models.DEPLOY)
    write_weights(folder / models.WEIGHTS, net, random_weights(net, 1))
    models.finish_model(folder, name=NETWORK, normalisation={"mean": 128.0, "std": 40.0}, patch_size=32,
                        pixel_size_nm=[None, None, None], counts=TABLE_1[NETWORK], threshold=0.5, provenance={})


def _now() -> Time:
    return Time(time.process_time(), time.perf_counter())


def _run(request: Request) -> Time:
    """Segment; gives the time that planning took."""
    begun = _now()
    with closing(Segmentation(request)) as work:
        planned = _now().minus(begun)
        work.run()
    return planned


def _compute(request: Request) -> Time:
    """Do all slices, and do not put the output together, as a process that is killed just then."""
    begun = _now()
    with closing(Segmentation(request)) as work:
        planned = _now().minus(begun)
        with work.store as store:
            store.begin(work.manifest)
            work.compute(work.slices)
    return planned


def _plan(request: Request) -> int:
    """Plan; gives the number of slices that are finished."""
    with closing(Segmentation(request)) as work:
        return len(work.skipped)


def _apart(function: Callable[..., Any], *arguments: Any) -> _Took:
    """Call a function in a new process: a fork would lack the threads of libraries that are loaded here."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Any], arguments: Sequence[Any]) -> _Took:
    begun = _now()
    result = function(*arguments)
    return _Took(_now().minus(begun), peak_so_far(), result)


def _bookkeeping(folder: Path, out: Path, pixels: int) -> int:
    """Bytes of everything that is not pixels: records, manifests, and what a file of results has beside them."""
    records = [*folder.glob("*.json"), *folder.glob("*.records/*"), *folder.glob("*.parts/*.json")]
    kept = list(parts_path(out).glob("*.npz"))
    return sum(path.stat().st_size for path in records) + len(kept) * (kept[0].stat().st_size - pixels if kept else 0)


def table(rows: Sequence[Row]) -> List[str]:
    """Lines for a person, which Markdown reads as a table."""
    lines = ["| way | slices | plan | a slice | resume | finish | bytes a slice | files a folder | memory |",
             "|---|---|---|---|---|---|---|---|---|"]
    lines += [f"| {row.kind} | {row.slices:,} | {_text(row.plan)} | {_text(row.slice)} | {_text(row.resume)} | {_text(row.finish)} | "
              f"{row.bytes:.0f} | {row.files:,} | {row.peak / 1e6:.0f} MB |" for row in rows]
    return lines


def _text(taken: Time) -> str:
    """
    >>> _text(Time(0.0213, 0.07)), _text(Time(12.3, 61))
    ('21 ms (70)', '12.3 s (61.0)')
    """
    if taken.processor < 1:
        return f"{1000 * taken.processor:.0f} ms ({1000 * taken.elapsed:.0f})"
    return f"{taken.processor:.1f} s ({taken.elapsed:.1f})"


@click.command(context_settings=OPTIONS)
@click.option("--slices", default="10,100,1000,10000", help="Numbers of slices.")
@click.option("--whole", type=click.IntRange(0), default=4, help="Slices that are segmented as a whole at the end; 0 for none.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where there is room. [default: a temporary one]")
@click.option("--out", type=click.Path(dir_okay=False), help="Also write the figures to this JSON file.")
def cli(slices: str, whole: int, folder: Optional[Path], out: Optional[str]) -> None:
    """Print what a segmentation costs beside the network, from few slices to many.

    \b
    python -m pycaffe_tools.bench_scale --slices 10,100,1000
    """
    try:
        counts = [int(count) for count in slices.split(",")]
        if min(counts) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--slices {slices}: are no numbers of slices; write for example 10,100,1000") from None
    asked: List[Tuple[str, int, Optional[str]]] = [(kind, count, CROP) for count in counts for kind in KINDS]
    asked += [(kind, whole, None) for kind in KINDS if whole]
    rows = []
    for kind, count, crop in asked:
        place = Path(tempfile.mkdtemp(dir=folder, prefix="bench_scale_"))
        try:
            rows.append(bench(kind, count, place, crop)._replace(kind=kind if crop else f"{kind}, whole slices"))
            click.echo(table(rows[-1:])[-1], err=True)
        finally:
            shutil.rmtree(place)
    for line in table(rows):
        click.echo(line)
    if out:
        write_json(out, [row._asdict() for row in rows])


if __name__ == "__main__":
    run(cli, "bench_scale")

"""Patch databases for Caffe: which patches a network is trained on.

    python -m pycaffe_tools.patches raw.tif membranes.tif patches/ --labels-are membrane

writes a folder that holds all that training needs:

=================  ========================================================================
``train_000.h5``   shards: ``data`` float32 N x 1 x 32 x 32 (or another size), normalised; ``label`` float32 N,
                   1 membrane and 0 not; ``pixel`` int32 N x 4, where each patch came from: number
                   of its stack, slice, row, column; rows are shuffled already
``train.txt``      list of the shards, as Caffe's HDF5Data layer reads it
``val_*``          the same for validation, from slices of their own
``patches.json``   sources with hashes, counts, seed, normalisation, every choice, warnings
=================  ========================================================================

Both classes are equally frequent.  Excluded pixels count nowhere, and do not
enter the normalisation.  Pixels are drawn in two passes, first counted and then
picked, so that every pixel of a class has the same chance and memory grows
neither with the volume nor with the patches themselves.
"""

from __future__ import annotations

import errno
import math
import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .. import __version__
from ..base.errors import TemporaryError, UserError
from ..base.files import PathLike, atomic_directory, refuse_existing, write_json
from ..base.progress import Progress
from ..base.ranges import parse_slices
from ..nets.model import Normalisation
from ..nets.paper import PATCH_SIZE, centre
from ..volumes.paths import split_dataset
from .belonging import common_pixel_size, other_pixel_size
from .database import BY_STACK, FORMAT, INFO, PRODUCTS, SPLITS, Database, open_database
from .greys import GreyStatistics, StackGreys, far_apart, opposite_contrast
from .labels import RIM, LabelCoding, listed
from .sampling import SliceCount, count_slice, draw, positions
from .shards import ShardWriter, blocks
from .sources import NEGATIVE, POSITIVE, LabelledStack, Source
from .window import extract_patches

SHARD_PATCHES = 32_768
"""Patches of 32 x 32 in a shard, 128 MiB: Caffe holds one whole shard in memory, and its blobs stay below 2^31 elements."""


# Making a database

class _Slice(NamedTuple):
    stack: int
    source: Source
    z: int
    pixels: SliceCount


def make_database(stacks: Sequence[LabelledStack], out: PathLike, labels_are: str, membrane_value: Optional[int] = None,
                  rim: float = RIM, train: int = 20_000, val: int = 10_000, seed: int = 0,
                  shard_patches: Optional[int] = None, axes: Optional[str] = None, force: bool = False, *,
                  ignore_values: Sequence[int] = (), normalise: str = "all", ignore_slice_names: bool = False,
                  patch_size: int = PATCH_SIZE) -> Database:
    """Draw balanced patches from stacks with labels and write a database.

    Parameters
    ----------
    stacks : stacks with their labels.
    out : the folder to create; it appears when it is complete.
    labels_are, membrane_value, rim, ignore_values : what the values of the label files mean, see
        :class:`~pycaffe_tools.patches.labels.LabelCoding`.
    train, val : patches in all, half of each class.
    seed : equal seeds and sources give equal arrays; the two splits draw independently.
    shard_patches : at most so many patches in a shard; by default as many as 128 MiB hold, 32768 of 32 x 32.
    axes : axes of the raw files, where they are not YX or ZYX.
    force : replace ``out``, and accept labels of which more than half is membrane, and stacks that are far apart.
    normalise : ``"all"``: one mean and standard deviation, those of all training slices.  ``"stack"``: each stack by
        its own, and so is later every volume that is segmented with a model trained on these patches.
    ignore_slice_names : take slices of folders in order, whatever their names.
    patch_size : side of a patch in pixels; a network trained on the patches is for patches of this size.

    Raises
    ------
    UserError : for anything in the sources that makes the database senseless; nothing is left behind.
    """
    for name, number in (("train", train), ("val", val)):
        if number < 2 or number % 2:
            raise UserError(f"--{name} {number}: has to be even and at least 2, since half of the patches is membrane")
    most = np.iinfo(np.int32).max // max(patch_size, 1) ** 2
    if patch_size < 1 or most < 1:
        raise UserError(f"--patch-size {patch_size}: a patch has to have 1 to {math.isqrt(np.iinfo(np.int32).max)} pixels a side")
    if shard_patches is None:
        shard_patches = max(SHARD_PATCHES * PATCH_SIZE ** 2 // patch_size ** 2, 1)
    if not 1 <= shard_patches <= most:
        raise UserError(f"a shard of {shard_patches} patches of {patch_size} x {patch_size} pixels: Caffe takes 1 to {most} "
                        f"of them a file")
    if normalise not in ("all", "stack"):
        raise UserError(f"--normalise {normalise}: is not known; pass all or stack")
    coding = LabelCoding(labels_are, membrane_value, tuple(ignore_values), rim).checked()
    out = Path(out).absolute()
    refuse_existing(out, force, PRODUCTS)
    with ExitStack() as stack:
        sources = [stack.enter_context(closing(Source(each, coding, axes, ignore_slice_names))) for each in stacks]
        split = [split_slices(source) for source in sources]
        greys, counted = _count(sources, split, force)
        wanted = dict(zip(SPLITS, (train, val)))
        for name in SPLITS:
            _check_enough(name, counted[name], wanted[name])
        doubts = [sentence for source in sources for sentence in source.doubts()] + _pixel_sizes_that_differ(sources)
        normalisations = _normalisations(greys, normalise, force, doubts)
        described = [source.describe() for source in sources]
        _refuse_twice(described)
        _check_room(out, train + val, patch_size)
        info: Dict[str, Any] = {
            "format": FORMAT, "made_by": f"pycaffe_tools {__version__}", "patch_size": patch_size,
            "centre": [centre(patch_size)] * 2, "border": "reflect", "labels_are": labels_are,
            "membrane_value": coding.recorded_value, "rim": rim if coding.outlined else None,
            "seed": seed, "shard_patches": shard_patches, "axes": axes,
            "normalisation": BY_STACK if normalise == "stack" else normalisations[0]._asdict(),
            "pixel_size_nm": common_pixel_size([source.raw.pixel_size for source in sources]),
            "sources": [{**text, "train_slices": chosen["train"], "val_slices": chosen["val"]}
                        for text, chosen in zip(described, split)]}
        if normalise == "stack":
            for text, own in zip(info["sources"], normalisations):
                text["normalisation"] = own._asdict()
        # What older databases do not have is there only where it says something.
        if any(source.excludes for source in sources):
            info["normalisation_leaves_out"] = "excluded pixels"
        if ignore_values:
            info["ignore_values"] = list(ignore_values)
        if doubts:
            info["warnings"] = doubts
        with atomic_directory(out, force) as folder:
            for number, name in enumerate(SPLITS):
                rng = np.random.default_rng([seed, number])
                info[name] = _write_split(folder, out, name, counted[name], wanted[name], normalisations, rng,
                                          shard_patches, patch_size)
            info["class_balance"] = info["val"]["positive_fraction"]
            write_json(folder / INFO, info)
    return open_database(out)


def split_slices(source: Source) -> Dict[str, List[int]]:
    """Slices of each split: ``val_slices`` validate and the rest of ``slices`` trains.

    Without ``val_slices`` the last quarter of ``slices`` validates, at least
    one slice.  ``val_slices`` may be ``none``, where other stacks validate.
    """
    stack, depth = source.stack, source.raw.shape[0]
    usable = parse_slices(stack.slices, depth)
    if stack.val_slices is None:
        if len(usable) < 2:
            raise UserError(f"{source.raw.path}: has one usable slice, and training and validation share none; "
                            f"give a second stack with --pair and pass --val-slices for both")
        val = usable[-max(1, len(usable) // 4):]
    else:
        val = [] if stack.val_slices.strip().lower() == "none" else parse_slices(stack.val_slices, depth, "--val-slices")
    return {"train": sorted(set(usable) - set(val)), "val": val}


class _Greys(NamedTuple):
    all: GreyStatistics
    """Of the training slices of all stacks."""
    stacks: List[StackGreys]


def _count(sources: Sequence[Source], split: Sequence[Dict[str, List[int]]],
           force: bool) -> Tuple[_Greys, Dict[str, List[_Slice]]]:
    """First pass: classes of every slice, and grey values."""
    greys = _Greys(GreyStatistics(), [StackGreys(source.raw) for source in sources])
    counted: Dict[str, List[_Slice]] = {name: [] for name in SPLITS}
    total, done = sum(len(chosen[name]) for chosen in split for name in SPLITS), 0
    for name in SPLITS:
        if not any(chosen[name] for chosen in split):
            raise UserError(f"--val-slices leaves no slice for {'training' if name == 'train' else 'validation'}; "
                            f"choose fewer or more of them")
    with Progress(total, "counting") as progress:
        for stack, (source, chosen) in enumerate(zip(sources, split)):
            for name in SPLITS:
                for z in chosen[name]:
                    part = source.read(z)
                    count = count_slice(part)
                    counted[name].append(_Slice(stack, source, z, count))
                    one = GreyStatistics.of(part.grey[part.counted] if count.excluded else part.grey)
                    getattr(greys.stacks[stack], name).add(one)
                    if name == "train":
                        greys.all.add(one)
                    if len(sources) > 1:
                        greys.stacks[stack].add_contrast(part.grey, part.classes == POSITIVE, part.classes == NEGATIVE)
                    done += 1
                    progress.update(done)
            if not force:
                source.refuse_mostly_marked()
    return greys, counted


def _normalisations(greys: _Greys, normalise: str, force: bool, doubts: List[str]) -> List[Normalisation]:
    """The normalisation of each stack; what is doubtful but forced is added to ``doubts``."""
    found = ([stack.normalisation() for stack in greys.stacks] if normalise == "stack"
             else [Normalisation(greys.all.mean, greys.all.std)] * len(greys.stacks))
    for own, stack in zip(found, greys.stacks):
        if not own.std > 0:
            raise UserError(f"{stack.path}: all grey values of the training slices are {own.mean:g}; check that this is "
                            f"the raw image")
    advice = {far_apart: "pass --normalise stack to normalise each stack by its own",
              opposite_contrast: "invert one of them"}
    for check in (far_apart, opposite_contrast):
        sentence = None if normalise == "stack" and check is far_apart else check(greys.stacks)
        if sentence is not None and not force:
            raise UserError(f"{sentence}; {advice[check]}, or --force if one network is to see both as they are")
        if sentence is not None:
            doubts.append(sentence)
    return found


def _pixel_sizes_that_differ(sources: Sequence[Source]) -> List[str]:
    found = (other_pixel_size(sources[0].raw, source.raw, "the database records it as unknown, and the network sees "
                              "membranes at both scales; resample one stack") for source in sources[1:])
    return [sentence for sentence in found if sentence is not None]


def _check_enough(name: str, slices: Sequence[_Slice], wanted: int) -> None:
    word = "training" if name == "train" else "validation"
    labels = ", ".join(sorted({part.source.stack.labels for part in slices}))
    for kind in ("positive", "negative"):
        found = sum(getattr(part.pixels, kind) for part in slices)
        meant = "membrane" if kind == "positive" else "other"
        if found == 0:
            values = sorted({value for part in slices for value in part.source.labels.values})
            raise UserError(f"{labels}: no {meant} pixel in the {len(slices)} {word} slices"
                            + (f" (values {listed(values)})" if values else "") + "; check the labels, "
                            "--membrane-value, masks and the slices")
        if found < wanted // 2:
            raise UserError(f"{labels}: {found} {meant} pixels in the {word} slices are fewer than the {wanted // 2} "
                            f"asked for; pass --{name} {2 * found} or less")


def _refuse_twice(described: Sequence[Dict[str, Any]]) -> None:
    """The same stack in two pairs could train with a slice and validate with it."""
    seen: Dict[str, str] = {}
    for source in described:
        key = source["raw"]["sha256"] + str(split_dataset(source["raw"]["path"])[1])
        if key in seen:
            raise UserError(f"{source['raw']['path']}: is the same stack as {seen[key]}; give each stack once, else "
                            f"training and validation may share slices")
        seen[key] = source["raw"]["path"]


def _check_room(out: Path, patches: int, patch_size: int) -> None:
    existing = next(folder for folder in out.parents if folder.exists())
    needed, free = patches * (patch_size ** 2 + 5) * 4, shutil.disk_usage(existing).free
    if needed > free:
        raise _disk_full(out, f" (it needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free)")


def _disk_full(out: Path, detail: str = "") -> TemporaryError:
    return TemporaryError(f"{out}: the disk is full{detail}; free some space and run the same command again")


def _write_split(folder: Path, out: Path, name: str, slices: Sequence[_Slice], wanted: int,
                 normalisations: Sequence[Normalisation], rng: np.random.Generator, shard_patches: int,
                 patch_size: int) -> Dict[str, Any]:
    """Second pass: draw pixels and write their patches at shuffled rows."""
    half = wanted // 2
    chosen = {POSITIVE: draw(rng, [part.pixels.positive for part in slices], half),
              NEGATIVE: draw(rng, [part.pixels.negative for part in slices], half)}
    # One shuffle of all rows now, so that Caffe, which reads in order, needs none later.
    order = rng.permutation(wanted)
    next_row = {POSITIVE: 0, NEGATIVE: half}
    try:
        with ShardWriter(folder, name, wanted, shard_patches, patch_size) as shards, \
                Progress(wanted, f"{name} patches") as progress:
            for number, part in enumerate(slices):
                numbers = {kind: picks[number] for kind, picks in chosen.items()}
                if not any(picks.size for picks in numbers.values()):
                    continue
                normalisation, read = normalisations[part.stack], part.source.read(part.z)
                grey = _filled(read.grey, normalisation.mean)
                for kind, picks in numbers.items():
                    rows = order[next_row[kind]:next_row[kind] + picks.size]
                    next_row[kind] += picks.size
                    ys, xs = positions(read.classes, kind, picks)
                    for block in blocks(picks.size, patch_size):
                        patches = normalisation.apply(extract_patches(grey, ys[block], xs[block], patch_size))
                        places = np.stack(np.broadcast_arrays(part.stack, part.z, ys[block], xs[block]), axis=1)
                        shards.write(rows[block], patches, kind, places)
                progress.update(sum(next_row.values()) - half)
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):    # HDF5 keeps it in the text only
            raise _disk_full(out) from error
        raise
    (folder / f"{name}.txt").write_text("".join(f"{out / file}\n" for file in shards.files), encoding="utf-8")
    positive, negative, excluded = (sum(column) for column in zip(*(part.pixels for part in slices)))
    return {"patches": wanted, "positive": half, "negative": half,
            "shards": [{"file": file, "patches": rows, "bytes": (folder / file).stat().st_size}
                       for file, rows in zip(shards.files, shards.rows)],
            "slices": len(slices), "pixels": {"positive": positive, "negative": negative, "excluded": excluded},
            "positive_fraction": positive / (positive + negative)}


def _filled(grey: np.ndarray, mean: float) -> np.ndarray:
    """A slice without NaN and infinite values, which lie in excluded pixels, but patches reach there: they become the mean."""
    if grey.dtype.kind != "f":
        return grey
    finite = np.isfinite(grey)
    return grey if finite.all() else np.where(finite, grey, grey.dtype.type(mean))

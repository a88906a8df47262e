"""Data sets, how each is split, and the scales of the reproduction: every number that is not the paper's."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from ..base.errors import UserError
from ..nets import paper

STAGES = ("data", "train", "prune", "retrain", "segment", "front", "transfer")
"""In the order in which they follow each other."""

SCORES = ("apoz", "l1")
"""The two readings of the sparsity criterion of reference [16]."""

SEGMENTED = "probability.tif"
"""What a segmentation leaves beside its scores."""

FIRST = 1
"""Seed of the runs of which there is one."""


RATES = (0.001, 0.0005, 0.0001)
"""Initial learning rates between which retraining is compared; the first is that of training."""


def rate_name(rate: float) -> str:
    """A rate in the name of a run, which has no dot: ``5e-4``."""
    return f"{rate:.0e}".replace("e-0", "e-")


class Definition(NamedTuple):
    """Which pixels are positive and which are negative."""

    text: str
    labels: str
    exclude: Optional[str] = None


class Fold(NamedTuple):
    """Slices that one seed trains on and others that it validates on, as :mod:`pycaffe_tools.patches` takes them."""

    slices: str
    val_slices: str
    shown: Tuple[int, ...]
    """Of those that validate, the ones that are segmented and scored."""


class DataSet(NamedTuple):
    """A labelled stack, how it is split, and what may be shown of it.

    Attributes
    ----------
    folds : ways to hold out whole groups of slices; a scale may give each seed one of its own.
    slices, val_slices : for :mod:`pycaffe_tools.patches`; what is in neither is left out as a margin.
    shown : validation slices that are segmented and scored.
    crop : part of the first shown slice in Figure 4: y0, y1, x0, x1.
    licence : None where the terms are not established: then no pixel of the image is kept.
    """

    name: str
    title: str
    raw: str
    main: Definition
    second: Optional[Definition]
    slices: Optional[str]
    val_slices: str
    split: str
    shown: Tuple[int, ...]
    crop: Tuple[int, int, int, int]
    licence: Optional[str]
    citation: str
    folds: Tuple[Fold, ...] = ()


# Nine groups of slices, more than ten slices (50 nm) apart; each is held out once. Two groups a fold, but for the first
# group, which is as large as two others.
_EPFL_FOLDS = (Fold("0:27", "20,22", (20, 22)), Fold("0:27", "16,23:27", (16, 24)), Fold("0:27", "17:20,21", (18, 21)),
               Fold("0:27", "8:16", (10, 14)), Fold("0:27", "0:8", (1, 7)))

# Neighbouring sections show the same cells: one on either side of those held out is left out.
_VNC_FOLDS = (Fold("0:10,11:14", "11:14", (12, 13)), Fold("0:4,5:8,9:14", "5:8", (6, 7)), Fold("0:3,4:14", "0:3", (0, 1)))
_EPFL_CITATION = (
    "A. Lucchi et al., Supervoxel-Based Segmentation of Mitochondria in EM Image Stacks with Learned Shape Features, "
    "IEEE Trans. Medical Imaging 31(2), 474-486, 2012; labels: GraphLabEMproj, github.com/zhixuhao/unet")

DATA_SETS: Dict[str, DataSet] = {data_set.name: data_set for data_set in (
    DataSet(
        "epfl", "EPFL hippocampus, FIB-SEM, 5 nm", "epfl_raw.tif",
        Definition("positive: boundary membranes of mitochondria; negative: every other pixel except other labelled "
                   "membranes, which are left out (the paper's negatives were annotated as non-membrane)",
                   "epfl_mito_boundaries.tif", "epfl_membranes.tif"),
        Definition("positive: boundary membranes of mitochondria; negative: every other pixel, other membranes included",
                   "epfl_mito_boundaries.tif"),
        None, "20:27",
        "by groups of neighbouring slices: training pages 0 to 19 (slices 0 to 91 of the origin), validation pages 20 to "
        "26 (slices 105, 118, 135, 161 to 164); no group is in both",
        (20, 22), (96, 352, 608, 864), None, _EPFL_CITATION, _EPFL_FOLDS),
    DataSet(
        "epfl-hard", "EPFL hippocampus, FIB-SEM, 5 nm, against all other pixels", "epfl_raw.tif",
        Definition("positive: boundary membranes of mitochondria; negative: every other pixel, other membranes included",
                   "epfl_mito_boundaries.tif"),
        None, None, "20:27", "as for epfl: no group of neighbouring slices both trains and validates",
        (20, 22), (96, 352, 608, 864), None, _EPFL_CITATION, _EPFL_FOLDS),
    DataSet(
        "vnc", "Drosophila larva ventral nerve cord, ssTEM, 4.6 nm", "vnc_raw.tif",
        Definition("positive: plasma membranes (with glial areas, as labelled); negative: every other pixel",
                   "vnc_membranes.tif"),
        None, "0:10,11:14", "11:14",
        "training sections 0 to 9, validation sections 11 to 13; section 10 between them is left out",
        (12, 13), (384, 640, 384, 640),
        "Creative Commons Attribution-NonCommercial-ShareAlike 3.0 Unported "
        "(http://creativecommons.org/licenses/by-nc-sa/3.0/)",
        "S. Gerhard, J. Funke, J. Martel, A. Cardona, R. Fetter: Segmented anisotropic ssTEM dataset of neural tissue. "
        "figshare, http://dx.doi.org/10.6084/m9.figshare.856713", _VNC_FOLDS),
    DataSet(
        "synthetic", "synthetic tissue of pycaffe_tools.synth", "raw.tif",
        Definition("positive: all membranes as drawn; negative: every other pixel", "membranes.tif"),
        None, None, "-1", "the last slice validates", (-1,), (0, 128, 0, 128), "drawn by this package: no restriction", "none"),
)}


class Scale(NamedTuple):
    """How much of everything; None is the committed solver's own number."""

    train_patches: int
    val_patches: int
    train_iterations: Optional[int]
    retrain_iterations: Optional[int]
    retrain_rate: Optional[float]
    """Initial learning rate of retraining."""
    tests: int
    """Validations on the way of a training."""
    batches: int
    """Mini-batches that the pruning loss is averaged over."""
    batch_size: int
    nets: Tuple[str, ...]
    """Pruned networks, from N seed 1."""
    seeds: Tuple[int, ...]
    controls: Tuple[str, ...]
    """Networks that are made with every seed, by every criterion and with random features, and from scratch."""
    figure_3: bool
    """Order every layer to its end for seed 1."""
    retrain_longer: Tuple[Tuple[str, int], ...] = ()
    """Networks with more iterations of retraining than the others, whatever chose their features."""
    timing: Tuple[str, ...] = ()
    """Options of :mod:`pycaffe_tools.timing`."""
    folds: Tuple[int, ...] = ()
    """Which fold of the data set each seed takes, where they do not all share its one split."""
    curve: Tuple[int, ...] = ()
    """Iterations of further trainings of N with the first seed: how long is long enough?"""
    # What follows is for scales with folds alone.
    retrain_tests: Optional[int] = None
    """Validations on the way of a retraining, where they are fewer than of a training."""
    sparsity_seeds: int = 0
    """Seeds with which the networks that are no controls are made by sparsity, too."""
    long_retraining: Tuple[Tuple[str, int], ...] = ()
    """Networks that are retrained anew for so many iterations, by the loss and by sparsity."""
    rates: Tuple[float, ...] = ()
    """Further initial rates at which the smallest network is retrained, and trained from random weights for as long."""
    directions: Tuple[str, ...] = ()
    """Other sequences of the layers in which the controls are pruned by the loss."""
    figure_3_of_every_seed: bool = False
    draws: Tuple[Tuple[int, int], ...] = ()
    """Numbers of mini-batches, and how often so many are drawn anew to order all layers of the first N."""
    patch_sizes: Tuple[int, ...] = ()
    """Other sizes of patches that N is trained on."""
    patch_size_seeds: Tuple[int, ...] = ()
    front: Tuple[float, ...] = ()
    """Budgets at which ways to a small network are compared: shares of the multiply-accumulates of N's dense net."""
    front_seeds: Tuple[int, ...] = ()
    transfer: Tuple[str, ...] = ()
    """Data sets whose networks, N and the smallest by the loss, are tried on the patches of this one."""
    transfer_seeds: Tuple[int, ...] = ()


ALL = paper.NAMES[1:]
_FULL = Scale(paper.PAPER_PATCHES, paper.PAPER_PATCHES, None, None, None, 5, 20, 128, ALL, (1, 2, 3), ("N6", "N7"),
              True)

# A tenth of the learning rate changes little in so few iterations, so half of it is taken.
_SMALL = Scale(60_000, 12_000, 1_000, 400, 0.0005, 1, 8, 128, ALL, (1, 2, 3), ("N6", "N7"), True,
               # N7 has most to learn again, and an iteration of it costs a sixth of one of N.
               (("N7", 1_000),))

# The validation patches that EPFL's usual split has are too few for the paper's 300,000: the largest fold has enough.
_FULL_EPFL = _FULL._replace(seeds=(1,), folds=(4,), sparsity_seeds=1)
# Accuracy still climbs beyond (see the scale curve), but ten times the length would take weeks on two cores.
_MAIN = Scale(paper.PAPER_PATCHES, 40_000, 3_000, 1_000, None, 2, 20, 128, ALL, (1, 2, 3, 4, 5), ("N6", "N7"), True,
              folds=(0, 1, 2, 3, 4), retrain_tests=1, sparsity_seeds=2, long_retraining=(("N7", 10_000),),
              rates=RATES, directions=("top-down", "separate"), figure_3_of_every_seed=True,
              draws=((20, 5), (5, 3), (10, 3), (40, 3)), patch_sizes=(40, 48), patch_size_seeds=(1, 2),
              front=(0.5, 0.3, 0.18, 0.1, 0.05, 0.025), front_seeds=(1, 2, 3),
              transfer=("vnc",), transfer_seeds=(1, 2, 3))
# The same networks; what is asked of one data set only is asked of the one above.
_MAIN_HARD = _MAIN._replace(sparsity_seeds=0, rates=(), directions=(), draws=(), patch_sizes=(), patch_size_seeds=())

# Which length the main scale has: N of one seed for longer and shorter.
_CURVE = Scale(paper.PAPER_PATCHES, 40_000, 10_000, 3_333, None, 5, 20, 128, (), (1,), (), False,
               folds=(0,), curve=(30_000, 1_000, 3_000))


def _second(scale: Scale) -> Scale:
    """The same for a second data set: fewer networks, one seed, no controls."""
    return scale._replace(nets=("N6", "N7"), seeds=(1,), controls=())


_TINY = Scale(256, 64, 2, 1, 0.0005, 1, 1, 16, ("N7",), (1,), ("N7",), False, (),
              ("--patches", "64", "--dense-tile", "32", "--repetitions", "1"))
SCALES: Dict[str, Dict[str, Scale]] = {
    "full": {"epfl": _FULL_EPFL, "epfl-hard": _FULL_EPFL, "vnc": _second(_FULL), "synthetic": _FULL},
    "main": {"epfl": _MAIN, "epfl-hard": _MAIN_HARD,
             "vnc": _MAIN_HARD._replace(seeds=(1, 2, 3), folds=(0, 1, 2), transfer=("epfl", "epfl-hard"))},
    "curve": {"epfl": _CURVE},
    "small": {"epfl": _SMALL, "epfl-hard": _SMALL, "synthetic": _SMALL, "vnc": _second(_SMALL)},
    # For the tests of this package: what it computes means nothing.
    "tiny": dict.fromkeys(DATA_SETS, _TINY),
}
"""Every number of the reproduction that is not the paper's, by scale and data set."""


def scale_of(data_set: str, scale: str) -> Scale:
    """The numbers of one scale and data set.

    Raises
    ------
    UserError : there is no such scale or data set.
    """
    for given, known, what in ((data_set, DATA_SETS, "data set"), (scale, SCALES, "scale")):
        if given not in known:
            raise UserError(f"{given}: is not a {what} of the reproduction; choose one of {', '.join(known)}")
    if data_set not in SCALES[scale]:
        raise UserError(f"{data_set}: has no scale {scale}; choose one of "
                        f"{', '.join(name for name, sets in SCALES.items() if data_set in sets)}")
    return SCALES[scale][data_set]

"""The networks of the paper: Tables 1 and 2, hyper-parameters, and the prototxts and solvers that follow from them."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional

from ..base.errors import UserError

PATCH_SIZE = 32
"""Side of a patch in pixels (Section 2.2); of the committed networks, and of patches where nothing else is asked for."""


def centre(patch_size: int) -> int:
    """Row and column of the classified pixel in a patch, counted from 0.

    The middle where ``patch_size`` is odd.  An even patch has no middle: of
    the four pixels there it is the last one, 16 of 32 (assumed).
    """
    return patch_size // 2


PRUNED_LAYERS = ("c1", "c2", "c3", "fc4")
"""Layers whose features are pruned, from the bottom up; fc5 keeps its two classes (Section 3)."""

KERNELS = {"c1": 7, "c2": 5, "c3": 3}
"""Side of each convolution kernel (Section 2.2)."""

CLASSES = 2
"""Outputs of fc5: 0 not membrane, 1 membrane."""

# Table 1: number of output feature maps kept in each layer.
_TABLE_1_ROWS = {
    #       N   N1   N2   N3   N4   N5   N6  N7
    "c1": (100, 90, 65, 90, 90, 90, 65, 30),
    "c2": (75, 75, 75, 60, 75, 75, 60, 20),
    "c3": (50, 40, 40, 40, 30, 40, 30, 10),
    "fc4": (200, 150, 150, 150, 150, 110, 110, 10),
}
NAMES = ("N", "N1", "N2", "N3", "N4", "N5", "N6", "N7")
TABLE_1: Dict[str, Dict[str, int]] = {
    name: {layer: row[column] for layer, row in _TABLE_1_ROWS.items()} for column, name in enumerate(NAMES)}
"""Table 1: for each network, the number of features in each layer."""

SMALLEST, OTHERS = NAMES[-1], NAMES[1:-1]
"""The network that was pruned by more than 90 %, and the other pruned ones."""


class PaperRow(NamedTuple):
    """One row of Table 2 as printed."""

    accuracy_loss: float
    """Validation accuracy in percent, pruned by training loss (the paper's proposal)."""
    accuracy_sparsity: float
    """The same, pruned by the sparsity of its reference [16]."""
    seconds: float
    """Segmentation of one 3069 x 2301 slice, GeForce GTX 1080."""
    pruned_percent: float
    memory_kilobytes: int


TABLE_2: Dict[str, PaperRow] = {
    "N": PaperRow(93.18, 93.18, 114.7, 0.0, 654),
    "N1": PaperRow(93.34, 93.08, 104.5, 12.7, 594),
    "N2": PaperRow(93.33, 93.07, 83.5, 33.0, 445),
    "N3": PaperRow(93.29, 93.10, 86.3, 29.3, 583),
    "N4": PaperRow(92.91, 93.26, 104.5, 16.2, 593),
    "N5": PaperRow(93.29, 93.24, 104.4, 13.5, 593),
    "N6": PaperRow(92.87, 93.00, 69.9, 49.1, 434),
    "N7": PaperRow(91.27, 90.86, 29.5, 92.2, 197),
}

SLICE_SHAPE = (2301, 3069)
"""Rows and columns of one slice of the paper's data set (printed there as width x height, 3069 x 2301)."""

PAPER_PATCHES = 300_000
"""Training patches, and as many for validation, half of them membrane (Section 2.2)."""

# Not in the paper, assumed; docs/assumptions.md lists them.
TRAIN_BATCH = 128
TEST_BATCH = 100
TRAIN_ITERATIONS = 30_000
RETRAIN_ITERATIONS = 10_000
RETRAIN_RATE = 0.0005
DATABASE = "data/patches"
"""Where the committed networks look for their patches, relative to the folder Caffe runs in."""


def counts_of(name: str) -> Dict[str, int]:
    """Features in each layer of one of Table 1's networks.

    Raises
    ------
    UserError : there is no network of that name.
    """
    if name not in TABLE_1:
        raise UserError(f"{name}: is not a network of Table 1; choose one of {', '.join(NAMES)}")
    return dict(TABLE_1[name])


_WRITTEN = "Written by python -m pycaffe_tools.networks from Table 1 in pycaffe_tools/nets/paper.py; change it there."
_WRITTEN_BY_TRAIN = "Written by python -m pycaffe_tools.train."

_DEPLOY_INPUT = '''layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape { dim: 1 dim: 1 dim: %d dim: %d } }
}
'''

_DATA = '''layer {
  name: "data"
  type: "HDF5Data"
  top: "data"
  top: "label"
  include { phase: %s }
  hdf5_data_param { source: "%s" batch_size: %d }
}
'''

_PARAMETERS = '''    weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 0 }
'''

_CONVOLUTION = '''layer {
  name: "c%(i)d"
  type: "Convolution"
  bottom: "%(bottom)s"
  top: "c%(i)d"
  convolution_param {
    num_output: %(outputs)d
    kernel_size: %(kernel)d
%(fillers)s  }
}
layer { name: "relu%(i)d" type: "ReLU" bottom: "c%(i)d" top: "c%(i)d" }
layer {
  name: "p%(i)d"
  type: "Pooling"
  bottom: "c%(i)d"
  top: "p%(i)d"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 }
}
'''

_INNER_PRODUCT = '''layer {
  name: "%(name)s"
  type: "InnerProduct"
  bottom: "%(bottom)s"
  top: "%(name)s"
  inner_product_param {
    num_output: %(outputs)d
%(fillers)s  }
}
'''


def _body(counts: Mapping[str, int]) -> str:
    parts = []
    for i, layer in enumerate(("c1", "c2", "c3"), start=1):
        parts.append(_CONVOLUTION % {"i": i, "bottom": "data" if i == 1 else f"p{i - 1}", "outputs": counts[layer],
                                     "kernel": KERNELS[layer], "fillers": _PARAMETERS})
    parts.append(_INNER_PRODUCT % {"name": "fc4", "bottom": "p3", "outputs": counts["fc4"], "fillers": _PARAMETERS})
    parts.append('layer { name: "relu4" type: "ReLU" bottom: "fc4" top: "fc4" }\n')
    parts.append(_INNER_PRODUCT % {"name": "fc5", "bottom": "fc4", "outputs": CLASSES, "fillers": _PARAMETERS})
    return "".join(parts)


def _head(name: str, counts: Mapping[str, int], purpose: str) -> str:
    kept = ", ".join(f"{layer} {counts[layer]}" for layer in PRUNED_LAYERS)
    if TABLE_1.get(name) == counts:
        told, written = f"Network {name} of Roels et al., ISBI 2017 (Section 2.2, Table 1: {kept})", _WRITTEN
    else:
        told = f"Network {name}, built as those of Roels et al., ISBI 2017 (Section 2.2), with other counts ({kept})"
        written = _WRITTEN_BY_TRAIN
    return f'# {told}, {purpose}.\n# {written}\nname: "{name}"\n'


def deploy_prototxt(counts: Mapping[str, int], name: str, patch_size: int = PATCH_SIZE) -> str:
    """The network that classifies patches.

    Blob ``data`` (1 x 1 x 32 x 32 or another ``patch_size``, normalised grey
    values) to blob ``prob`` (1 x 2; channel 1 is the probability of membrane).

    ReLU follows each convolution and fc4 directly: the text does not say so,
    but M of Table 2 comes out for no other arrangement.  Pooling is Caffe's
    own, rounded up.  With the paper's patches: 26 to 13, 9 to 4, 2 to 1, the last
    window of p1 and p3 clipped.  Below 30 pixels a side nothing is left for p3.
    """
    size = "" if patch_size == PATCH_SIZE else f" of {patch_size} x {patch_size} pixels"
    return (_head(name, counts, f"for patches{size} one by one") + _DEPLOY_INPUT % (patch_size, patch_size) + _body(counts)
            + 'layer { name: "prob" type: "Softmax" bottom: "fc5" top: "prob" }\n')


def train_val_prototxt(counts: Mapping[str, int], name: str, database: str = DATABASE,
                       train_batch: int = TRAIN_BATCH, test_batch: int = TEST_BATCH) -> str:
    """The network with its patch databases, softmax loss (Eq. 1's entropy loss) and accuracy.

    Parameters
    ----------
    counts : features in each layer.
    name : the network's name.
    database : folder that holds ``train.txt`` and ``val.txt``.
    train_batch, test_batch : patches in one iteration.
    """
    return (_head(name, counts, "for training and validation")
            + _DATA % ("TRAIN", f"{database}/train.txt", train_batch)
            + _DATA % ("TEST", f"{database}/val.txt", test_batch)
            + _body(counts)
            + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc5" bottom: "label" top: "loss" }\n'
            + 'layer { name: "accuracy" type: "Accuracy" bottom: "fc5" bottom: "label" top: "accuracy"\n'
            + '  include { phase: TEST } }\n')


class Schedule(NamedTuple):
    """The numbers of a solver that differ between training and retraining."""

    base_lr: float
    max_iter: int
    reason: str


TRAINING = Schedule(0.001, TRAIN_ITERATIONS, "the text (Section 2.2)")
RETRAINING = Schedule(RETRAIN_RATE, RETRAIN_ITERATIONS,
                      'the text says only "we also had to decrease the learning rate" (Section 3): half is assumed')


def solver_prototxt(name: str, schedule: Schedule, kind: str, seed: Optional[int] = 1) -> str:
    """A solver as Caffe's command line reads it, each field with its reason.

    Parameters
    ----------
    name : network of Table 1.
    schedule : :data:`TRAINING` or :data:`RETRAINING`.
    kind : ``train`` or ``retrain``; names the snapshots.
    seed : of the weight fillers.
    """
    tests = PAPER_PATCHES // TEST_BATCH
    if kind == "train":
        command = f"caffe train --solver=solvers/{name}_train.prototxt"
    else:
        command = (f"caffe train --solver=solvers/{name}_retrain.prototxt "
                   f"--weights=runs/{name}-pruned/weights.caffemodel")
    epochs = schedule.max_iter * TRAIN_BATCH / PAPER_PATCHES
    return f'''# {"Training" if kind == "train" else "Retraining after pruning"} of {name}. From the top of the checkout:
#   {command}
# {_WRITTEN}
net: "prototxt/{name}/train_val.prototxt"

# {tests} batches of {TEST_BATCH} cover the {PAPER_PATCHES:,} validation patches once (Section 2.2 gives their number).
test_iter: {tests}
# Not in the paper: assumed, so that validation takes a small part of the time.
test_interval: {max(schedule.max_iter // 6, 1)}

# Stochastic gradient descent with momentum 0.9: the text (Section 2.2).
type: "SGD"
momentum: 0.9
# Initial learning rate: {schedule.reason}.
base_lr: {schedule.base_lr:g}
# "Linearly decreasing": the text; Caffe writes it base_lr * (1 - iteration / max_iter) ^ power.
lr_policy: "poly"
power: 1
# Not in the paper: assumed; {epochs:.1f} passes over {PAPER_PATCHES:,} patches in batches of {TRAIN_BATCH}.
max_iter: {schedule.max_iter}
# lambda = 0.01 on all weights and biases: the text (Eq. 1), so no layer sets decay_mult.
weight_decay: 0.01
regularization_type: "L2"

# Not in the paper: logging, snapshots and the seed of the weight fillers.
display: 100
average_loss: 100
snapshot: {max(schedule.max_iter // 10, 1)}
snapshot_prefix: "runs/{name}_{kind}"
random_seed: {seed}
solver_mode: CPU
'''


MEMBRANE = 1
"""Channel of the net's output that is the probability of membrane."""

"""Zero features of a trained net, or remove them, and prove that both are the same function.

``python -m pycaffe_tools.surgery DEPLOY WEIGHTS OUT_DIR --keep-file keep.json``
works on any Caffe net, not only on this package's own.  In Python:

    >>> surgery = remove_features(net, weights, {"c1": [0, 2, 5]})       # doctest: +SKIP
    >>> verify(surgery)                                                  # doctest: +SKIP
    2.1e-07

Two forms of the pruned net are made.  The *masked* net has the original
shapes; what makes a removed channel is zero: the weights and bias of its
filter, and where BatchNorm, Scale or Bias follow, their mean, factor and
offset, since BatchNorm alone would turn a zero map into -mean / deviation.
The *slim* net does without these channels and without the weights of the next
layers that read them.  :mod:`pycaffe_tools.channels` tells which those are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np

from .base.command import OPTIONS, SEED, run
from .base.errors import UserError
from .base.files import PathLike, atomic_directory, read_json, refuse_existing
from .channel_weights import Blobs, check_all_weights, masked_weights, slim_weights
from .channels import PRUNABLE_TYPES, Channels, propagate
from .nets.caffemodel import read_weights, write_weights
from .nets.child import in_child
from .nets.layers import DATA_TYPES, LOSS_TYPES, Layer
from .nets.netgraph import NetGraph, read_net, write_net
from .nets.runtime import Weights, load_net
from .nets.schema import read_prototxt, schema
from .nets.upgrade import upgraded

TOLERANCE = 1e-5
"""Largest difference between the masked and the slim net, relative to the largest value of the blob."""

MASKED, MASKED_WEIGHTS = "masked.prototxt", "masked.caffemodel"
DEPLOY, TRAIN_VAL, SLIM_WEIGHTS = "deploy.prototxt", "train_val.prototxt", "weights.caffemodel"
PRODUCTS = (MASKED, MASKED_WEIGHTS, DEPLOY, TRAIN_VAL, SLIM_WEIGHTS)
"""What :func:`write_files` writes, and ``--force`` replaces."""


class Surgery(NamedTuple):
    """A net with features removed.

    Attributes
    ----------
    net : the original net.
    keep : for each pruned layer, the features that stayed, ascending.
    masked_weights : for the original net; what makes removed channels is zero.
    slim_proto : NetParameter without them.
    slim_weights : for ``slim_proto``.
    channels : which channels are removed, all over the net.
    """

    net: NetGraph
    keep: Dict[str, List[int]]
    masked_weights: Dict[str, Blobs]
    slim_proto: Any
    slim_weights: Dict[str, Blobs]
    channels: Channels


def remove_features(net: NetGraph, weights: Weights, keep: Mapping[str, Sequence[int]]) -> Surgery:
    """Remove features from a net, and all that reads only them.

    Parameters
    ----------
    net : the net, with the shape of its input (a deploy prototxt).
    weights : blobs by layer name, as from :func:`pycaffe_tools.nets.caffemodel.read_weights`; untouched.
        What they hold for layers that the net has not is left out.
    keep : for each layer to be pruned, the indexes of the features that stay,
        in any order (the features stay in the original order); layers not named keep all.

    Raises
    ------
    UserError : the weights do not fit, ``keep`` does not fit, or a layer
        stands in the way (see :func:`pycaffe_tools.channels.propagate`).
    """
    check_all_weights(net, weights)
    channels = propagate(net, keep)
    return Surgery(net, {name: sorted(int(index) for index in indexes) for name, indexes in keep.items()},
                   masked_weights(channels, weights), _slimmed(net.proto, slim_counts(channels)),
                   slim_weights(channels, weights), channels)


def mask_features(net: NetGraph, weights: Weights, removed: Mapping[str, Sequence[int]]) -> Dict[str, Blobs]:
    """Weights of the original shapes with features zeroed.

    Parameters
    ----------
    net, weights : as for :func:`remove_features`.
    removed : for each layer, the indexes of the features to be zeroed.

    Raises
    ------
    UserError : as :func:`remove_features`.
    """
    keep = {}
    for name, indexes in removed.items():
        every = range(net.layer(name).num_output) if net.layer(name).type in PRUNABLE_TYPES else ()
        wrong = [index for index in indexes if index not in every]
        if wrong:
            raise UserError(f"layer {name}: has no feature {wrong[0]!r}; correct the list of features to remove")
        keep[name] = [index for index in every if index not in set(indexes)]
    check_all_weights(net, weights)
    return masked_weights(propagate(net, keep), weights)


def slim_prototxt(proto: Any, keep: Mapping[str, Sequence[int]],
                  input_shapes: Optional[Mapping[str, Tuple[int, ...]]] = None) -> Any:
    """Write the reduced number of features into a net of the same layer names, such as the one for training.

    Parameters
    ----------
    proto : NetParameter; its data layers, losses and fillers stay as they are.
    keep : as for :func:`remove_features`.
    input_shapes : shapes of the blobs that its data layers make, by name.

    Raises
    ------
    UserError : it lacks a pruned layer, or a layer stands in the way in one of its phases.
    """
    changes: Dict[str, Dict[str, Any]] = {}
    missing = set(keep)
    for phase in ("TRAIN", "TEST"):
        net = NetGraph(proto, phase, input_shapes)
        names = {layer.name for layer in net.layers}
        changes.update(slim_counts(propagate(net, {name: keep[name] for name in keep if name in names})))
        missing -= names
    if missing:
        raise UserError(f"net {proto.name}: has no layer {', '.join(sorted(missing))}, which is to be pruned; "
                        f"give the training net of the same network")
    return _slimmed(upgraded(proto), changes)


def slim_counts(channels: Channels) -> Dict[str, Dict[str, Any]]:
    """What changes in a prototxt: for each layer that does, ``num_output``, ``group`` or ``slice_point``."""
    changes: Dict[str, Dict[str, Any]] = {}
    for layer in channels.net.layers:
        if not channels.touches(layer):
            continue
        if layer.type in PRUNABLE_TYPES:
            mask = channels.removed(layer.outputs[0])
            change: Dict[str, Any] = {"num_output": layer.num_output if mask is None else int((~mask).sum())}
            if layer.type != "InnerProduct" and layer.parameters.group > 1:
                change["group"] = len(channels.groups(layer))
            changes[layer.name] = change
        elif layer.type == "Slice" and _slices_channels(channels.net, layer):
            counts = [len(channels.kept(value)) for value in layer.outputs]
            changes[layer.name] = {"slice_point": [int(edge) for edge in np.cumsum(counts)[:-1]]}
    return changes


def _slices_channels(net: NetGraph, layer: Layer) -> bool:
    return net.shape(layer.outputs[0])[1] != net.input_shape(layer)[1]


def _slimmed(proto: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
    slim = schema().NetParameter()
    slim.CopyFrom(proto)
    for layer in slim.layer:
        options = (layer.inner_product_param if layer.type == "InnerProduct" else
                   layer.slice_param if layer.type == "Slice" else layer.convolution_param)
        for field, content in changes.get(layer.name, {}).items():
            if field == "slice_point":
                options.slice_point[:] = content
            else:
                setattr(options, field, content)
        del layer.blobs[:]
    return slim


# -- the proof -------------------------------------------------------------------------------------------------

def verify(surgery: Surgery, seed: int = 0) -> float:
    """Run the masked and the slim net in real Caffe on the same random input and compare all their blobs.

    Not only the outputs are compared: a saturated softmax could hide a
    difference.  Where the slim net lacks channels, those of the masked net
    must be exactly zero.

    Parameters
    ----------
    surgery : from :func:`remove_features`.
    seed : of the normally distributed input.

    Returns
    -------
    The largest absolute difference in a blob, divided by the blob's largest
    absolute value; infinite where one of them is not finite.

    Raises
    ------
    UserError : Caffe is not installed, or a shape cannot be derived.
    """
    net, channels = surgery.net, surgery.channels
    masked = load_net(net.proto, surgery.masked_weights)
    slim = load_net(surgery.slim_proto, surgery.slim_weights)
    generator = np.random.default_rng(seed)
    for name in masked.inputs:
        data = generator.standard_normal(masked.blobs[name].data.shape)
        masked.blobs[name].data[...] = slim.blobs[name].data[...] = data
    masked.forward()
    slim.forward()
    # Of several values with one name (in-place layers) the last is what the blob holds.
    last = {value.blob: value for layer in net.layers for value in layer.outputs}
    differences = [0.0]
    for blob, value in last.items():
        full, small = masked.blobs[blob].data, slim.blobs[blob].data
        removed = channels.removed(value)
        if removed is not None:
            differences.append(np.inf if full[:, removed].any() else 0.0)
            full = full[:, ~removed]
        differences.append(_relative_difference(full, small))
    return float(max(differences))


def _relative_difference(full: np.ndarray, small: np.ndarray) -> float:
    if full.shape != small.shape or not (np.isfinite(full).all() and np.isfinite(small).all()):
        return np.inf
    difference, scale = np.abs(full - small).max(initial=0), np.abs(full).max(initial=0)
    return float(difference / scale) if difference else 0.0


def prove(surgery: Surgery, seed: int = 0) -> float:
    """:func:`verify`, and refuse a result above :data:`TOLERANCE`.

    Raises
    ------
    UserError : the two nets differ.
    """
    difference = verify(surgery, seed)
    if not difference <= TOLERANCE:
        raise UserError(f"net {surgery.net.name}: the masked and the slim net differ by {difference:.2g} of the "
                        f"largest value (allowed: {TOLERANCE:g}), so nothing was written; check the weights for huge "
                        f"or undefined values")
    return difference


# -- files -----------------------------------------------------------------------------------------------------

def write_files(directory: PathLike, surgery: Surgery, train_val: Optional[Any] = None) -> None:
    """Write both forms of a pruned net into an existing folder; see :func:`write_surgery`."""
    directory = Path(directory)
    net = surgery.net
    slim_train_val = None if train_val is None else _slim_training_net(surgery, train_val)
    counts = ", ".join(f"{name} {len(kept)} of {net.layer(name).num_output}" for name, kept in surgery.keep.items())
    write_net(directory / MASKED, net.proto, f"The net before surgery; {MASKED_WEIGHTS} holds zeros for the removed "
                                             f"features ({counts} kept).")
    write_weights(directory / MASKED_WEIGHTS, net, surgery.masked_weights)
    write_net(directory / DEPLOY, surgery.slim_proto, f"Features removed: {counts} kept.")
    write_weights(directory / SLIM_WEIGHTS, NetGraph(surgery.slim_proto), surgery.slim_weights)
    if slim_train_val is not None:
        write_net(directory / TRAIN_VAL, slim_train_val, f"Features removed: {counts} kept.")


def _slim_training_net(surgery: Surgery, train_val: Any) -> Any:
    for layer in upgraded(train_val).layer:
        if layer.name not in surgery.keep:
            continue
        deployed = surgery.net.layer(layer.name)
        options = layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param
        if layer.type != deployed.type or options.num_output != deployed.num_output:
            raise UserError(f"layer {layer.name} has {options.num_output} features in the training net and "
                            f"{deployed.num_output} in the deployed one; give the training net of the same network")
    shapes = {value.blob: shape for value, shape in surgery.net.inputs.items() if shape is not None}
    return slim_prototxt(train_val, surgery.keep, shapes)


def write_surgery(directory: PathLike, surgery: Surgery, train_val: Optional[Any] = None, *, force: bool = False,
                  seed: int = 0, where: Optional[PathLike] = None) -> float:
    """Prove that masked and slim net are one function, then write both into a new folder.

    ``masked.prototxt`` and ``masked.caffemodel`` have the original shapes;
    ``deploy.prototxt``, ``weights.caffemodel`` and, where ``train_val`` is
    given, ``train_val.prototxt`` are the slim net.

    Parameters
    ----------
    directory : the folder to be made, as a whole or not at all.
    surgery : from :func:`remove_features`.
    train_val : NetParameter of the training net with the same layer names.
    force : replace an existing folder.
    seed : of the proof's random input.
    where : path of the net's prototxt; if given, Caffe runs in a child process, and if it refuses the net, the
        message names this file.

    Returns
    -------
    The largest relative difference found by :func:`verify`.

    Raises
    ------
    UserError : the folder exists, the training net does not fit, or the two nets differ.
    """
    refuse_existing(directory, force)
    difference = prove(surgery, seed) if where is None else in_child(prove, surgery, seed, where=str(where))
    with atomic_directory(directory, force) as temporary:
        write_files(temporary, surgery, train_val)
    return difference


def open_deploy(path: PathLike) -> NetGraph:
    """Read a net to be operated on.

    Raises
    ------
    UserError : it is a training net, with data or loss layers, or a shape cannot be derived.
    """
    net = read_net(path)
    unwanted = [layer for layer in net.proto.layer if layer.type in (DATA_TYPES | LOSS_TYPES) - {"Input"}]
    if unwanted:
        raise UserError(f"{path}: has the {unwanted[0].type} layer {unwanted[0].name}, so it is a training net; "
                        f"give its deploy prototxt here (and this one as --train-val)")
    return net


def read_keep(path: PathLike) -> Dict[str, List[int]]:
    """Read ``{"layer": [feature, ...], ...}`` from a JSON file.

    Raises
    ------
    UserError : missing, not JSON, or not of that form.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f'{path}: must hold the features to keep of each layer, such as {{"c1": [0, 2]}}')
    return content


@click.command(context_settings=OPTIONS)
@click.argument("deploy", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--keep-file", required=True, type=click.Path(path_type=Path),
              help='JSON file with the features that stay, counted from 0: {"c1": [0, 2, 5], "fc4": [1, 3]}. '
                   'Layers not named keep all.')
@click.option("--train-val", type=click.Path(path_type=Path),
              help="Training net with the same layer names; its slim form is written too.")
@click.option("--seed", type=SEED, default=0, help="Seed of the random input of the proof.")
@click.option("--force", is_flag=True, help="Replace an existing OUT_DIR.")
def cli(deploy: Path, weights: Path, out_dir: Path, keep_file: Path, train_val: Optional[Path], seed: int,
        force: bool) -> None:
    """Remove features from any trained Caffe net: DEPLOY prototxt and WEIGHTS caffemodel to OUT_DIR.

    OUT_DIR gets masked.prototxt and masked.caffemodel (the original shapes,
    zeros for what is removed) and deploy.prototxt and weights.caffemodel (the
    slim net).  Both are run in Caffe on the same random input before anything
    is written, and the largest difference is printed.  What cannot be removed
    without changing the function is refused.

    \b
    Example:
      echo '{"c1": [0, 2, 5], "fc4": [1, 3, 4, 7]}' > keep.json
      python -m pycaffe_tools.surgery deploy.prototxt weights.caffemodel slim --keep-file keep.json
    """
    if any(out_dir.resolve() in path.resolve().parents for path in (deploy, weights)):
        raise UserError(f"{out_dir}: holds the net to be operated on; choose another folder")
    refuse_existing(out_dir, force, PRODUCTS)
    net = open_deploy(deploy)
    values = read_weights(weights)
    check_all_weights(net, values, str(weights))
    unknown = sorted(set(values) - {layer.name for layer in net.layers})
    if unknown:
        click.echo(f"left out, not in {deploy}: the weights of {', '.join(unknown)}", err=True)
    try:
        surgery = remove_features(net, values, read_keep(keep_file))
    except UserError as error:
        raise UserError(f"{keep_file}: {error}" if str(keep_file) not in str(error) else str(error)) from None
    training = None if train_val is None else read_prototxt(train_val)
    difference = write_surgery(out_dir, surgery, training, force=force, seed=seed, where=deploy)
    before, after = net.parameter_count(), NetGraph(surgery.slim_proto).parameter_count()
    click.echo(f"masked and slim net differ by at most {difference:.2g} of the largest value of a blob")
    click.echo(f"{before:,} to {after:,} parameters ({100 * (1 - after / before):.1f} % removed): {out_dir}")


if __name__ == "__main__":
    run(cli, "surgery")

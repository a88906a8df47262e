"""The files that surgery writes: masked and slim model, deploy and training net."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from ..base.errors import UserError
from ..base.files import PathLike, atomic_directory, refuse_existing
from ..nets.files.caffemodel import write_weights
from ..nets.files.schema import schema
from ..nets.files.upgrade import upgraded
from ..nets.layers import DATA_TYPES, LOSS_TYPES
from ..nets.netgraph import NetGraph, read_net, write_net
from ..nets.running.child import in_child
from .proof import prove
from .surgery import Surgery, slim_prototxt

MASKED, MASKED_WEIGHTS = "masked.prototxt", "masked.caffemodel"
DEPLOY, TRAIN_VAL, SLIM_WEIGHTS = "deploy.prototxt", "train_val.prototxt", "weights.caffemodel"
PRODUCTS = (MASKED, MASKED_WEIGHTS, DEPLOY, TRAIN_VAL, SLIM_WEIGHTS)
"""What :func:`write_files` writes, and ``--force`` replaces."""


def write_files(directory: PathLike, surgery: Surgery, train_val: Optional[Any] = None,
                name: Optional[str] = None) -> None:
    """Write both forms of a pruned net into an existing folder; see :func:`write_surgery`.

    ``name`` is the slim net's; the original one's by default.
    """
    directory = Path(directory)
    net = surgery.net
    slim_train_val = None if train_val is None else slim_training_net(surgery, train_val)
    counts = ", ".join(f"{name} {len(kept)} of {net.layer(name).num_output}" for name, kept in surgery.keep.items())
    write_net(directory / MASKED, net.proto, f"The net before surgery; {MASKED_WEIGHTS} holds zeros for the removed "
                                             f"features ({counts} kept).")
    write_weights(directory / MASKED_WEIGHTS, net, surgery.masked_weights)
    write_net(directory / DEPLOY, _named(surgery.slim_proto, name), f"Features removed: {counts} kept.")
    write_weights(directory / SLIM_WEIGHTS, NetGraph(surgery.slim_proto), surgery.slim_weights)
    if slim_train_val is not None:
        write_net(directory / TRAIN_VAL, _named(slim_train_val, name), f"Features removed: {counts} kept.")


def _named(proto: Any, name: Optional[str]) -> Any:
    if name is None:
        return proto
    named = schema().NetParameter()
    named.CopyFrom(proto)
    named.name = name
    return named


def slim_training_net(surgery: Surgery, train_val: Any) -> Any:
    """The training net of the same network with as many features as the slim one.

    Raises
    ------
    UserError : it is no training net, or one of another network.
    """
    if not any(layer.type in LOSS_TYPES - {"Accuracy"} for layer in upgraded(train_val).layer):
        raise UserError(f"net {train_val.name}: has no loss layer, so it is no training net; give the one with "
                        f"the loss, or leave out --train-val")
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
    for value in net.outputs:
        net.shape(value)
    return net

"""The command ``python -m pycaffe_tools.surgery``."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional

import click

from ..base.command import OPTIONS, SEED, run
from ..base.errors import UserError, naming
from ..base.files import PathLike, read_json, refuse_existing
from ..nets.files.caffemodel import read_weights
from ..nets.files.schema import read_prototxt
from ..nets.netgraph import NetGraph
from .blobs import check_all_weights
from .files import PRODUCTS, open_deploy, slim_training_net, write_surgery
from .surgery import remove_features


def read_keep(path: PathLike) -> Dict[str, List[int]]:
    """Read ``{"layer": [feature, ...], ...}`` from a JSON file.

    Raises
    ------
    UserError : missing, not JSON, or not of that form.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f'{path}: must hold the features to keep of each layer, such as {{"c1": [0, 2]}}')
    return {str(layer): features for layer, features in content.items()}


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
    with naming(deploy):
        check_all_weights(net, values, str(weights))
    unknown = sorted(set(values) - {layer.name for layer in net.layers})
    if unknown:
        click.echo(f"left out, not in {deploy}: the weights of {', '.join(unknown)}", err=True)
    with naming(keep_file):
        surgery = remove_features(net, values, read_keep(keep_file))
    training = None
    if train_val is not None:
        with naming(train_val):
            training = read_prototxt(train_val)
            slim_training_net(surgery, training)        # before the proof, which takes its time
    with naming(deploy):
        difference = write_surgery(out_dir, surgery, training, force=force, seed=seed, where=deploy)
    before, after = net.parameter_count(), NetGraph(surgery.slim_proto).parameter_count()
    click.echo(f"masked and slim net differ by at most {difference:.2g} of the largest value of a blob")
    click.echo(f"{before:,} to {after:,} parameters ({100 * (1 - after / before):.1f} % removed): {out_dir}")


if __name__ == "__main__":
    run(cli, "surgery")

"""Trained models for other people: taken from a reproduction's store, each with a card that says what it is good for.

N, N6 and N7 of the first seed become ``data/models/vnc-N`` and so on
(``deploy.prototxt``, ``weights.caffemodel``, ``model.json``); their cards,
``README.md``, are written from the logs.  A model whose files are not those
that the logs name is refused.
"""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..base.errors import UserError
from ..base.files import PathLike, atomic_directory, sha256, write_text
from ..nets.model import DEPLOY, INFO, WEIGHTS
from ..reproduce.store import store_folder
from .results import Results
from .tables import with_interval

NETWORKS = ("N", "N6", "N7")
MODELS = Path("data") / "models"
FILES = (DEPLOY, WEIGHTS, INFO)
CARD = "README.md"


def publish(results: Results, store: PathLike, folder: PathLike) -> List[Path]:
    """Copy the models of the first seed out of a store, and write their cards; each folder is whole or not there.

    Parameters
    ----------
    store : folder of the runs, as ``reproduce --runs``.
    folder : gets a model directory for each network; those of the same names are replaced.

    Raises
    ------
    UserError : a run is not done, or its files are not those of the logs; nothing is copied then.  Or the terms of the images
        are not established.
    """
    if not results.plan["data_set"]["licence"]:
        raise UserError(f"{results.folder}: the terms of its images are not established, so its models are not passed on; name a "
                        f"data set with a licence")
    where = store_folder(store, results.plan["data_set"]["name"], results.plan["scale"]["name"])
    sources = {network: where / _node(results, network)["name"] for network in NETWORKS}
    for network, source in sources.items():
        _compare(results, network, source)
    made = []
    for network, source in sources.items():
        target = Path(folder) / _name(results, network)
        with atomic_directory(target, force=True, replaced=(*FILES, CARD)) as temporary:
            for name in FILES:
                shutil.copyfile(source / name, temporary / name)
            write_text(temporary / CARD, card(results, network))
        made.append(target)
    return made


def write_cards(results: Results, folder: PathLike) -> List[Path]:
    """Write the card of each model of the data set that is in a folder.

    Raises
    ------
    UserError : a model there is not the one of the logs.
    """
    made = []
    for network in NETWORKS:
        model = Path(folder) / _name(results, network)
        if model.is_dir():
            _compare(results, network, model)
            write_text(model / CARD, card(results, network))
            made.append(model / CARD)
    return made


def card(results: Results, network: str) -> str:
    """The model card in Markdown, from the logs alone."""
    node, data = _node(results, network), results.plan["data_set"]
    database = results.nodes[f"data-{node['data']}"]
    made, patches = node["result"], database["result"]
    counts = ", ".join(f"{layer} {count}" for layer, count in made["counts"].items())
    seeds = results.accuracies(network, None if network == "N" else "loss")
    darkness, scratch = results.darkness(), results.accuracies(network, "scratch")
    more = {seed: value - darkness[seed] for seed, value in seeds.items() if seed in darkness}
    how = (f"trained from random weights for {node['iterations']:,} iterations of 128 patches" if network == "N" else
           f"pruned from N by training loss as in the paper, and retrained for {node['iterations']:,} iterations of 128 patches")
    pixel = "x".join(f"{size:g}" for size in patches["pixel_size_nm"]) if patches["pixel_size_nm"] else None
    name = _name(results, network)
    lines = [
        f"# {name}: membranes in {data['title']}",
        "",
        "```",
        f"python -m pycaffe_tools.segment raw.tif -o p.tif --model {MODELS.as_posix()}/{name}",
        "```",
        "",
        *_wrapped(f"Network {network} of Roels et al., ISBI 2017 (features: {counts}; {made['parameters']:,} parameters, "
                  f"{made['multiply_accumulates']:,} multiply-accumulates a patch), {how}. It gives the probability that a pixel is "
                  f"membrane, and `model.json` the threshold."),
        "",
        "| | |",
        "|---|---|",
        f"| classes | {database['definition']} |",
        f"| images | {data['title']}" + (f", pixels of {pixel} nm (z, y, x)" if pixel else "") + ", 8 bits, membranes dark |",
        f"| trained on | {patches['train']['patches']:,} patches of 32x32 pixels, half of them membrane; seed {node['seed']} |",
        f"| split | {database['split']}; the sections between are in neither |",
        f"| accuracy | {100 * made['validation']['accuracy']:.2f} % of {made['validation']['patches']:,} held-out patches, half of "
        f"them membrane, at threshold {made['threshold']:.3f} |",
        f"| over {len(seeds)} seeds | {with_interval(seeds)} % (mean and 95 % interval; each holds out sections of its own); this "
        f"is the first seed, not the best |",
        f"| grey values alone | {with_interval(darkness)} %; the network has {with_interval(more)} points more |",
        *([f"| the same counts, never pruned | {with_interval(scratch)} % from random weights, over the same seeds |"]
          if network != "N" and scratch else []),
        *_on_slices(results, node["name"]),
        "",
        "## Limits",
        "",
        *_wrapped(f"It has seen one animal and one microscope: {patches['train']['slices']} sections. On other tissue, staining, "
                  f"pixel size or contrast expect less, and look at the maps before you count anything. It sees 32x32 pixels and no "
                  f"other section. Trained for {results.plan['scale']['train_iterations']:,} iterations to compare networks with each "
                  f"other, not to be the best there is: a longer training gains more, and training on your own labels gains most. "
                  f"Probabilities are those of balanced classes; `segment --calibrated` maps them to the volume's own share of "
                  f"membrane."),
        "",
        "## Terms",
        "",
        *_wrapped(f"{data['citation'].rstrip('.')}. The model was trained on these images and is passed on under their terms: "
                  f"{data['licence']}."),
        "",
        *_wrapped(f"Made by code at commit {node['code']['commit'][:12]} with Caffe {made['versions']['caffe']}; the logs are in "
                  f"`{(Path('results') / results.folder.name).as_posix()}`."),
    ]
    return "\n".join(lines) + "\n"


def _on_slices(results: Results, run_name: str) -> List[str]:
    scores = results.scores(run_name)
    if not scores:
        return []
    best = scores["at_threshold"]
    return [f"| whole held-out sections | {len(scores['slices'])} sections, {100 * scores['positive_fraction']:.0f} % membrane: area "
            f"under the ROC curve {scores['auc']:.3f}; at threshold {best['threshold']:.3f} precision {best['precision']:.3f}, recall "
            f"{best['recall']:.3f} |"]


def _wrapped(text: str) -> List[str]:
    return textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)


def _name(results: Results, network: str) -> str:
    return f"{results.plan['data_set']['name']}-{network}"


def _node(results: Results, network: str) -> Dict[str, Any]:
    node: Optional[Dict[str, Any]] = results.first(network)
    if node is None:
        raise UserError(f"{results.folder}: has no trained {network}; let the reproduction go on")
    return node


def _compare(results: Results, network: str, model: Path) -> None:
    """Refuse a model directory whose files are not those that the logs name."""
    for name, digest in _node(results, network)["result"]["files"].items():
        if not (model / name).is_file():
            raise UserError(f"{model / name}: is missing; take it from the store of the runs (--runs)")
        if sha256(model / name) != digest:
            raise UserError(f"{model / name}: is not the one that {results.logs} tells of; take it from the store again (--runs)")

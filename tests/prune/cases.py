"""A small trained-looking network, for all tests of pruning."""

from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.caffemodel import write_weights
from pycaffe_tools.nets.model import finish_model
from pycaffe_tools.nets.netgraph import read_net
from pycaffe_tools.nets.running.runtime import random_weights

COUNTS = {"c1": 6, "c2": 5, "c3": 4, "fc4": 5}


def small_model(folder, database):
    """A model of the paper's architecture with few features and random weights."""
    folder.mkdir()
    (folder / "deploy.prototxt").write_text(paper.deploy_prototxt(COUNTS, "small"))
    (folder / "train_val.prototxt").write_text(paper.train_val_prototxt(COUNTS, "small"))
    net = read_net(folder / "deploy.prototxt")
    write_weights(folder / "weights.caffemodel", net, random_weights(net, seed=3))
    return finish_model(folder, name="small", normalisation=database.normalisation._asdict(), patch_size=32,
                        pixel_size_nm=[5, 5, 5], counts=COUNTS, threshold=0.5, validation={"accuracy": 0.5},
                        provenance={})


def trained_model(folder, database):
    """The same after a short training, which is worth something."""
    import pycaffe_tools
    raw = small_model(folder.with_name("raw"), database)
    made = pycaffe_tools.train(str(raw.directory), database.directory, folder, max_iter=300, base_lr=0.01, tests=1)
    assert made.validation_accuracy > 0.7
    return made

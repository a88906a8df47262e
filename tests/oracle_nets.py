"""Small nets for the tests of oracles, orderings and criteria."""

import numpy as np

from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.nets.paper import deploy_prototxt
from pycaffe_tools.nets.running.runtime import random_weights
from pycaffe_tools.oracle.oracle import PruningProblem

SMALL_COUNTS = {"c1": 9, "c2": 7, "c3": 6, "fc4": 11}

LENET = """
name: "lenet" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 20 dim: 20 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 6 kernel_size: 5 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "p2" type: "Pooling" bottom: "c2" top: "p2" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "p2" top: "ip1" inner_product_param { num_output: 10 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }
"""

# Every option that the incremental evaluation understands: padding, stride, dilation, groups, no bias, leaky ReLU in a
# blob of its own, average pooling over clipped and padded windows, Dropout, Flatten, global pooling.
VARIED = """
name: "varied" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 17 dim: 21 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 5 pad: 2 bias_term: false } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "r1" relu_param { negative_slope: 0.1 } }
layer { name: "p1" type: "Pooling" bottom: "r1" top: "p1" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2"
  convolution_param { num_output: 8 kernel_size: 3 group: 2 pad: 2 dilation: 2 } }
layer { name: "p2" type: "Pooling" bottom: "c2" top: "p2" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "r2" type: "ReLU" bottom: "p2" top: "p2" }
layer { name: "d2" type: "Dropout" bottom: "p2" top: "p2" }
layer { name: "c3" type: "Convolution" bottom: "p2" top: "c3"
  convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 2 pad: 1 } }
layer { name: "r3" type: "ReLU" bottom: "c3" top: "c3" relu_param { negative_slope: 0.2 } }
layer { name: "c4" type: "Convolution" bottom: "c3" top: "c4" convolution_param { num_output: 5 kernel_size: 2 } }
layer { name: "r4" type: "ReLU" bottom: "c4" top: "c4" }
layer { name: "flat" type: "Flatten" bottom: "c4" top: "flat" }
layer { name: "ip1" type: "InnerProduct" bottom: "flat" top: "ip1"
  inner_product_param { num_output: 4 bias_term: false } }
"""

# Maps much wider than the kernels.
WIDE = """
name: "wide" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 18 dim: 24 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 5 kernel_size: 3 stride: 2 } }
layer { name: "r2" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "c3" type: "Convolution" bottom: "c2" top: "c3"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 dilation: 2 } }
layer { name: "r3" type: "ReLU" bottom: "c3" top: "c3" }
layer { name: "p2" type: "Pooling" bottom: "c3" top: "p2" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "p3" type: "Pooling" bottom: "p2" top: "p3" pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip1" type: "InnerProduct" bottom: "p3" top: "ip1" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }
"""

PATCHES = 50


def graph(name):
    """One of the nets by name; ``small`` has N's layers with few features, ``small_40`` is the same for patches of 40 x 40."""
    text = {"lenet": LENET, "varied": VARIED, "wide": WIDE,
            **{f"small{ending}": deploy_prototxt(SMALL_COUNTS, "small", size)
               for ending, size in (("", 32), ("_40", 40), ("_48", 48))}}.get(name, name)
    return NetGraph(parse_prototxt(text))


def pruning_problem(name, layer, seed=0, patches=PATCHES, weights=None):
    """A pruning problem on random weights and patches; patches of different classes have different brightness and contrast."""
    net = graph(name)
    generator = np.random.default_rng(seed)
    if weights is None:
        weights = random_weights(net, seed, scale=0.7)
    classes = net.shape(net.outputs[0])[1]
    labels = generator.integers(0, classes, patches)
    shape = (patches,) + net.input_shape(net.layers[0])[1:]
    data = generator.standard_normal(shape) * (0.6 + 0.4 * labels[:, None, None, None])
    data += 0.5 * labels[:, None, None, None]
    return PruningProblem(net, weights, layer, data.astype(np.float32), labels)


def trained_weights(net, data, labels, iterations=35):
    """Weights after a short real training in Caffe on the given patches, the first batch of them in every iteration."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import caffe

    from pycaffe_tools.nets.files.schema import to_text
    proto = net.with_batch(len(data))
    del proto.layer[-1]
    proto.layer.add(name="label", type="Input", top=["label"]).input_param.shape.add(dim=[len(data)])
    proto.layer.add(name="loss", type="SoftmaxWithLoss", bottom=[proto.layer[-2].top[0], "label"], top=["loss"])
    for layer in proto.layer:
        for options in (layer.convolution_param, layer.inner_product_param):
            if options.num_output:
                options.weight_filler.type = "xavier"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text(to_text(proto))
        solver = Path(folder) / "solver.prototxt"
        solver.write_text(f'net: "{path}" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001 '
                          f'random_seed: 3 snapshot_after_train: false solver_mode: CPU')
        trainer = caffe.SGDSolver(str(solver))
    for _ in range(iterations):
        trainer.net.blobs["data"].data[...] = data
        trainer.net.blobs["label"].data[...] = labels
        trainer.step(1)
    return {name: [np.array(blob.data) for blob in blobs] for name, blobs in trainer.net.params.items()}

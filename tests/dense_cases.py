"""Nets for the tests of dense evaluation, and their evaluation patch by patch and step by step in float64 numpy."""

import numpy as np

from pycaffe_tools.dense_plan.kernels import kernels
from pycaffe_tools.dense_plan.steps import Combine, Convolve, Pool, Rectify
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.schema import parse_prototxt, schema
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.nets.running.runtime import random_weights

TOLERANCE = 1e-5
"""Largest difference of probabilities that the engines promise."""

LENET_LIKE = """
name: "lenet_like"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 6 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param { num_output: 9 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param { num_output: 20 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }
"""


LATE_CLIPS = """
name: "late_clips"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 21 dim: 21 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 4 kernel_size: 4 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "p2" type: "Pooling" bottom: "p1" top: "p2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p2" top: "c2" convolution_param { num_output: 5 kernel_size: 2 } }
layer { name: "p3" type: "Pooling" bottom: "c2" top: "p3" pooling_param { kernel_size: 3 stride: 2 pool: AVE } }
layer { name: "fc" type: "InnerProduct" bottom: "p3" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
"""The first pooling has whole windows, those after it, whose elements lie apart, clipped ones."""


def graph_of(text):
    return NetGraph(parse_prototxt(text, "a test"))


def paper_net(name, divided_by=1, patch_size=paper.PATCH_SIZE):
    """N or N7 with all counts divided, so that tests are quick."""
    counts = {layer: max(2, count // divided_by) for layer, count in paper.TABLE_1[name].items()}
    return graph_of(paper.deploy_prototxt(counts, name, patch_size))


def lively_weights(graph, seed=0):
    """Random weights for which the probabilities of noise are spread out, so that differences show."""
    last = [layer for layer in graph.chain() if layer.is_parametric][-1]
    shape = next(iter(graph.inputs.values()))
    patches = np.random.default_rng(seed).standard_normal((24,) + shape[1:])
    for attempt in range(100):
        weights = random_weights(graph, 1000 * seed + attempt)
        scores = patchwise(graph, weights, patches, last.name)
        if scores.std(0).min() > 0.05:          # else most ReLUs are dead
            break
    weights[last.name][0] *= np.float32(1.5 / scores.std(0).mean())
    if last.bias_term:
        weights[last.name][1] -= patchwise(graph, weights, patches, last.name).mean(0).astype(np.float32)
    return weights


def patchwise(graph, weights, patches, stop=None):
    """Each patch by itself through the net in float64, written from Caffe's rules without the code under test.

    patches: count x channels x rows x columns; returns count x outputs (of the layer called ``stop``, if given).
    """
    x = np.asarray(patches, float)
    for layer in graph.chain():
        if layer.type == "Convolution":
            x = _convolved(x, layer, weights[layer.name])
        elif layer.type == "InnerProduct":
            blobs = weights[layer.name]
            x = x.reshape(len(x), -1) @ np.asarray(blobs[0], float).T + (blobs[1] if layer.bias_term else 0)
        elif layer.type == "ReLU":
            x = np.maximum(x, 0)
        elif layer.type == "Pooling":
            x = _pooled(x, layer)
        elif layer.type == "Softmax":
            x = np.exp(x - x.max(1, keepdims=True))
            x /= x.sum(1, keepdims=True)
        if layer.name == stop:
            break
    return x.reshape(len(x), -1)


def _convolved(x, layer, blobs):
    geometry, weight = layer.geometry, np.asarray(blobs[0], float)
    rows = x.shape[2] - geometry.dilation[0] * (geometry.kernel[0] - 1)
    columns = x.shape[3] - geometry.dilation[1] * (geometry.kernel[1] - 1)
    outputs, inputs = weight.shape[0] // geometry.group, weight.shape[1]
    result = np.zeros((len(x), weight.shape[0], rows, columns))
    for group in range(geometry.group):
        here, there = slice(group * outputs, (group + 1) * outputs), slice(group * inputs, (group + 1) * inputs)
        for i in range(geometry.kernel[0]):
            for j in range(geometry.kernel[1]):
                top, left = i * geometry.dilation[0], j * geometry.dilation[1]
                result[:, here] += np.einsum("oc,ncyx->noyx", weight[here, :, i, j],
                                             x[:, there, top:top + rows, left:left + columns])
    return result + (np.asarray(blobs[1], float)[:, None, None] if layer.bias_term else 0)


def _pooled(x, layer):
    (kernel_rows, kernel_columns), (down, across) = layer.geometry.kernel, layer.geometry.stride
    rounded = np.floor if "round_mode: FLOOR" in str(layer.proto) else np.ceil
    windows_down = int(rounded((x.shape[2] - kernel_rows) / down)) + 1
    windows_across = int(rounded((x.shape[3] - kernel_columns) / across)) + 1
    result = np.empty(x.shape[:2] + (windows_down, windows_across))
    for i in range(windows_down):
        for j in range(windows_across):
            window = x[:, :, i * down:i * down + kernel_rows, j * across:j * across + kernel_columns]
            result[:, :, i, j] = window.max((2, 3)) if layer.pool == "MAX" else window.mean((2, 3))
    return result


def all_patches(image, rows, columns):
    """Every patch of an image of channels x h x w, in reading order: count x channels x rows x columns."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (rows, columns), axis=(1, 2))
    return windows.transpose(1, 2, 0, 3, 4).reshape(-1, image.shape[0], rows, columns)


def reference(graph, weights, image):
    """Probabilities of every patch of an image (channels x h x w) in float64: outputs x patches down x across."""
    shape = next(iter(graph.inputs.values()))
    down, across = image.shape[1] - shape[2] + 1, image.shape[2] - shape[3] + 1
    return patchwise(graph, weights, all_patches(image, *shape[2:])).T.reshape(-1, down, across)


# -- the plan, interpreted -------------------------------------------------------------------------------------

def interpret(plan, graph, weights, image):
    """Run the steps of a plan literally, in float64; reading outside a map is an error.

    image: channels x (h + n - 1) x (w + n - 1); returns outputs x h x w.
    """
    tile = tuple(image.shape[1 + axis] - plan.input.reach[axis] for axis in (0, 1))
    layer_kernels = kernels(graph, weights)
    arrays = {plan.input.name: np.asarray(image, float)}

    def positions(each, offset=(0, 0), more=(0, 0)):
        """First position, and the one after the last, that an output map needs of a source, along both axes."""
        return [(each.start[axis] + offset[axis], tile[axis] + each.reach[axis] + offset[axis] + more[axis])
                for axis in (0, 1)]

    def read(source, spans):
        (top, bottom), (left, right) = ((first - source.start[axis], stop - source.start[axis])
                                        for axis, (first, stop) in enumerate(spans))
        array = arrays[source.name]
        assert 0 <= top and 0 <= left and bottom <= array.shape[1] and right <= array.shape[2], (source, spans)
        return array[:, top:bottom, left:right]

    for step in plan.steps:
        if isinstance(step, Convolve):
            kernel, bias = layer_kernels[step.layer]
            total = 0.0
            for i in range(*step.rows):
                for j in range(*step.columns):
                    taken = read(step.source, positions(step.out, (i * step.spacing[0], j * step.spacing[1])))
                    total = total + np.einsum("oc,cyx->oyx", kernel[:, :, i, j].astype(float), taken)
            arrays[step.out.name] = total + (bias.astype(float)[:, None, None] if step.bias else 0)
        elif isinstance(step, Pool):
            arrays[step.out.name] = _pool_step(step, arrays[step.source.name], tile)
        elif isinstance(step, Combine):
            terms = [operand.coefficient * read(operand.source, positions(step.out, operand.offset))
                     for operand in step.operands]
            arrays[step.out.name] = np.maximum.reduce(terms) if step.kind == "MAX" else sum(terms)
        elif isinstance(step, Rectify):
            arrays[step.out.name] = np.maximum(arrays[step.source.name], 0)
        else:
            powers = np.exp(arrays[step.source.name] - arrays[step.source.name].max(0))
            arrays[step.out.name] = powers / powers.sum(0)
        assert arrays[step.out.name].shape == (step.out.channels,) + tuple(
            tile[axis] + step.out.reach[axis] - step.out.start[axis] for axis in (0, 1)), step
    return arrays[plan.output.name]


def _pool_step(step, array, tile):
    size = [tile[axis] + step.out.reach[axis] - step.out.start[axis] for axis in (0, 1)]
    needed = [size[axis] + step.spacing[axis] * (step.window[axis] - 1) for axis in (0, 1)]
    ends = [(0, max(0, needed[axis] - array.shape[1 + axis])) for axis in (0, 1)]
    array = np.pad(array, [(0, 0)] + ends, constant_values=-np.inf if step.kind == "MAX" else 0)
    taps = [array[:, i * step.spacing[0]:i * step.spacing[0] + size[0], j * step.spacing[1]:j * step.spacing[1] + size[1]]
            for i in range(step.window[0]) for j in range(step.window[1])]
    return step.scale * (np.maximum.reduce(taps) if step.kind == "MAX" else sum(taps))


# -- nets drawn at random --------------------------------------------------------------------------------------

HAS_ROUND_MODE = "round_mode" in schema().PoolingParameter.DESCRIPTOR.fields_by_name
"""Whether this Caffe knows pooling that rounds down (Debian's does, 1.0 does not)."""


def random_net(seed, rounded_down=False):
    """A chain of one to three stages with windows drawn at random; about half have clipped pooling windows.

    rounded_down: some poolings have ``round_mode: FLOOR``, and ignore rows or columns at the end.
    """
    generator = np.random.default_rng(seed)
    while True:
        text = _draw(generator, rounded_down)
        if text is not None:
            return graph_of(text)


def _draw(generator, rounded_down=False):
    side = int(generator.integers(11, 27))
    size = [side, side]
    layers = ['name: "drawn"',
              f'layer {{ name: "data" type: "Input" top: "data" '
              f'input_param {{ shape {{ dim: 1 dim: 1 dim: {side} dim: {side} }} }} }}']
    bottom, channels = "data", 1

    def layer(name, kind, rest=""):
        nonlocal bottom
        layers.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {rest} }}')
        bottom = name

    def pair(low, high):
        first = int(generator.integers(low, high + 1))
        return first, first if generator.random() < 0.6 else int(generator.integers(low, high + 1))

    for stage in range(int(generator.integers(1, 4))):
        for number in range(1 + (generator.random() < 0.3)):
            kernel, dilation = pair(1, 4), 2 if generator.random() < 0.15 else 1
            group = 2 if channels % 2 == 0 and generator.random() < 0.3 else 1
            outputs = int(generator.integers(2, 4)) * group
            size = [each - dilation * (k - 1) for each, k in zip(size, kernel)]
            layer(f"conv{stage}{number}", "Convolution",
                  f"convolution_param {{ num_output: {outputs} kernel_h: {kernel[0]} kernel_w: {kernel[1]} group: {group} "
                  f"dilation: {dilation} bias_term: {'true' if generator.random() < 0.8 else 'false'} }}")
            channels = outputs
            if generator.random() < 0.7:
                layer(f"relu{stage}{number}", "ReLU")
        if generator.random() < 0.85:
            window = pair(1, 4)
            stride = [int(generator.integers(1, each + 1)) for each in window]
            down = rounded_down and generator.random() < 0.7
            size = [int((np.floor if down else np.ceil)((each - k) / s)) + 1 for each, k, s in zip(size, window, stride)]
            layer(f"pool{stage}", "Pooling",
                  f"pooling_param {{ kernel_h: {window[0]} kernel_w: {window[1]} stride_h: {stride[0]} "
                  f"stride_w: {stride[1]} pool: {'MAX' if generator.random() < 0.7 else 'AVE'}"
                  f"{' round_mode: FLOOR' if down else ''} }}")
        if min(size) < 1:
            return None
    if generator.random() < 0.5:
        layer("hidden", "InnerProduct", "inner_product_param { num_output: 6 }")
    else:
        layer("hidden", "Convolution",
              f"convolution_param {{ num_output: 6 kernel_h: {size[0]} kernel_w: {size[1]} }}")
    layer("relu", "ReLU")
    layer("score", "InnerProduct", "inner_product_param { num_output: 2 }")
    layer("prob", "Softmax")
    return "\n".join(layers) if max(size) <= 9 else None


def has_clipped_windows(graph):
    """Whether any pooling's last window is cut off by its input's border."""
    for layer in graph.chain():
        if layer.type == "Pooling":
            for axis in (0, 1):
                length = graph.input_shape(layer)[2 + axis]
                windows = graph.output_shape(layer)[2 + axis]
                if (windows - 1) * layer.geometry.stride[axis] + layer.geometry.kernel[axis] > length:
                    return True
    return False

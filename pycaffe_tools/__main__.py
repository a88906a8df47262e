"""``python -m pycaffe_tools`` says which commands there are."""

from __future__ import annotations

import click

from .base.command import OPTIONS, run

COMMANDS = {
    "synth": "draw a synthetic volume with labels",
    "datasets": "public data sets: terms, download, stacks",
    "patches": "make a patch database of a stack and its labels",
    "train": "train or retrain a network with Caffe",
    "ordering": "order a layer's features by what discarding them costs",
    "prune": "discard features down to a network of Table 1, or to a budget",
    "surgery": "remove given features from any Caffe net",
    "segment": "probability of membrane at every pixel of a stack",
    "evaluate": "compare a probability map with labels",
    "plots": "Figures 3 and 4, and a picture of each step",
    "dense": "write the exact dense net for Caffe",
    "export": "write ONNX, or a bioimage.io package",
    "reproduce": "run the reproduction of the paper",
    "report": "write its report from the logs",
    "networks": "write prototxt/ and solvers/ from Table 1",
    "darkness": "score the baseline \"dark is membrane\"",
    "correctness": "which validation patches a model classifies right",
    "timing": "time a slice patch by patch and dense",
    "bench_pruning": "compare the fast ordering with plain ones",
    "bench_train": "compare the kernels that Caffe can train with",
    "bench_segment": "compare the engines of segmentation",
}
"""Modules with a command line, in the order of work, and what each is for."""


@click.command(context_settings=OPTIONS)
def cli() -> None:
    """Say which commands there are; each explains itself with --help."""
    click.echo("python -m pycaffe_tools.COMMAND --help, where COMMAND is one of\n")
    click.echo("\n".join(f"  {name:15}{purpose}" for name, purpose in COMMANDS.items()))


if __name__ == "__main__":
    run(cli, "__main__")

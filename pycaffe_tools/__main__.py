"""All commands under one name: ``pycaffe-tools COMMAND``, or ``python -m pycaffe_tools COMMAND``."""

from __future__ import annotations

import importlib
import sys
from typing import List, NoReturn, Optional

import click
from click.shell_completion import CompletionItem

from . import __version__
from .base.command import OPTIONS, main
from .base.files import PACKAGE_ROOT

COMMANDS = {
    "synth": "draw a synthetic volume with labels",
    "datasets": "public data sets: terms, download, stacks",
    "patches": "make a patch database of a stack and its labels",
    "train": "train or retrain a network with Caffe",
    "ordering": "order a layer's features by what discarding them costs",
    "prune": "discard features down to a network of Table 1, or to a budget",
    "surgery": "remove given features from any Caffe net",
    "calibrate": "fit how probabilities become those of a volume",
    "segment": "probability of membrane at every pixel of a stack",
    "watch": "the same, slice by slice, while the microscope writes them",
    "evaluate": "compare a probability map with labels",
    "plots": "Figures 3 and 4, and a picture of each step",
    "dense": "write the exact dense net for Caffe",
    "export": "write ONNX, or a bioimage.io package",
    "reproduce": "run the reproduction of the paper",
    "report": "write its report from the logs",
    "cards": "copy its models for other people, with model cards",
    "networks": "write prototxt/ and solvers/ from Table 1",
    "darkness": "score the baseline \"dark is membrane\"",
    "correctness": "which validation patches a model classifies right",
    "timing": "time a slice patch by patch and dense",
    "bench_pruning": "compare the fast ordering with plain ones",
    "bench_train": "compare the kernels that Caffe can train with",
    "bench_segment": "compare the engines of segmentation",
    "bench_scale": "what a segmentation of 10 to 10,000 slices costs beside the network",
}
"""Modules with a command line, in the order of work, and what each is for."""


class _Commands(click.Group):
    """The commands by name, each imported when it is run, since some need packages that others do without."""

    def list_commands(self, ctx: click.Context) -> List[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        name = f"{__package__}.{cmd_name}"
        is_folder = (PACKAGE_ROOT / cmd_name).is_dir()
        command: click.Command = importlib.import_module(f"{name}.__main__" if is_folder else name).cli
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of work"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> List[CompletionItem]:
        """What can follow; the commands' purposes come from the list, so that none is imported for it."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=purpose) for name, purpose in COMMANDS.items() if name.startswith(incomplete)]


@click.group(cls=_Commands, invoke_without_command=True, context_settings=OPTIONS)
@click.version_option(__version__, prog_name="pycaffe-tools")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Membrane segmentation in electron micrographs with pruned Caffe networks.

    Each command explains itself with --help. `pycaffe-tools COMMAND` and
    `python -m pycaffe_tools.COMMAND` are the same.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def command_line() -> NoReturn:
    """The program ``pycaffe-tools``."""
    sys.exit(main(cli, "", prog_name="pycaffe-tools"))


if __name__ == "__main__":
    sys.exit(main(cli, "", prog_name="python -m pycaffe_tools"))

"""The command ``python -m pycaffe_tools.export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import click

from ..base.command import OPTIONS, run
from .onnx_net import export


def _describe(made: Any) -> List[str]:
    def text(value: Any) -> str:
        axes = [str(each.dim_param or each.dim_value) for each in value.type.tensor_type.shape.dim]
        return f"{value.name}: {' x '.join(axes)}"

    return [f"input  {text(made.graph.input[0])}", f"output {text(made.graph.output[0])}"]


@click.command(context_settings=OPTIONS)
@click.argument("model_dir", type=click.Path(file_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False),
              help="File to write: .onnx, or .zip with --bioimageio.")
@click.option("--dense", is_flag=True, help="The exact dense net for images of any size, instead of the patch net.")
@click.option("--bioimageio", is_flag=True,
              help="A bioimage.io model package: the dense net with its description, preprocessing and test tensors.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def cli(model_dir: str, out: str, dense: bool, bioimageio: bool, force: bool) -> None:
    """Write the network of MODEL_DIR as ONNX.

    \b
        python -m pycaffe_tools.export runs/N7 -o N7.onnx            batch x 1 x 32 x 32 -> batch x 2
        python -m pycaffe_tools.export runs/N7 -o N7.onnx --dense    1 x 1 x (h+31) x (w+31) -> 1 x 1 x h x w
        python -m pycaffe_tools.export runs/N7 -o N7.zip --bioimageio

    The input is (grey - mean) / std with the model's mean and std, which stand in the file's metadata. The dense net
    gives the patch net's probability of membrane at every pixel that has 16 pixels before and 15 after it
    (for patches of 32 x 32). The
    bioimage.io package takes raw grey values and gives an image of the same size.
    """
    if bioimageio:
        from .bioimageio import export_package
        result = export_package(model_dir, out, force)
    else:
        result = export(model_dir, out, dense, force)
    click.echo(result.sentence())
    if not bioimageio:
        import onnx
        for line in _describe(onnx.load(str(Path(out)))):
            click.echo(line)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    run(cli, "export")

"""Small valid inputs of every kind, and the commands that read them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

COUNTS = {"c1": 4, "c2": 3, "c3": 3, "fc4": 5}
PRUNED = "c1=2,c2=2,c3=2,fc4=3"


class Case(NamedTuple):
    """A command on a copy of the corpus, of which one file is damaged.

    Attributes
    ----------
    kind : row of the table of outcomes.
    targets : files that may be damaged, relative to the corpus.
    argv : command and its arguments; paths are relative to the corpus.
    outputs : what the command may leave; nothing of it may be there after a refusal, where ``keeps`` does not say so.
    keeps : whether outputs of an earlier run are part of the input.
    """

    kind: str
    targets: Tuple[str, ...]
    argv: Tuple[str, ...]
    outputs: Tuple[str, ...] = ()
    keeps: bool = False


def build(folder: Path) -> None:
    """Make the corpus with the product itself: a volume, patches, a trained net, its orderings and segmentations."""
    import h5py
    import tifffile

    from pycaffe_tools.datasets.scene import write_synthetic
    from pycaffe_tools.nets.model import open_model
    from pycaffe_tools.patches.making import make_database
    from pycaffe_tools.patches.sources import LabelledStack

    folder.mkdir(parents=True, exist_ok=True)
    write_synthetic(folder / "synth", slices=3, size=72, seed=0)
    for name in ("raw", "membranes"):
        image = tifffile.imread(folder / "synth" / f"{name}.tif")[:, :56, :64]
        tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack", metadata={"axes": "ZYX"})
        tifffile.imwrite(folder / f"{name}_packed.tif", image, photometric="minisblack", compression="zlib", tile=(32, 32))
        with h5py.File(folder / f"{name}.h5", "w") as handle:
            handle["volume"] = image
        (folder / name).mkdir()
        for z, page in enumerate(image):
            tifffile.imwrite(folder / name / f"s{z:02d}.tif", page, photometric="minisblack")
    shutil.rmtree(folder / "synth")
    stack = LabelledStack(str(folder / "raw.tif"), str(folder / "membranes.tif"), val_slices="2")
    make_database([stack], folder / "patches", "membrane", train=64, val=32, shard_patches=40)
    run(["train", "N7", "--data", str(folder / "patches"), "--out", str(folder / "N7"), "--max-iter", "2", "--tests", "1"])
    sample = ["--data", str(folder / "patches"), "--batches", "1", "--batch-size", "32", "--workers", "1"]
    run(["prune", "--counts", "c1=4,c2=3,c3=3,fc4=5", "--from", str(folder / "N7"), "--out", str(folder / "small"), *sample])
    run(["ordering", str(folder / "small"), "--layer", "c1", "-o", str(folder / "c1.json"), *sample])
    open_model(folder / "small")
    run(["segment", str(folder / "raw.tif"), "-o", str(folder / "p.tif"), "--model", str(folder / "small"), "--workers", "1"])
    for number, slices in enumerate(("0:1", "1:3")):
        run(["segment", str(folder / "raw.tif"), "-o", str(folder / f"part{number}.tif"), "--model", str(folder / "small"),
             "--workers", "1", "--slices", slices])
    _leave_parts(folder)
    (folder / "below.json").write_text('{"c1": [1, 2]}')
    (folder / "orders").mkdir()
    shutil.copyfile(folder / "c1.json", folder / "orders" / "c1.json")
    (folder / "keep.json").write_text('{"c1": [0, 2], "c2": [1, 2], "fc4": [0, 1, 3]}')


def _leave_parts(folder: Path) -> None:
    """An interrupted segmentation: two finished slices and no output."""
    from pycaffe_tools.segment.request import Request
    from pycaffe_tools.segment.segmentation import Segmentation
    work = Segmentation(Request(str(folder / "raw.tif"), str(folder / "half.tif"), str(folder / "small"), workers=1))
    with work.store as store:
        store.begin(work.manifest)
        work.compute([0, 1])
    work.close()


def run(argv: List[str]) -> None:
    """A command that has to succeed."""
    code = COMMANDS[argv[0]](argv[1:])
    assert code == 0, argv


def _command(name: str) -> Callable[[List[str]], int]:
    def call(argv: List[str]) -> int:
        import importlib

        from pycaffe_tools.base.command import main
        from pycaffe_tools.base.files import PACKAGE_ROOT
        inside = f"pycaffe_tools.{name}" + (".__main__" if (PACKAGE_ROOT / name).is_dir() else "")
        return main(importlib.import_module(inside).cli, name, argv)

    return call


COMMANDS: Dict[str, Callable[[List[str]], int]] = {name: _command(name) for name in (
    "patches", "train", "ordering", "prune", "surgery", "segment", "evaluate", "dense", "export", "plots", "darkness",
    "correctness")}

_SAMPLE = ("--data", "patches", "--batches", "1", "--batch-size", "32", "--workers", "1")
_MODEL = ("small/model.json", "small/deploy.prototxt", "small/weights.caffemodel")
_DATABASE = ("patches/patches.json", "patches/train_000.h5", "patches/train_001.h5", "patches/val_000.h5")
_SEGMENT = ("-o", "out.tif", "--model", "small", "--workers", "1")
_PATCHES = ("out", "--labels-are", "membrane", "--train", "32", "--val", "16")

CASES: Tuple[Case, ...] = (
    Case("TIFF", ("raw.tif",), ("segment", "raw.tif", *_SEGMENT), ("out.tif", "out.tif.json")),
    Case("TIFF", ("raw_packed.tif",), ("segment", "raw_packed.tif", *_SEGMENT), ("out.tif", "out.tif.json")),
    Case("TIFF", ("raw.tif", "raw_packed.tif"), ("patches", "raw.tif", "membranes.tif", *_PATCHES), ("out",)),
    Case("folder of slices", ("raw/s00.tif", "raw/s01.tif"), ("segment", "raw", *_SEGMENT), ("out.tif", "out.tif.json")),
    Case("label TIFF", ("membranes.tif",), ("patches", "raw.tif", "membranes.tif", *_PATCHES), ("out",)),
    Case("label TIFF", ("membranes_packed.tif",), ("evaluate", "p.tif", "membranes_packed.tif", "--json", "out.json"), ("out.json",)),
    Case("HDF5", ("raw.h5",), ("segment", "raw.h5", *_SEGMENT), ("out.tif", "out.tif.json")),
    Case("HDF5", ("membranes.h5",), ("patches", "raw.h5", "membranes.h5", *_PATCHES), ("out",)),
    Case("prototxt", ("small/deploy.prototxt",), ("segment", "raw.tif", *_SEGMENT), ("out.tif", "out.tif.json")),
    Case("prototxt", ("N7/deploy.prototxt",), ("surgery", "N7/deploy.prototxt", "N7/weights.caffemodel", "out", "--keep-file",
                                               "keep.json"), ("out",)),
    Case("prototxt", ("small/deploy.prototxt",), ("dense", "small/deploy.prototxt", "small/weights.caffemodel", "out", "--tile",
                                                  "8x8"), ("out",)),
    Case("prototxt", ("small/deploy.prototxt",), ("export", "small", "-o", "out.onnx"), ("out.onnx",)),
    Case("prototxt", ("N7/train_val.prototxt",), ("prune", "--counts", PRUNED, "--from", "N7", "--out", "out", *_SAMPLE), ("out",)),
    Case("caffemodel", ("small/weights.caffemodel",), ("segment", "raw.tif", *_SEGMENT), ("out.tif", "out.tif.json")),
    Case("caffemodel", ("small/weights.caffemodel",), ("ordering", "small", "--layer", "c2", "-o", "out.json", *_SAMPLE),
         ("out.json",)),
    Case("caffemodel", ("N7/weights.caffemodel",), ("surgery", "N7/deploy.prototxt", "N7/weights.caffemodel", "out", "--keep-file",
                                                    "keep.json"), ("out",)),
    Case("model.json", ("small/model.json",), ("segment", "raw.tif", *_SEGMENT, "--mask-out", "mask.tif"),
         ("out.tif", "out.tif.json", "mask.tif")),
    Case("model.json", ("N7/model.json",), ("prune", "--counts", PRUNED, "--from", "N7", "--out", "out", *_SAMPLE), ("out",)),
    Case("model.json", ("small/model.json",), ("export", "small", "-o", "out.onnx", "--dense"), ("out.onnx",)),
    Case("patches.json", ("patches/patches.json",), ("ordering", "small", "--layer", "c3", "-o", "out.json", *_SAMPLE), ("out.json",)),
    Case("patches.json", ("patches/patches.json",), ("darkness", "patches", "-o", "out.json"), ("out.json",)),
    Case("keep.json", ("keep.json",), ("surgery", "N7/deploy.prototxt", "N7/weights.caffemodel", "out", "--keep-file", "keep.json"),
         ("out",)),
    Case("ordering JSON", ("orders/c1.json",), ("plots", "fig3", "--net", "N=orders", "-o", "out.png"), ("out.png",)),
    Case("ordering JSON", ("below.json",), ("ordering", "small", "--layer", "c2", "--below", "below.json", "-o", "out.json", *_SAMPLE),
         ("out.json",)),
    Case("ordering log", ("small/orderings/*.log",), ("ordering", "small", "--layer", "c1", "-o", "out.json", *_SAMPLE), ("out.json",)),
    Case("patch shards", _DATABASE[1:], ("ordering", "small", "--layer", "fc4", "-o", "out.json", *_SAMPLE), ("out.json",)),
    Case("patch shards", _DATABASE[1:], ("correctness", "small", "--data", "patches", "-o", "out.json"), ("out.json",)),
    Case("training on a damaged database", _DATABASE, ("train", "N7", "--data", "patches", "--out", "out", "--max-iter", "1",
                                                       "--tests", "1"), ("out/model.json",)),
    Case("unfinished segmentation", ("half.tif.parts/000000.npz", "half.tif.parts/000001.npz", "half.tif.parts/manifest.json"),
         ("segment", "raw.tif", "-o", "half.tif", "--model", "small", "--workers", "1"), ("half.tif", "half.tif.json"), True),
    Case("finished segmentation", ("p.tif.json", "p.tif"), ("segment", "raw.tif", "-o", "p.tif", "--model", "small", "--workers", "1"),
         (), True),
    Case("parts to merge", ("part0.tif", "part1.tif", "part0.tif.json", "part1.tif.json"),
         ("segment", "--merge", "part0.tif", "part1.tif", "-o", "out.tif"), ("out.tif", "out.tif.json")),
    Case("map to evaluate", ("p.tif", "p.tif.json"), ("evaluate", "p.tif", "membranes.tif", "--json", "out.json"), ("out.json",)),
)


def copy(corpus: Path, place: Path) -> None:
    """A copy of the corpus to be damaged."""
    shutil.copytree(corpus, place)


def not_finite(path: Path) -> bool:
    """Whether an output holds values that are no numbers."""
    import json

    import tifffile
    if path.suffix == ".tif" and path.is_file():
        values = tifffile.imread(path)
        return bool(values.dtype.kind == "f" and not np.isfinite(values).all())
    if path.suffix == ".json" and path.is_file():
        text = json.dumps(json.loads(path.read_text()))
        return "NaN" in text or "Infinity" in text
    return False

"""The watch as a process of its own, files that come, and what segment says of the same folder."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import tifffile

from pycaffe_tools.base.command import main
from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.watch.__main__ import cli

from ..conftest import ROOT
from ..segment.cases import MODE, grey_values, read, request

IMAGES = grey_values(slices=12, rows=70, columns=90)
PATIENCE = 120
"""Seconds after which a test gives up; nothing takes so long, even where others use the machine too."""


def put(folder, name, image):
    """Write a slice as a careful program does: under another name first."""
    tifffile.imwrite(folder.parent / "being written.tif", image, photometric="minisblack")
    os.replace(folder.parent / "being written.tif", folder / name)
    return folder / name


def run_cli(*arguments):
    """Exit code of the command line in this process."""
    return main(cli, "watch", [str(argument) for argument in arguments])


class Watching:
    """A watch in a process of its own; a context manager that ends it."""

    def __init__(self, folder, out, model, *options):
        self.out = out
        self.command = [sys.executable, "-m", "pycaffe_tools.watch", str(folder), "-o", str(out), "--model", str(model),
                        "--mode", MODE, "--settle", "0.3", *map(str, options)]
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self):
        """Wait for the end; exit code, standard output and standard error."""
        said, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said, errors

    def wait(self, condition):
        """Wait until ``condition()`` holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"ended early: {self.process.communicate()}")
            assert time.monotonic() < deadline, events(self.out)
            time.sleep(0.02)

    def wait_for(self, event, **facts):
        """Wait until the log tells of an event."""
        self.wait(lambda: any(all(line.get(key) == value for key, value in facts.items()) for line in events(self.out, event)))


def events(out, event=None):
    """Lines of the log, of one event or of all."""
    try:
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return [line for line in lines if event in (None, line["event"])]


def record(out, name):
    return json.loads((out / "records" / f"{name}.json").read_text())


def results(out, kind):
    """Pixels of all slices, in the order in which the folder opens as a stack."""
    return read(out / kind)


def agrees(folder, out, model, scratch, **options):
    """Whether probabilities, masks and overlays are byte for byte those of segment on the folder as it is now."""
    names = [scratch / name for name in ("p.tif", "m.tif", "overlays")]
    shutil.rmtree(names[2], ignore_errors=True)
    segment(request(folder, names[0], model, mask_out=str(names[1]), overlay_out=str(names[2]), force=True, workers=None, **options))
    wanted, masks = read(names[0]), read(names[1])
    found = results(out, "probability")
    assert found.dtype == wanted.dtype and np.ptp(wanted) > 0 and 0.05 < (masks > 0).mean() < 0.95
    pictures = [sorted((place).iterdir()) for place in (out / "overlay", names[2])]
    assert len(pictures[0]) == len(pictures[1]) == len(wanted)
    return (found.tobytes() == wanted.tobytes() and results(out, "mask").tobytes() == masks.tobytes()
            and sorted(path.read_bytes() for path in pictures[0]) == sorted(path.read_bytes() for path in pictures[1]))

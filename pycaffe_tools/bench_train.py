"""How fast does Caffe train here? Iterations a second for each kind of kernel of its BLAS, and with the loops of
:mod:`~pycaffe_tools.nets.running.loops`, side by side.

Every setting trains the same net on the same random patches with ``caffe
train`` for a few iterations, in turns, so that a busy machine slows all of
them alike; the first iterations are not timed.  The losses have to agree:
kernels that compute something else are named, whatever their speed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import click
import numpy as np

from .base.command import OPTIONS, run
from .base.errors import UserError
from .base.host.blas import CORE_TYPE, THREADS, core_types_for, processor_flags
from .nets import paper
from .nets.running.loops import loops_environment
from .nets.running.process import LogReader, caffe_program

PATCHES = 2_048
NEWEST = 3
"""Kinds of kernels that are tried: the newest that the processor can run."""

WARM_UP = 5
TOLERANCE = 1e-3
"""Largest relative difference of the last loss from that of the first setting: sums are rounded in another order."""


class Setting(NamedTuple):
    """One way to run Caffe."""

    name: str
    variables: Dict[str, Optional[str]]
    """Environment; None takes a variable away."""


class Speed(NamedTuple):
    """What a setting reached."""

    setting: str
    network: str
    iterations_per_second: float
    """Median over the rounds."""
    loss: float
    """After the last iteration."""


def settings_of(threads: Sequence[int], preload: Optional[Path] = None) -> List[Setting]:
    """Each kind of kernel that this processor can run, left to itself first, with each number of threads.

    The newest kind comes with the faster loops of this package as well, where they can be compiled.
    """
    found = []
    faster, cores = loops_environment(), core_types_for(processor_flags())[:NEWEST]
    for count in threads:
        base: Dict[str, Optional[str]] = {name: str(count) for name in THREADS}
        text = f"{count} thread{'s' if count > 1 else ''}"
        found.append(Setting(f"left to itself, {text}", {**base, CORE_TYPE: None}))
        found += [Setting(f"{core}, {text}", {**base, CORE_TYPE: core}) for core in cores]
        if faster and cores:
            found.append(Setting(f"{cores[0]}, {text}, loops", {**base, CORE_TYPE: cores[0], **faster}))
        if preload:
            found.append(Setting(f"{preload.name}, {text}", {**base, "LD_PRELOAD": str(preload), "MKL_THREADING_LAYER": "GNU"}))
    return found


def measure(networks: Sequence[str], settings: Sequence[Setting], iterations: int, rounds: int) -> List[Speed]:
    """Train each network with each setting.

    Raises
    ------
    UserError : Caffe is missing, or cannot train with any of the settings.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        _write_patches(Path(folder))
        for network in networks:
            _write_net(Path(folder), network, iterations)
            runs: Dict[str, List[Tuple[float, float]]] = {setting.name: [] for setting in settings}
            for _ in range(rounds):
                for setting in settings:
                    click.echo(f"{network}: {setting.name}", err=True)
                    result = _train(Path(folder), setting, iterations)
                    if result is not None:
                        runs[setting.name].append(result)
            found += [Speed(name, network, statistics.median(speed for speed, _ in results), results[-1][1])
                      for name, results in runs.items() if results]
    if not found:
        raise UserError("caffe: cannot train here with any setting; run `make env` and use .caffe/bin/python")
    return found


def _write_patches(folder: Path) -> None:
    import h5py

    generator = np.random.default_rng(0)
    label = (np.arange(PATCHES) % 2).astype(np.float32)
    with h5py.File(folder / "patches.h5", "w") as handle:
        handle["data"] = (generator.standard_normal((PATCHES, 1, 32, 32)) + label[:, None, None, None]).astype(np.float32)
        handle["label"] = label
    for name in ("train.txt", "val.txt"):
        (folder / name).write_text(f"{folder / 'patches.h5'}\n")


def _write_net(folder: Path, network: str, iterations: int) -> None:
    text = paper.train_val_prototxt(paper.counts_of(network), network)
    for split in ("train", "val"):
        text = text.replace(f"{paper.DATABASE}/{split}.txt", f"{split}.txt")
    (folder / "net.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(
        f'net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01 max_iter: {iterations + 1} '
        f'display: 1 test_iter: 1 test_interval: 1000000 test_initialization: false random_seed: 1 solver_mode: CPU '
        f'snapshot_after_train: false\n')


def _train(folder: Path, setting: Setting, iterations: int) -> Optional[Tuple[float, float]]:
    """Iterations a second, and the last loss; None if Caffe does not run with this setting."""
    environment = {**os.environ, "GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
    for name, value in setting.variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    process = subprocess.Popen([caffe_program(), "train", "--solver=solver.prototxt"], cwd=str(folder), env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    reader, times, loss = LogReader(), {}, float("nan")
    assert process.stderr is not None
    for line in process.stderr:
        event = reader.read(line)
        if event is not None and event.kind == "loss":
            times[event.iteration], loss = time.perf_counter(), event.value
    if process.wait() != 0 or iterations not in times:
        return None
    return (iterations - WARM_UP) / (times[iterations] - times[WARM_UP]), loss


def table(speeds: Sequence[Speed]) -> List[str]:
    """Lines for a person: speed, ratio to what an unset environment gives, and whether the losses agree."""
    lines = [f"{'net':4} {'setting':36} {'iterations/s':>12} {'ratio':>6}  last loss"]
    first: Dict[str, Speed] = {}
    for speed in speeds:
        base = first.setdefault(speed.network, speed)
        same = abs(speed.loss - base.loss) <= TOLERANCE * abs(base.loss)
        lines.append(f"{speed.network:4} {speed.setting:36} {speed.iterations_per_second:12.2f} "
                     f"{speed.iterations_per_second / base.iterations_per_second:6.2f}  {speed.loss:.6f}"
                     + ("" if same else "  differs: do not use it"))
    return lines


@click.command(context_settings=OPTIONS)
@click.argument("networks", nargs=-1, metavar="[NET]...")
@click.option("--iterations", type=click.IntRange(WARM_UP + 1), default=15, help="Timed in each run, with 5 to warm up.")
@click.option("--rounds", type=click.IntRange(1), default=2, help="Runs of each setting, in turns.")
@click.option("--threads", type=click.IntRange(1), multiple=True, help="Of BLAS; may be repeated.  [default: 1 and 2]")
@click.option("--preload", type=click.Path(exists=True, path_type=Path), help="Another BLAS to try, such as libmkl_rt.so.")
def cli(networks: Tuple[str, ...], iterations: int, rounds: int, threads: Tuple[int, ...], preload: Optional[Path]) -> None:
    """Time Caffe's training of NETs (default: N and N7) with each kind of kernel of its BLAS.

    \b
    python -m pycaffe_tools.bench_train N N7
    """
    for name in networks:
        if name not in paper.TABLE_1:
            raise UserError(f"{name}: is not a network of Table 1; choose from {', '.join(paper.NAMES)}")
    speeds = measure(networks or ("N", "N7"), settings_of(threads or (1, 2), preload), iterations, rounds)
    for line in table(speeds):
        click.echo(line)


if __name__ == "__main__":
    run(cli, "bench_train")

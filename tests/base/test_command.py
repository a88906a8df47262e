"""Slice ranges, and that what a user can put right is one sentence and an exit code."""

import errno
import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

import pycaffe_tools
from pycaffe_tools.__main__ import COMMANDS
from pycaffe_tools.base import command as commandline
from pycaffe_tools.base.errors import TemporaryError, UserError, naming
from pycaffe_tools.base.progress import Progress, duration
from pycaffe_tools.base.ranges import parse_size, parse_slices


@pytest.mark.parametrize("text, slices", [
    (None, [0, 1, 2, 3, 4]), ("0:2", [0, 1]), ("0:2,4", [0, 1, 4]), (":", [0, 1, 2, 3, 4]), ("3:", [3, 4]),
    ("-1", [4]), (":-3", [0, 1]), ("1,1:3", [1, 2]),
])
def test_slice_ranges_are_half_open(text, slices):
    assert parse_slices(text, 5) == slices


@pytest.mark.parametrize("text", ["0:6", "5", "2:2", "3:1", "a", "1:2:3", "", "1,,2"])
def test_ranges_that_are_empty_or_outside_are_refused(text):
    with pytest.raises(UserError, match="--slices"):
        parse_slices(text, 5)


@pytest.mark.parametrize("raised, code, sentence", [
    (UserError("a.tif: is broken; repair it"), 1, "error: a.tif: is broken; repair it\n"),
    (OSError(errno.ENOSPC, "x", "out.tif"), 75, "error: out.tif: the disk is full"),
    (OSError(errno.EACCES, "x", "out.tif"), 1, "error: out.tif: permission denied"),
    (TemporaryError("a.parts: another process writes this; wait for it"), 75, "error: a.parts: another process"),
    (OSError(errno.EDQUOT, "x", "a/.out.partial-node_1.0123abcd-123-0a1b2c3d.tif"), 75, "error: a/out.tif: the disk is full"),
    (OSError(errno.EEXIST, "File exists", "raw.tif"), 1, "error: raw.tif: is a file, and a folder is needed there"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), 1, "error: aaa: File name too long; check the path"),
    (MemoryError(), 1, "error: there is not enough memory"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (click.UsageError("no"), 2, "Error: no"),
])
def test_what_a_user_can_put_right_is_one_sentence(raised, code, sentence, capsys):
    @click.command()
    def command():
        raise raised

    assert commandline.main(command, "x", []) == code
    with pytest.raises(SystemExit) as stop:
        commandline.run(command, "x", [])
    assert stop.value.code == code
    assert sentence in capsys.readouterr().err


def test_what_passes_still_passes_when_a_file_is_named():
    with pytest.raises(TemporaryError, match="^a.json: the disk is full$"):
        with naming("a.json"):
            raise TemporaryError("the disk is full")


@pytest.mark.parametrize("text", ["nan", "inf", "-1"])
def test_numbers_of_no_range_are_wrong_usage(text, capsys):
    """``nan`` compares as if it lay in any range."""
    @click.command()
    @click.option("--share", type=commandline.FiniteRange(0))
    def command(share):
        raise AssertionError(share)

    with pytest.raises(SystemExit) as stop:
        commandline.run(command, "x", ["--share", text])
    assert stop.value.code == 2 and "--share" in capsys.readouterr().err


@pytest.mark.parametrize("module", sorted(set(COMMANDS) & {"train", "prune", "ordering", "patches", "synth", "surgery"}))
def test_seeds_that_would_be_drawn_at_random_or_crash_are_wrong_usage(module):
    folder = Path(pycaffe_tools.__file__).parent / module
    command = importlib.import_module(f"pycaffe_tools.{module}" + (".__main__" if folder.is_dir() else "")).cli
    seed = next(parameter for parameter in command.params if parameter.name == "seed")
    for value in (-1, 2 ** 31):
        with pytest.raises(click.BadParameter):
            seed.type.convert(value, seed, None)


def test_the_list_of_commands_is_that_of_the_modules():
    package = Path(pycaffe_tools.__file__).parent
    modules = {path.parent.name if path.name == "__main__.py" else path.stem for path in package.rglob("*.py")
               if "    run(cli, " in path.read_text(encoding="utf-8") and len(path.relative_to(package).parts) <= 2}
    assert set(COMMANDS) == modules - {package.name}
    done = subprocess.run([sys.executable, "-m", "pycaffe_tools"], capture_output=True, text=True, cwd=str(package.parent))
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)


def test_a_defect_keeps_its_traceback():
    @click.command()
    def command():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commandline.run(command, "x", [])


def test_a_log_gets_plain_lines_with_the_time_left(capsys):
    with Progress(10, "counting", every=0) as progress:
        progress.update(5, "half")
        progress.update(10)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("counting: 50 %") and first.endswith("left, half")
    assert last.startswith("counting: 100 %") and last.endswith("taken")


@pytest.mark.parametrize("seconds, text", [(4.4, "4 s"), (65, "1 min 05 s"), (7500, "2 h 05 min")])
def test_durations_in_units_a_person_would_choose(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("text, count", [("800M", 8e8), ("2G", 2e9), ("1.5g", 1.5e9), ("1GiB", 2**30), ("64MB", 6.4e7)])
def test_amounts_of_memory(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "M", "two", "-1G", "0M", "1X"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(UserError, match="--max-memory"):
        parse_size(text)

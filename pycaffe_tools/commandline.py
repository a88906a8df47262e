"""What every command line of this package has in common.

A command-line module parses its options, calls one function and prints.  It
ends with ``run(cli, "NAME")``, which turns what a user can put right into one
sentence on standard error.

Exit codes: 0 done; 1 the sentence says why not; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import errno
import math
import re
import sys
from typing import Any, List, NoReturn, Optional, Tuple

import click

from .errors import UserError

SEED = click.IntRange(0, 2 ** 31 - 1)
"""Type of every ``--seed``: numpy refuses negative ones, and Caffe takes them for "draw one"."""

OPTIONS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
"""``context_settings`` of every command."""


class FiniteRange(click.FloatRange):
    """A range of numbers without ``nan`` and ``inf``, which compare as if they lay in any range."""

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def run(command: click.Command, name: str, argv: Optional[List[str]] = None) -> NoReturn:
    """Run ``command`` as ``python -m pycaffe_tools.name`` and leave the process.

    Parameters
    ----------
    command : the click command.
    name : the module's name, for ``--help`` and for messages.
    argv : arguments; the process's own by default.
    """
    sys.exit(_exit_code(command, name, argv))


def _exit_code(command: click.Command, name: str, argv: Optional[List[str]]) -> int:
    try:
        code = command.main(args=argv, prog_name=f"python -m pycaffe_tools.{name}", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as wrong_usage:
        wrong_usage.show()
        return wrong_usage.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 130
    except UserError as error:
        _say(f"error: {error}")
        return 1
    except BrokenPipeError:
        # The reader (head, less) went away: not an error, but nothing more can be printed.
        sys.stderr.close()
        return 1
    except MemoryError:
        _say("error: there is not enough memory for that; ask for less of it, or for smaller sizes")
        return 1
    except OSError as error:
        sentence = _operating_system_sentence(error)
        if sentence is None:
            raise
        _say(f"error: {sentence}")
        return 1


def _operating_system_sentence(error: OSError) -> Optional[str]:
    # A file that is not whole yet is for the user the one that it will be.
    where = re.sub(r"\.([^/]*)\.partial-\d+", r"\1", str(error.filename)) if error.filename else "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: the disk is full; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: permission denied; choose a place that you may write to, or read from"
    if error.errno == errno.EEXIST:
        return f"{where}: is a file, and a folder is needed there; choose another path"
    # Without a name it is not about a file of the user's.
    return f"{where}: {error.strerror or error}; check the path" if error.filename else None


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def parse_slices(text: Optional[str], count: int, option: str = "--slices") -> List[int]:
    """Slice numbers of half-open ranges such as ``0:4,9`` (0, 1, 2, 3, 9).

    Parameters
    ----------
    text : comma-separated ``a:b`` (either end may be left out) or single
        numbers, counted from 0; negative numbers count from the end, as in
        Python; None means every slice.
    count : number of slices of the volume.
    option : what to call it in a message.

    Returns
    -------
    Sorted slice numbers, each once.

    Raises
    ------
    UserError : not of that form, outside the volume, or empty.
    """
    if text is None:
        return list(range(count))
    chosen = set()
    for part in text.split(","):
        first, stop = _one_range(part.strip(), count, option)
        if not 0 <= first < stop <= count:
            raise UserError(f"{option} {text}: {part.strip()!r} is empty or outside the volume's "
                            f"{count} slices; ranges are half-open, 0:{count} is all of it")
        chosen.update(range(first, stop))
    return sorted(chosen)


def _one_range(part: str, count: int, option: str) -> Tuple[int, int]:
    def position(number: str, default: int) -> int:
        value = int(number) if number else default
        return value + count if value < 0 else value

    try:
        if ":" in part:
            first, stop = part.split(":")
            return position(first, 0), position(stop, count)
        single = position(part, -1) if part else count
        return single, single + 1
    except ValueError:
        raise UserError(f"{option} {part}: not a slice or a range of slices; "
                        f"write for example 0:4 or 0:4,9") from None


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_size(text: str) -> int:
    """Bytes of ``800M``, ``2G``, ``1.5GiB``; K, M, G, T are powers of 1000.

    Raises
    ------
    UserError : not of that form.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?", text.strip().upper())
    if match is None or match[2] not in _UNITS or float(match[1]) <= 0:
        raise UserError(f"--max-memory {text}: not an amount of memory; write for example 800M or 2G")
    return int(float(match[1]) * _UNITS[match[2]])


def size_text(count: float) -> str:
    """Bytes as :func:`parse_size` reads them, rounded up.

    >>> size_text(812_000_001)
    '813M'
    """
    return f"{-(-int(count) // 10**6)}M"

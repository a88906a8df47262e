"""What every command line of this package has in common.

A command-line module parses its options, calls one function and prints.  It
ends with ``run(cli, "NAME")``, which turns what a user can put right into one
sentence on standard error.

Exit codes: 0 done; 1 the sentence says why not; 2 wrong usage; 75 it passes, and the same command, given again
later, goes on (another process holds a lock, or the disk is full); 130 interrupted.
"""

from __future__ import annotations

import errno
import math
import sys
from typing import Any, List, NoReturn, Optional

import click

from .errors import FULL, TemporaryError, UserError
from .files import whole_name

PASSING = 75
"""Exit code of what passes; ``EX_TEMPFAIL`` of sysexits.h, which batch systems know."""

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
    """Run ``command`` as :func:`main` does and leave the process with its exit code."""
    sys.exit(main(command, name, argv))


def main(command: click.Command, name: str, argv: Optional[List[str]] = None, *,
         prog_name: Optional[str] = None) -> int:
    """Run a command line; what a user can put right becomes one sentence on standard error.

    Parameters
    ----------
    command : the click command.
    name : the module's name, as in ``python -m pycaffe_tools.name``, for ``--help`` and for messages.
    argv : arguments; the process's own by default.
    prog_name : how the program was called, where that was not ``python -m pycaffe_tools.name``.

    Returns
    -------
    The exit code: what the command returns if that is an int, otherwise as listed at the top of this file.
    """
    called = prog_name or f"python -m pycaffe_tools.{name}"
    try:
        code = command.main(args=argv, prog_name=called, standalone_mode=False)
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
        return PASSING if isinstance(error, TemporaryError) else 1
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
        return PASSING if error.errno in FULL else 1


def _operating_system_sentence(error: OSError) -> Optional[str]:
    # A file that is not whole yet is for the user the one that it will be.
    where = whole_name(str(error.filename)) if error.filename else "the output"
    if error.errno in FULL:
        return f"{where}: the disk is full; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: permission denied; choose a place that you may write to, or read from"
    if error.errno == errno.EEXIST:
        return f"{where}: is a file, and a folder is needed there; choose another path"
    # Without a name it is not about a file of the user's.
    return f"{where}: {error.strerror or error}; check the path" if error.filename else None


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)

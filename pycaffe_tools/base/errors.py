"""The one exception that is meant for the user.

Everything a user can put right (a missing file, shapes that differ, a
truncated TIFF) is raised as :class:`UserError` with one sentence that names
the file, what is wrong and what to do.  Any other exception is a defect of
this package and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import Iterator, Union

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the operating system's errors for a full disk, and for a quota that is used up."""


class UserError(Exception):
    """A condition the user can put right, told in one sentence."""


class TemporaryError(UserError):
    """A condition that passes: the same command, given again later, goes on (exit code 75)."""


@contextmanager
def naming(path: Union[str, os.PathLike[str]]) -> Iterator[None]:
    """Put the name of a file before every :class:`UserError` of the block that does not hold it already."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None

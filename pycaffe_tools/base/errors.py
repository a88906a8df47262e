"""The one exception that is meant for the user.

Everything a user can put right (a missing file, shapes that differ, a
truncated TIFF) is raised as :class:`UserError` with one sentence that names
the file, what is wrong and what to do.  Any other exception is a defect of
this package and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """A condition the user can put right, told in one sentence."""

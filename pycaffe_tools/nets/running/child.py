"""Run a function that uses Caffe in a child process, so that an abort there is a sentence here.

A failed check in Caffe ends its process at once.  Where the net comes from the
user, and not from this package, its own process is therefore the place for it.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar

from ...base.child import ChildDied, call_in_fork
from ...base.errors import UserError

Result = TypeVar("Result")


def in_child(function: Callable[..., Result], *arguments: Any, where: str) -> Result:
    """Call ``function(*arguments)`` in a fork of this process and return its result.

    Parameters
    ----------
    function : what to call; its result must be picklable.
    where : what to name in the message if Caffe gives up, such as the prototxt's path.

    Raises
    ------
    UserError : the function raised it, or Caffe aborted; the message then holds Caffe's reason.
    """
    try:
        return call_in_fork(function, *arguments)
    except ChildDied as death:
        if death.failed_check:
            raise UserError(f"{where}: Caffe refuses it: {death.failed_check}; correct the net") from None
        if death.code < 0:
            raise UserError(f"{where}: the process that ran it in Caffe {death}; check the sizes in it, "
                            f"and that there is enough memory") from None
        raise RuntimeError(f"the process that ran {where} in Caffe {death}\n{death.log}") from None

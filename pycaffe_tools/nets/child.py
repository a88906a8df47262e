"""Run a function that uses Caffe in a child process, so that an abort there is a sentence here.

A failed check in Caffe ends its process at once.  Where the net comes from the
user, and not from this package, its own process is therefore the place for it.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
from typing import Any, Callable, TypeVar

from ..base.errors import UserError

Result = TypeVar("Result")

_FATAL = re.compile(r"^F\d{4,8} .*?\] (.*)$", re.MULTILINE)


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
    # A fork shares the arguments as they are; protobuf messages and arrays need no pickling.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = context.Process(target=_answer, args=(sender, log.fileno(), function, arguments), daemon=True)
        process.start()
        sender.close()
        try:
            kind, content = receiver.recv()
        except EOFError:
            kind, content = "ended", None
        finally:
            receiver.close()
        process.join()
        log.seek(0)
        written = log.read()
    if kind == "result":
        return content
    if kind == "user error":
        raise UserError(content)
    fatal = _FATAL.findall(written)
    if fatal:
        raise UserError(f"{where}: Caffe refuses it: {fatal[-1].strip()}; correct the net")
    raise RuntimeError(f"the process that runs {where} in Caffe ended with code {process.exitcode}:\n{written[-2000:]}")


def _answer(sender: Any, log: int, function: Callable[..., Any], arguments: Any) -> None:
    os.dup2(log, 2)
    try:
        answer = ("result", function(*arguments))
    except UserError as error:
        answer = ("user error", str(error))
    sender.send(answer)
    sender.close()

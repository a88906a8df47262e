"""Packages that can be called: ``pycaffe_tools.segment(...)`` and ``pycaffe_tools.segment.slices.tiles``.

Some functions of the public door have the name of the folder they live in.
Python binds that name to the package as soon as anything below it is imported,
so a function of the same name would be there or not there depending on who
imported what before.  Here the package itself can be called, so the name means
one object whatever the order of imports; what it calls is imported at the
first call.  Python documents the means, assigning to a module's ``__class__``,
as a way to customise modules.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any, Callable


class CallablePackage(ModuleType):
    """A package that passes calls on to one of its functions."""

    _door: str

    @property
    def _function(self) -> Callable[..., Any]:
        module, name = self._door.split(":")
        function: Callable[..., Any] = getattr(importlib.import_module(f"{self.__name__}.{module}"), name)
        return function

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def make_callable(package: str, door: str) -> None:
    """Let a package be called; its ``__init__`` says ``make_callable(__name__, "module:function")``.

    Parameters
    ----------
    package : the full name of the package, which is being imported.
    door : the module below it and the function in it that does the work.
    """
    module = sys.modules[package]
    module.__class__ = CallablePackage
    module.__dict__["_door"] = door

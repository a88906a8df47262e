"""The rule of the house: imports point one way, from base to the report, and no file is more than one idea."""

import ast
from pathlib import Path

import pytest

import pycaffe_tools

PACKAGE = Path(pycaffe_tools.__file__).parent
ORDER = ("base", "volumes", "nets", "datasets", "dense_plan", "engines", "patches", "evaluate", "train", "oracle", "ordering",
         "surgery", "prune", "segment", "export", "plots", "reproduce", "report")
"""Folders of the package: each may import from those before it. Files at the top may import from all."""
LONGEST = 350
FILES = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name[:-len(".__init__")] if name.endswith(".__init__") else name: path for path, name in FILES.items()}


def imported(path):
    """Modules of this package that a file imports, wherever in it."""
    found = set()
    package = list(path.relative_to(PACKAGE.parent).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[:len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            for name in node.names:
                whole = ".".join([*base, name.name])
                found.add(whole if whole in MODULES else ".".join(base))
    return found


def folder(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def test_every_folder_has_its_place_in_the_order():
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(ORDER)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    own = folder(module)
    for other in imported(MODULES[module]):
        theirs = folder(other)
        if own is not None:
            assert other == "pycaffe_tools" or theirs is not None, f"{module} imports {other}, a command"
            assert theirs is None or ORDER.index(theirs) <= ORDER.index(own), f"{module} imports {other}, which comes after it"


def test_no_file_imports_itself_by_way_of_others():
    left = {module: {other for other in imported(path) if other in MODULES and other != "pycaffe_tools"}
            for module, path in MODULES.items()}
    while True:
        free = [module for module, needs in left.items() if not needs & set(left)]
        if not free:
            break
        for module in free:
            del left[module]
    assert not left, "these files import each other"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_file_is_longer_than_one_idea(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST

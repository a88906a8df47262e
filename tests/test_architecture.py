"""The rule of the house: imports point one way, from base to the report, and no file is more than one idea."""

import importlib.util
import subprocess
import sys

import pytest

from .conftest import ROOT

ORDER = ("base", "cluster", "volumes", "nets", "datasets", "dense_plan", "engines", "patches", "evaluate", "train", "oracle", "ordering",
         "surgery", "prune", "segment", "watch", "export", "plots", "reproduce", "report")
"""Folders of the package: each may import from those before it. Files at the top may import from all."""
LONGEST = 350
MOST = 11
"""Files of a folder."""


def the_script():
    """docs/draw_imports.py, which reads the imports and draws them."""
    specification = importlib.util.spec_from_file_location("draw_imports", ROOT / "docs" / "draw_imports.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


DRAWN = the_script()
PACKAGE = DRAWN.PACKAGE
MODULES = DRAWN.modules()


def imported(path):
    return DRAWN.imported(path, MODULES)


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


def test_the_picture_is_of_todays_imports_and_its_script_notices_an_old_one(tmp_path):
    script = ROOT / "docs" / "draw_imports.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(DRAWN.CONTENT) == set(ORDER)
    copy = tmp_path / "docs" / "draw_imports.py"
    for path in [script, *PACKAGE.rglob("*.py")]:
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (copy.parent / "imports.svg").write_text((script.parent / "imports.svg").read_text(encoding="utf-8"), encoding="utf-8")
    assert subprocess.run([sys.executable, str(copy), "--check"]).returncode == 0
    with open(tmp_path / "pycaffe_tools" / "volumes" / "volume.py", "a", encoding="utf-8") as stream:
        stream.write("from ..nets import model\n")
    old = subprocess.run([sys.executable, str(copy), "--check"], capture_output=True, text=True)
    assert old.returncode == 1 and "make docs" in old.stderr


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a"}, "e": {"c", "d", "a"}}
    assert DRAWN.without_detours(graph) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a"}, "e": {"c", "d"}}
    assert DRAWN.rows(graph) == [["a"], ["b", "d"], ["c"], ["e"]]


def test_no_folder_holds_more_than_a_reader_can_take_in():
    folders = [PACKAGE / name for name in ORDER] + [path for name in ORDER for path in (PACKAGE / name).iterdir() if path.is_dir()]
    crowded = {str(folder.relative_to(PACKAGE)): len(files) for folder in folders
               for files in [[path for path in folder.glob("*.py") if path.name != "__init__.py"]] if len(files) > MOST}
    assert not crowded

"""The public door: every name is there, means one thing in every order of imports, and loads nothing before its time."""

import inspect
import subprocess
import sys

import pytest

import pycaffe_tools
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.segment.request import Request

from ..conftest import ROOT
from ..segment import cases

CALLABLE_PACKAGES = ("evaluate", "export", "prune", "segment", "train")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=str(ROOT))


def test_what_people_call_is_at_the_door():
    wanted = {"open_volume", "open_model", "make_database", "train", "order_layer", "prune", "remove_features", "segment",
              "export"}
    assert wanted <= set(pycaffe_tools.__all__) <= set(dir(pycaffe_tools))
    for name in pycaffe_tools.__all__:
        assert callable(getattr(pycaffe_tools, name)), name
    assert pycaffe_tools.open_model is open_model


def test_a_name_that_is_not_at_the_door_is_no_attribute():
    assert not hasattr(pycaffe_tools, "segmnt")


def test_importing_the_package_loads_neither_numpy_nor_caffe_nor_a_stage():
    done = run("import sys, pycaffe_tools\n"
               "print([name for name in sys.modules if name in ('numpy', 'caffe', 'click') or 'pycaffe_tools.' in name])")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("imports", [
    "import pycaffe_tools",
    "from pycaffe_tools import segment, train, prune, export",
    "import pycaffe_tools.segment.slices.tiles, pycaffe_tools.train.log, pycaffe_tools.prune.targets.budget, pycaffe_tools.export.onnx_net",
    "import pycaffe_tools; pycaffe_tools.segment; import pycaffe_tools.segment.slices.tiles as tiles",
    "from pycaffe_tools.segment import request",
    "from pycaffe_tools import *",
])
def test_packages_can_be_called_whatever_was_imported_before(imports):
    """And what lies in them can be reached at the same time."""
    done = run(f"{imports}\n"
               "import pycaffe_tools\n"
               "for name in %r:\n"
               "    assert callable(getattr(pycaffe_tools, name)), name\n"
               "import pycaffe_tools.segment as by_name\n"
               "from pycaffe_tools import segment as from_package\n"
               "from pycaffe_tools.segment.slices.tiles import grid\n"
               "assert by_name is from_package is pycaffe_tools.segment\n"
               "assert pycaffe_tools.segment.slices.tiles.grid is grid\n"
               "try:\n"
               "    pycaffe_tools.segment('no.tif', 'out.tif', 'no-model')\n"
               "except pycaffe_tools.UserError as error:\n"
               "    print(error)\n" % (CALLABLE_PACKAGES,))
    assert done.returncode == 0 and done.stdout.startswith("no-model: "), done.stderr


@pytest.mark.parametrize("name", CALLABLE_PACKAGES)
def test_a_package_shows_the_signature_of_what_it_calls(name):
    parameters = list(inspect.signature(getattr(pycaffe_tools, name)).parameters)
    first = {"evaluate": "probability", "export": "directory", "prune": "target", "segment": "input", "train": "network"}
    assert parameters[0] == first[name]


def test_the_function_segment_takes_what_a_request_does():
    """In the same order, since it hands them on by position."""
    assert tuple(inspect.signature(pycaffe_tools.segment).parameters) == Request._fields


@cases.needs_an_engine
def test_segmenting_by_the_door_warns_of_another_pixel_size_and_writes_the_volume(tmp_path):
    model = cases.make_model(tmp_path / "model", pixel_size=(50.0, 40.0, 40.0))
    raw = cases.write_volume(tmp_path / "raw.tif", cases.grey_values(slices=2))
    with pytest.warns(UserWarning, match="pixel") as caught:
        summary = pycaffe_tools.segment(raw, tmp_path / "p.tif", model, mode=cases.MODE, workers=1, slices="1")
    assert {warning.filename for warning in caught if warning.category is UserWarning} == {__file__}
    assert summary.completed == [1] and summary.written == [str(tmp_path / "p.tif")]
    with pycaffe_tools.open_volume(tmp_path / "p.tif") as volume:
        assert volume.shape == (1, 40, 52) and volume.dtype.name == "float32"


def test_pruning_to_two_things_at_once_is_refused(tmp_path):
    for given in ({}, {"target_parameters": 0.5, "target_time": 1.0}):
        with pytest.raises(pycaffe_tools.UserError, match="exactly one"):
            pycaffe_tools.prune(None, tmp_path, tmp_path, tmp_path / "out", **given)

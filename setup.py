"""What pyproject.toml cannot say: a wheel carries files that stand beside the package in a checkout.

The paper's networks and solvers lie at the top of the checkout, where they are read with Caffe alone; in a wheel they
and the list of data sets are below ``pycaffe_tools/shipped`` (:func:`pycaffe_tools.base.files.shipped`).
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("prototxt", "solvers", "data/datasets.json")
ROOT = Path(__file__).resolve().parent


class BuildWithShippedFiles(build_py):
    """Copies the shipped files into the built package; an editable install reads those of the checkout."""

    def run(self):
        """Build as usual, then copy."""
        if getattr(self, "editable_mode", False):
            super().run()
            return
        # An earlier build in this checkout may have left modules that are gone or elsewhere now.
        shutil.rmtree(Path(self.build_lib, "pycaffe_tools"), ignore_errors=True)
        super().run()
        shipped = Path(self.build_lib, "pycaffe_tools", "shipped")
        for name in SHIPPED:
            source, place = ROOT / name, shipped / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place)
            else:
                shutil.copyfile(source, place)


setup(cmdclass={"build_py": BuildWithShippedFiles})

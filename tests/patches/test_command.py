"""The command line: one pair or several, options once or once for each."""

import pytest

from pycaffe_tools.base.command import run
from pycaffe_tools.patches.__main__ import cli
from pycaffe_tools.patches.database import open_database

from .cases import membrane, numbered, saved


def test_command_line(tmp_path, pair, capsys):
    def exit_code(*arguments):
        with pytest.raises(SystemExit) as stop:
            run(cli, "patches", [str(argument) for argument in arguments])
        return stop.value.code

    sizes = ("--labels-are", "membrane", "--train", 100, "--val", 40)
    assert exit_code(pair.raw, pair.labels, tmp_path / "db", *sizes, "--val-slices", "0:2") == 0
    assert "100 training and 40 validation patches" in capsys.readouterr().out
    assert open_database(tmp_path / "db").info["sources"][0]["val_slices"] == [0, 1]

    assert exit_code(pair.raw, pair.labels, tmp_path / "db", *sizes) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1

    second = saved(tmp_path, numbered(start=16_000), membrane(seed=3), "b")
    assert exit_code(tmp_path / "two", *sizes, "--pair", *pair[:2], "--pair", *second[:2],
                     "--val-slices", "none", "--val-slices", ":", "--exclude", "-", "--exclude", pair.labels, "--force") == 0
    sources = open_database(tmp_path / "two").info["sources"]
    assert [source["val_slices"] for source in sources] == [[], list(range(8))]
    assert [source["exclude"] is None for source in sources] == [True, False]

    assert exit_code(pair.raw, tmp_path / "three", *sizes) == 2
    assert exit_code(pair.raw, pair.labels, tmp_path / "three", "--train", 10) == 2
    assert exit_code(tmp_path / "three", *sizes, "--pair", *pair[:2], "--pair", *second[:2],
                     "--exclude", pair.labels) == 2

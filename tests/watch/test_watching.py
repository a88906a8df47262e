"""What comes is segmented as segment would, in its order, once, and by the model that the rule says."""

import json
import re
import signal

import numpy as np
import pytest

pytest.importorskip("matplotlib")
tifffile = pytest.importorskip("tifffile")

from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.volumes.opening import open_volume

from ..segment import cases as segment_cases
from ..segment.cases import MODE, make_model, read, request
from ..test_docs import compare
from .cases import IMAGES, Watching, agrees, events, put, record, results, run_cli

pytestmark = segment_cases.needs_an_engine


@pytest.mark.parametrize("options, same", [
    ([], {}),
    (["--tile", "32x48", "--dtype", "uint8", "--threshold", "0.3"], {"tile": (32, 48), "dtype": "uint8", "threshold": 0.3}),
], ids=["as they are", "tiles, uint8, threshold"])
def test_results_are_byte_for_byte_those_of_segment_on_the_finished_folder(tmp_path, folder, model, options, same):
    out = tmp_path / "live"
    with Watching(folder, out, model, "--slices", 5, *options) as watching:
        for number in (8, 9, 10, 11, 12):
            put(folder, f"s{number}.tif", IMAGES[number - 1])
            watching.wait_for("finished", slice=f"s{number}.tif")
        code, said, errors = watching.end()
    assert (code, errors) == (0, "") and "5 slices finished (0 of them before)" in said
    assert agrees(folder, out, model, tmp_path, **same)
    with open_volume(out / "probability") as volume, open_volume(folder) as slices:
        assert volume.slice_names == slices.slice_names
    for number in (8, 12):
        facts = record(out, f"s{number}.tif")
        times = facts["times"]
        assert times["arrived"] <= times["started"] <= times["finished"] and facts["model"]["role"] == "model"
        assert facts["grey"]["mean"] == pytest.approx(IMAGES[number - 1].mean(), abs=1e-3)
        assert facts["membrane_fraction"] == (read(out / "mask" / f"s{number}.tif") > 0).mean()
    assert [line["event"] for line in events(out) if line.get("slice") == "s9.tif"] == ["arrived", "started", "finished"]


def test_files_hold_what_is_documented(tmp_path, folder, model, fast):
    put(folder, "s1.tif", IMAGES[1])
    out = tmp_path / "live"
    assert run_cli(folder, "-o", out, "--model", model, "--model-when-late", fast, "--mode", MODE, "--stop-after", 0, "--settle", 0) == 0
    compare("`watch.json`", json.loads((out / "watch.json").read_text()))
    compare("`records/SLICE.tif.json`", record(out, "s1.tif"))
    assert set(record(out, "s1.tif")["files"]) == {"probability", "mask", "overlay", "preview"}
    assert {"at", "event"} == set.intersection(*(set(line) for line in events(out)))


def test_slices_are_begun_in_the_order_of_a_stack(tmp_path, folder, model):
    for number in (100, 9, 10, 1):
        put(folder, f"s{number}.tif", IMAGES[number % 11])
    assert run_cli(folder, "-o", tmp_path / "live", "--model", model, "--mode", MODE, "--once", "--settle", 0, "--workers", 1) == 0
    with open_volume(folder) as slices:
        assert [line["slice"][:-4] for line in events(tmp_path / "live", "started")] == list(slices.slice_names)


def test_png_and_a_pattern_of_names(tmp_path, folder, model):
    image = pytest.importorskip("PIL.Image")
    for number in (1, 2):
        image.fromarray(IMAGES[number]).save(folder / f"a{number}.png")
        image.fromarray(IMAGES[number]).save(folder / f"a{number}_mask.png")
    out = tmp_path / "live"
    assert run_cli(f"{folder}/a#.png", "-o", out, "--model", model, "--mode", MODE, "--once", "--settle", 0) == 0
    assert sorted(path.name for path in (out / "probability").iterdir()) == ["a1.tif", "a2.tif"]
    assert agrees(f"{folder}/a#.png", out, model, tmp_path)


def test_the_faster_model_takes_over_when_slices_wait_and_goes_when_none_does(tmp_path, folder, model, fast):
    for number in range(1, 7):
        put(folder, f"s{number}.tif", IMAGES[number])
    out = tmp_path / "live"
    with Watching(folder, out, model, "--model-when-late", fast, "--late-from", 3, "--slices", 6) as watching:
        code, said, _ = watching.end()
    assert code == 0 and "5 made by the faster model" in said
    # 6, 5, 4 and 3 wait: late; 2: it stays so; 1: the first comes back.
    roles = [record(out, f"s{number}.tif")["model"]["role"] for number in range(1, 7)]
    assert roles == ["model_when_late"] * 5 + ["model"]
    digests = {record(out, f"s{number}.tif")["model"]["weights_sha256"] for number in (1, 6)}
    assert len(digests) == 2
    for role, which in (("model_when_late", fast), ("model", model)):
        segment(request(folder, tmp_path / f"{role}.tif", which, mask_out=str(tmp_path / f"{role}-mask.tif"), workers=None))
    for place, role in enumerate(roles):
        assert results(out, "probability")[place].tobytes() == read(tmp_path / f"{role}.tif")[place].tobytes()
        assert results(out, "mask")[place].tobytes() == read(tmp_path / f"{role}-mask.tif")[place].tobytes()
    assert [line["event"] for line in events(out) if line["event"] in ("behind", "caught up")] == ["behind", "caught up"]


def test_what_is_finished_is_not_made_again(tmp_path, folder, model, capfd):
    for number in (1, 2, 3):
        put(folder, f"s{number}.tif", IMAGES[number])
    out = tmp_path / "live"
    arguments = (folder, "-o", out, "--model", model, "--mode", MODE, "--once", "--settle", 0)
    assert run_cli(*arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    (out / "mask" / "s2.tif").unlink()
    capfd.readouterr()
    assert run_cli(*arguments) == 0
    assert "3 slices finished (2 of them before)" in capfd.readouterr().out
    again = {path.stem.split(".")[0] for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert again == {"s2"} and agrees(folder, out, model, tmp_path)
    (folder / "s3.tif").unlink()
    assert run_cli(*arguments) == 0
    assert "1 with results, but not in the folder any more: s3.tif" in capfd.readouterr().out
    assert run_cli(*arguments, "--force") == 0
    assert "2 slices finished (0 of them before)" in capfd.readouterr().out
    assert agrees(folder, out, model, tmp_path)         # nothing of the third is left


def test_ctrl_c_and_a_pause_without_slices_end_it(tmp_path, folder, model):
    put(folder, "s1.tif", IMAGES[0])
    with Watching(folder, tmp_path / "live", model) as watching:
        watching.wait_for("finished")
        watching.process.send_signal(signal.SIGINT)
        code, said, errors = watching.end()
    assert (code, errors) == (0, "") and "ended: interrupted\n1 slices finished" in said
    with Watching(folder, tmp_path / "live", model, "--stop-after", 0.5) as watching:
        code, said, errors = watching.end()
    assert (code, errors) == (0, "") and "ended: no new slice for 0.5 s\n1 slices finished (1 of them before)" in said


def test_too_few_slices_are_no_success(tmp_path, folder, model, capfd):
    put(folder, "s1.tif", IMAGES[0])
    assert run_cli(folder, "-o", tmp_path / "live", "--model", model, "--mode", MODE, "--slices", 2, "--stop-after", 0.1, "--settle",
                   0) == 1
    assert "fewer slices came than --slices says" in capfd.readouterr().err


@pytest.mark.parametrize("change, field", [
    (["--dtype", "uint8"], r"options\.dtype 'float32'"),
    (["--threshold", "0.5"], r"model\.threshold 0\.26"),
    (["--tile", "16x16"], r"tiles\.model"),
    (["--model-when-late", "FAST"], r"model_when_late"),
    (["--model", "FAST"], r"model\.\w+"),
    (["FOLDER"], r"folder"),
])
def test_other_weights_and_options_are_refused_by_name(tmp_path, folder, model, fast, change, field, capfd):
    put(folder, "s1.tif", IMAGES[0])
    out = tmp_path / "live"
    options = ["-o", out, "--mode", MODE, "--settle", 0, "--stop-after", 0]
    assert run_cli(folder, "--model", model, *options) == 0
    before = {path: path.read_bytes() for path in out.glob("*/*")}
    (tmp_path / "other").mkdir()
    source = tmp_path / "other" if change == ["FOLDER"] else folder
    more = [fast if word == "FAST" else word for word in change if word != "FOLDER"]
    capfd.readouterr()
    assert run_cli(source, "--model", model, *options, *more) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "--force" in said
    assert re.search(field, said), said
    assert {path: path.read_bytes() for path in out.glob("*/*")} == before


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, folder, model, fast, capfd):
    by_stack = make_model(tmp_path / "by_stack")
    text = (by_stack / "model.json").read_text()
    start, stop = text.index('"normalisation": {'), text.index("}", text.index('"normalisation": {'))
    (by_stack / "model.json").write_text(text[:start] + '"normalisation": {"by": "stack", "stacks": []' + text[stop:])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mask").mkdir()
    for source, out, more, sentence in (
            (tmp_path / "none", "live", (), "there is no such folder"),
            (folder, "slices/live", (), "is or lies in"),
            (folder, "live", ("--model", by_stack), "the whole stack, and the microscope has not written it yet"),
            (folder, "live", ("--once", "--model-when-late", fast), "with --once all are there"),
            (folder, "live", ("--model-when-late", model), "is the same network"),
            (folder, "mine", (), "mine: exists already"),
            (folder, "mine", ("--force",), "--force does not replace it"),
            (folder, "live", ("--port", "1", "--host", "203.0.113.1"), "--port 1: cannot be listened to")):
        assert run_cli(source, "-o", tmp_path / out, "--model", model, "--mode", MODE, "--stop-after", 0, *more) == 1, sentence
        said = capfd.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and sentence in said
        assert not (tmp_path / out).exists() or out == "mine"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["mask"]


def test_grey_values_unlike_the_training_data_are_told_when_they_leave_the_usual_range(tmp_path, folder, model, capfd):
    for number, image in enumerate([IMAGES[0], IMAGES[1] // 4, IMAGES[2] // 4, IMAGES[3]]):
        put(folder, f"s{number}.tif", image.astype(np.uint8))
    out = tmp_path / "live"
    assert run_cli(folder, "-o", out, "--model", model, "--mode", MODE, "--once", "--settle", 0, "--workers", 1) == 0
    assert [record(out, f"s{number}.tif")["grey"]["drift"] for number in range(4)] == [
        "", "darker and less contrast", "darker and less contrast", ""]
    assert [line["slice"] for line in events(out, "drift")] == ["s1.tif", "s3.tif"]
    assert "darker and less contrast" in capfd.readouterr().out

"""Parts of a segmentation fill one OME-Zarr in place, and end in the bytes of a single run, whatever happens on the way."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

pytest.importorskip("zarr")

from pycaffe_tools.base.command import main
from pycaffe_tools.base.errors import TemporaryError, UserError
from pycaffe_tools.base.ranges import Part
from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.segment.in_place.records import records_in
from pycaffe_tools.segment.in_place.sharing import finish
from pycaffe_tools.segment.jobs.__main__ import cli as jobs
from pycaffe_tools.segment.segmentation import Segmentation
from pycaffe_tools.volumes.chunked import arrays
from pycaffe_tools.volumes.provenance import read_provenance

from ..test_docs import compare
from . import cases as segment_cases
from .cases import MODE, grey_values, read, request, run_cli, start_cli, write_volume

pytestmark = segment_cases.needs_an_engine

SLICES = 12


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("share") / "raw.tif", grey_values(slices=SLICES, rows=48, columns=48))


def content(folder):
    """Every file of a volume and its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model, source):
    """Folder with what one run for all slices gives: p.zarr and m.zarr."""
    folder = tmp_path_factory.mktemp("alone")
    segment(request(source, folder / "p.zarr", model, tile=(16, 16), mask_out=str(folder / "m.zarr")))
    return folder


def ask(source, folder, model, **options):
    return request(source, folder / "p.zarr", model, **{"tile": (16, 16), "mask_out": str(folder / "m.zarr"), **options})


def same_as(folder, alone):
    for name in ("p.zarr", "m.zarr"):
        assert content(folder / name) == content(alone / name)
        mine, theirs = read_provenance(folder / name), read_provenance(alone / name)
        assert mine == theirs
    assert sorted(path.name for path in folder.iterdir()) == ["m.zarr", "m.zarr.json", "p.zarr", "p.zarr.json"]


def test_parts_in_any_order_and_at_the_same_time_make_the_volume_of_one_run(tmp_path, model, source, alone):
    options = ["-o", tmp_path / "p.zarr", "--mask-out", tmp_path / "m.zarr", "--model", model, "--mode", MODE, "--workers", 1,
               "--tile", "16x16"]
    running = [start_cli(source, *options, "--part", f"{number}/4") for number in (3, 1, 4)]
    ended = [(process.communicate(), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0, 0], ended
    assert "3 of its 12 slices are there by this command; segment --finish" in ended[0][0][0]
    with pytest.raises(UserError, match=r"slices 3:6 are not there yet; run the commands of their parts"):
        finish(tmp_path / "p.zarr")
    assert run_cli(source, *options, "--part", "2/4") == 0
    assert run_cli("--finish", "-o", tmp_path / "p.zarr") == 0
    same_as(tmp_path, alone)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_both_versions_hold_what_one_run_gives(tmp_path, model, source, alone, version):
    if arrays.package_for(arrays.ZARR_3) is None:
        pytest.skip("needs zarr 3 or tensorstore")
    for number in (1, 2):
        segment(ask(source, tmp_path, model, part=Part(number, 2), ome_zarr=version))
    assert finish(tmp_path / "p.zarr") == SLICES
    assert (tmp_path / "p.zarr" / "zarr.json").exists() == (version == "0.5")
    for name in ("p.zarr", "m.zarr"):
        np.testing.assert_array_equal(read(tmp_path / name), read(alone / name))


def test_after_kill_9_the_same_command_goes_on(tmp_path, model, source, alone):
    options = [source, "-o", tmp_path / "p.zarr", "--mask-out", tmp_path / "m.zarr", "--model", model, "--mode", MODE,
               "--workers", 1, "--tile", "16x16", "--part", "1/1"]
    killed = start_cli(*options)
    records = tmp_path / "p.zarr.records"
    while killed.poll() is None and len(list(records_in(records))) < 3:
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    done = {z for z, _ in records_in(records)}
    assert 3 <= len(done) < SLICES
    # What else a death may leave: half a line, and files of a slice that was not finished.
    with open(next(records.glob("*.jsonl")), "a") as stream:
        stream.write('{"z": 11, "grey": "ab')
    (tmp_path / "p.zarr" / "0" / "11").mkdir(exist_ok=True)
    (tmp_path / "p.zarr" / "0" / "11" / "0.partial").write_bytes(b"left")
    work = Segmentation(ask(source, tmp_path, model, part=Part(1, 1)))
    summary = work.run()
    assert set(summary.skipped) == done and set(summary.completed) == set(range(SLICES)) - done
    assert finish(tmp_path / "p.zarr") == SLICES
    same_as(tmp_path, alone)


def test_a_second_range_belongs_to_the_volume_or_is_refused_by_name(tmp_path, model, source, capfd):
    segment(ask(source, tmp_path, model, part=Part(1, 4), slices="0:8"))
    assert segment(ask(source, tmp_path, model, slices="3:6")).completed == [3, 4, 5]       # a range of the eight slices
    assert segment(ask(source, tmp_path, model, slices="0:8", part=Part(1, 2))).skipped == [0, 1, 3]
    for change, sentence in (({"slices": "6:10"}, "begun for slices 0:8, and 8:10 are not among them"),
                             ({"part": Part(1, 2)}, r"options\.slices '0:8', now options\.slices is '0:12'; .*or remove "),
                             ({"slices": "6:8", "dtype": "uint8"}, r"options\.dtype"),
                             ({"slices": "6:8", "tile": (8, 8)}, r"options\.tile"),
                             ({"slices": "6:8", "crop": "0:9,0:9"}, r"options\.crop"),
                             ({"slices": "6:8", "mask_out": None}, r"options\.mask_out"),
                             ({"slices": "6:8", "ome_zarr": "0.5"}, r"options\.ome_zarr"),
                             ({"part": Part(2, 2), "force": True}, "would take away what other parts have written"),
                             ({"part": Part(2, 2), "mask_out": str(tmp_path / "m.tif")}, "end the name in .zarr")):
        with pytest.raises(UserError, match=sentence):
            segment(ask(source, tmp_path, model, **change))
    assert segment(ask(source, tmp_path, model)).completed == [6, 7]                        # whatever is missing
    assert finish(tmp_path / "p.zarr") == 8
    # What is finished is left alone; another request for it is refused.
    assert segment(ask(source, tmp_path, model, slices="0:8", part=Part(3, 4))).skipped == [4, 5]
    assert run_cli("--finish", "-o", tmp_path / "p.zarr") == 0
    with pytest.raises(UserError, match=r"options\.slices"):
        segment(ask(source, tmp_path, model, part=Part(1, 2)))


def test_other_files_are_not_taken_for_a_volume_that_was_begun(tmp_path, model, source):
    write_volume(tmp_path / "p.zarr", grey_values())
    before = content(tmp_path / "p.zarr")
    with pytest.raises(UserError, match="p.zarr: exists already"):
        segment(ask(source, tmp_path, model, part=Part(1, 2)))
    assert content(tmp_path / "p.zarr") == before
    with pytest.raises(UserError, match="no part has begun this volume"):
        finish(tmp_path / "p.zarr")


def test_what_appeared_after_the_plan_is_not_taken_for_the_volume_either(tmp_path, model, source):
    work = Segmentation(ask(source, tmp_path, model, part=Part(1, 2)))
    write_volume(tmp_path / "m.zarr", grey_values())
    before = content(tmp_path / "m.zarr")
    with pytest.raises(UserError, match="m.zarr: exists already"):
        work.run()
    assert content(tmp_path / "m.zarr") == before and not (tmp_path / "p.zarr").exists()


def test_records_that_outlived_their_volume_count_for_nothing(tmp_path, model, source, alone):
    segment(ask(source, tmp_path, model, part=Part(1, 1)))
    records = tmp_path / "p.zarr.records"
    kept = {path.name: path.read_bytes() for path in records.iterdir() if path.suffix == ".jsonl"}
    assert finish(tmp_path / "p.zarr") == SLICES and not records.exists()

    def killed_while_it_cleared_up():
        records.mkdir()
        for name, lines in kept.items():
            (records / name).write_bytes(lines)

    killed_while_it_cleared_up()
    assert segment(ask(source, tmp_path, model, part=Part(1, 2))).skipped == [0, 1, 2, 3, 4, 5]
    assert finish(tmp_path / "p.zarr") == SLICES and not records.exists()
    killed_while_it_cleared_up()
    for name in ("p.zarr", "m.zarr"):
        (tmp_path / f"{name}.json").unlink()
        shutil.rmtree(tmp_path / name)
    assert segment(ask(source, tmp_path, model, part=Part(1, 1))).completed == list(range(SLICES))
    finish(tmp_path / "p.zarr")
    same_as(tmp_path, alone)


def test_slices_that_another_process_does_are_not_done_twice_at_a_time(tmp_path, model, source):
    first = Segmentation(ask(source, tmp_path, model, part=Part(1, 2)))
    with first.store as store:
        store.begin(first.manifest)
        with pytest.raises(TemporaryError, match=rf"\(process {os.getpid()} on .*\) does slices 4:6; wait for it"):
            segment(ask(source, tmp_path, model, part=Part(2, 3)))
        assert segment(ask(source, tmp_path, model, part=Part(2, 2))).completed == [6, 7, 8, 9, 10, 11]
        with pytest.raises(TemporaryError, match="still at work on slices 0:6"):
            finish(tmp_path / "p.zarr")
    first.close()
    assert segment(ask(source, tmp_path, model, part=Part(1, 1))).skipped == [6, 7, 8, 9, 10, 11]


def test_parts_that_begin_at_the_same_time_agree_on_the_tiles(tmp_path, model, source, alone):
    works = [Segmentation(ask(source, tmp_path, model, part=Part(number, 2), tile=None)) for number in (1, 2)]
    works[1].computing = works[1]._computing((16, 16))      # as on a computer with less memory
    works[1].plan = works[1].computing.plan
    works[1].manifest["options"]["tile"] = [16, 16]
    assert works[0].plan.tile != (16, 16)
    for work in reversed(works):
        work.run()
    assert works[0].plan.tile == (16, 16)
    finish(tmp_path / "p.zarr")
    same_as(tmp_path, alone)


@pytest.mark.parametrize("damage", [
    lambda file: file.write_bytes(file.read_bytes()[:-20]), lambda file: file.unlink(), lambda file: file.write_bytes(b"")],
    ids=["cut", "gone", "empty"])
@pytest.mark.parametrize("name", ["p.zarr", "m.zarr"])
def test_a_slice_that_changed_is_named_and_computed_again_alone(tmp_path, model, source, alone, damage, name):
    for number in (1, 2):
        segment(ask(source, tmp_path, model, part=Part(number, 2)))
    damage(tmp_path / name / "0" / "7" / "0" / "0")
    with pytest.raises(UserError, match=f"{name}: slices 7 are not what the segmentation wrote there"):
        finish(tmp_path / "p.zarr")
    assert segment(ask(source, tmp_path, model, part=Part(2, 2))).completed == [7]
    assert finish(tmp_path / "p.zarr") == SLICES
    same_as(tmp_path, alone)


def test_failed_slices_fail_alone_and_only_incomplete_lets_them_be_missing(tmp_path, model, capfd):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "slices").mkdir()
    for z, image in enumerate(grey_values()):
        tifffile.imwrite(tmp_path / "slices" / f"s{z}.tif", image)
    (tmp_path / "slices" / "s1.tif").write_bytes(b"II*\0 damaged")
    command = [tmp_path / "slices", "-o", tmp_path / "p.zarr", "--model", model, "--mode", MODE, "--part", "1/1"]
    assert run_cli(*command) == 3
    assert "slice 1 failed" in capfd.readouterr().out
    assert run_cli("--finish", "-o", tmp_path / "p.zarr") == 1
    assert "slices 1 are not there yet" in capfd.readouterr().err
    assert run_cli("--finish", "-o", tmp_path / "p.zarr", "--incomplete") == 0
    found = read(tmp_path / "p.zarr")
    assert not found[1].any() and found[0].min() > 0 and read_provenance(tmp_path / "p.zarr")["failed"] == [1]


def test_a_run_that_finishes_no_slice_leaves_nothing(tmp_path, model, source, monkeypatch):
    work = Segmentation(ask(source, tmp_path, model, part=Part(1, 2)))
    with pytest.raises(ZeroDivisionError):
        work.run(lambda todo: 1 // 0)
    assert not list(tmp_path.iterdir())


def test_lower_levels_of_a_killed_process_are_written_again(tmp_path, model, source):
    large = write_volume(tmp_path / "raw.tif", grey_values(slices=2, rows=8, columns=520))
    segment(request(large, tmp_path / "p.zarr", model, part=Part(1, 1)))
    expected = read(f"{tmp_path / 'p.zarr'}:/1")
    for file in (tmp_path / "p.zarr" / "1" / "1").rglob("*"):
        if file.is_file():
            file.unlink()
    assert not read(f"{tmp_path / 'p.zarr'}:/1")[1].any()
    finish(tmp_path / "p.zarr")
    np.testing.assert_array_equal(read(f"{tmp_path / 'p.zarr'}:/1"), expected)


def test_the_cost_of_a_record_does_not_grow_with_their_number(tmp_path, model, source):
    segment(ask(source, tmp_path, model, part=Part(1, 1)))
    lines = next((tmp_path / "p.zarr.records").glob("*.jsonl")).read_text().splitlines()
    assert len(lines) == 1 + SLICES and json.loads(lines[0]) == {"slices": "0:12"}
    assert {tuple(sorted(json.loads(line))) for line in lines[1:]} == {("grey", "pixels", "z")}
    compare("`OUT.zarr.records/000120-3f9c1a2b.jsonl`", json.loads(lines[1]))
    assert len(list((tmp_path / "p.zarr.records").iterdir())) == 3      # manifest, lock, one file of records


def test_the_jobs_of_a_plan_write_into_one_volume(tmp_path, model, source, alone, capfd):
    def job(*arguments):
        return main(jobs, "segment.jobs", [str(argument) for argument in arguments])

    place = tmp_path / "jobs"
    out = tmp_path / "out"
    out.mkdir()
    command = [source, "-o", out / "p.zarr", "--mask-out", out / "m.zarr", "--model", model, "--mode", MODE, "--tile", "16x16",
               "--slurm", place, "--parts", 3, "--ome-zarr", "0.4"]
    assert run_cli(*command, "--force") == 1
    assert "would take away what other parts have written" in capfd.readouterr().err
    assert run_cli(*command) == 0
    assert [job("part", place, number) for number in (3, 1)] == [0, 0]
    assert job("merge", place) == 1
    assert "slices 4:8 are not there yet" in capfd.readouterr().err
    assert run_cli("--status", place) == 3
    assert "part 2: waiting, 0 of 4 slices (4:8)" in capfd.readouterr().out
    assert job("part", place, 2) == 0 and job("merge", place) == 0
    assert run_cli("--status", place) == 0
    assert "slices   12 of 12 finished" in capfd.readouterr().out
    same_as(out, alone)
    assert not list((place / "parts").glob("*")) if (place / "parts").exists() else True

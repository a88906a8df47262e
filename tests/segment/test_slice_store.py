"""Results of slices survive whatever happens, and are never mixed with those of another request."""

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.segment.slices.slice_store import DamagedSlice, SliceResult, SliceStore, differences, pixel_hash

MANIFEST = {"input": {"path": "/a.tif", "shape": [2, 3, 4], "bytes": 24}, "options": {"tile": [3, 4], "crop": None}}


def result(value, mask=False):
    probability = np.full((3, 4), value, np.float32)
    return SliceResult(probability, (probability > 0.5).astype(np.uint8) if mask else None, pixel_hash(probability))


def test_a_slice_comes_back_as_it_was_kept(tmp_path):
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.save(7, result(0.75, mask=True))
        store.save(8, result(0.25))
        assert store.finished([6, 7, 8]) == [7, 8]
        kept = store.load(7)
    assert (kept.probability == 0.75).all() and (kept.mask == 1).all() and kept.grey_sha256 == result(0.75).grey_sha256
    assert SliceStore(tmp_path / "p").load(8).mask is None


def test_another_request_is_refused_by_the_name_of_the_field(tmp_path):
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.save(0, result(0.5))
    changed = {"input": MANIFEST["input"], "options": {"tile": [3, 4], "crop": [0, 1, 0, 1]}}
    with SliceStore(tmp_path / "p") as store:
        with pytest.raises(UserError, match=r"options\.crop None.*\[0, 1, 0, 1\]"):
            store.begin(changed)
    with SliceStore(tmp_path / "p") as store:
        store.begin(changed, force=True)
        assert store.finished([0]) == []


def test_a_moved_or_touched_input_is_no_other_request():
    moved = {"input": dict(MANIFEST["input"], path="/b.tif", bytes=25), "options": MANIFEST["options"]}
    assert differences(MANIFEST, moved) == []
    assert differences(MANIFEST, {"options": MANIFEST["options"]}) == [("input.shape", [2, 3, 4], None)]


def test_grey_values_that_changed_under_finished_slices_are_noticed(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.save(1, SliceResult(np.zeros((3, 4), np.float32), None, pixel_hash(grey)))
        store.check_grey_values([1], lambda z: grey, "a.tif")
        with pytest.raises(UserError, match="slice 1"):
            store.check_grey_values([1], lambda z: grey[::-1], "a.tif")


def test_a_result_that_was_cut_off_does_not_count(tmp_path):
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.save(0, result(0.5))
        file = next(store.folder.glob("*.npz"))
        file.write_bytes(file.read_bytes()[:-30])
        assert store.finished([0]) == []


def test_a_result_whose_header_is_damaged_is_known_as_damaged(tmp_path):
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.save(0, SliceResult(np.zeros((99, 99), np.float32), None, pixel_hash(np.zeros(1))))
        file = next(store.folder.glob("*.npz"))
        whole = file.read_bytes()
        # Of a large array numpy reads the header before the archive's checksum can be compared.
        for change in (b"(", b" ", b"\0", b"\xff"):
            at = whole.index(b"}")
            file.write_bytes(whole[:at] + change + whole[at + 1:])
            with pytest.raises(DamagedSlice):
                store.load(0)


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / ".000001.partial-99999999.npz").write_bytes(b"half")
    with SliceStore(folder) as store:
        store.begin(MANIFEST)
        assert sorted(file.name for file in folder.iterdir()) == ["lock", "manifest.json"]


def test_results_without_a_manifest_are_not_trusted(tmp_path):
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.save(0, result(0.5))
        (store.folder / "manifest.json").unlink()       # killed while it was cleared up
    with SliceStore(tmp_path / "p") as store:
        assert store.manifest is None
        store.begin(MANIFEST)
        assert store.finished([0]) == []


def test_two_processes_do_not_write_one_output(tmp_path):
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        other = SliceStore(tmp_path / "p")
        with pytest.raises(UserError, match="another process"):
            other.begin(MANIFEST)
        other.remove_if_empty()
        assert store.folder.exists()
    with SliceStore(tmp_path / "p") as store:
        store.begin(MANIFEST)
        store.remove_if_empty()
        assert not store.folder.exists()

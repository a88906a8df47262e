"""Segmentation of whole volumes: the numbers, whatever the tiles, workers, formats and ranges."""

import json
import shutil

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.model import open_model
from pycaffe_tools.segment.__main__ import segment
from pycaffe_tools.volumes.opening import open_volume
from pycaffe_tools.volumes.overlay import MEMBRANE_COLOUR, overlay
from pycaffe_tools.volumes.pixel_size import PixelSize
from pycaffe_tools.volumes.provenance import read_provenance

from . import cases as segment_cases
from .cases import GREY, MODE, grey_values, make_model, read, request, run_cli, write_volume

pytestmark = segment_cases.needs_an_engine


@pytest.mark.caffe
def test_each_pixel_has_the_probability_that_caffe_gives_its_patch(tmp_path, model, raw):
    from pycaffe_tools.nets.running.runtime import forward_patches, load_net

    segment(request(raw, tmp_path / "p.tif", model, mode="patch", slices="1", workers=2, tile=(16, 24)))
    normalised = (GREY[1].astype(np.float32) - np.float32(128)) / np.float32(40)
    # Rows y-16 .. y+15, and beyond the border mirrored without repeating the border pixel.
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(normalised, (16, 15), mode="reflect"), (32, 32))
    opened = open_model(model)
    net = load_net(opened.net().with_batch(100), opened.load_weights())
    expected = forward_patches(net, windows.reshape(-1, 1, 32, 32))[:, 1].reshape(GREY[1].shape)
    found = read(tmp_path / "p.tif")
    assert found.shape == (1,) + GREY[1].shape and found.dtype == np.float32
    assert expected.std() > 0.005
    assert np.abs(found[0] - expected).max() < 1e-6


@pytest.mark.caffe
@pytest.mark.skipif("onnxruntime" not in segment_cases.AVAILABLE, reason="needs onnxruntime")
def test_dense_and_patch_by_patch_are_the_same_up_to_rounding(tmp_path, model, raw):
    segment(request(raw, tmp_path / "dense.tif", model, mode="dense", engine="onnxruntime"))
    segment(request(raw, tmp_path / "patch.tif", model, mode="patch", workers=2))
    assert np.abs(read(tmp_path / "dense.tif") - read(tmp_path / "patch.tif")).max() < 1e-5


def test_tiles_workers_and_slice_ranges_do_not_change_the_result(tmp_path, model, raw, whole):
    expected = read(whole)
    segment(request(raw, tmp_path / "a.tif", model, workers=2, tile=(17, 23)))
    segment(request(raw, tmp_path / "b.tif", model, slices="1:3"))
    assert np.abs(read(tmp_path / "a.tif") - expected).max() < 1e-5
    assert np.abs(read(tmp_path / "b.tif") - expected[1:]).max() < 1e-5


@pytest.fixture
def calibrated_model(tmp_path, model, whole):
    copy = tmp_path / "calibrated"
    shutil.copytree(model, copy)
    info = json.loads((copy / "model.json").read_text())
    own = {"temperature": 1.5, "offset": 0.3, "membrane_share": 0.1}
    (copy / "model.json").write_text(json.dumps({**info, "calibration": own, "threshold": float(np.median(read(whole)))}))
    return copy


def test_calibrated_probabilities_are_bayes_of_the_plain_ones_and_the_mask_stays(tmp_path, calibrated_model, raw):
    plain = segment_to(tmp_path / "p.tif", tmp_path / "m.tif", raw, calibrated_model)
    found = segment_to(tmp_path / "c.tif", tmp_path / "cm.tif", raw, calibrated_model, calibrated=True)
    p = plain[0].astype(np.float64)
    odds = (p / (1 - p)) ** (1 / 1.5) * np.exp(0.3) * 0.1 / 0.9
    assert np.abs(found[0] - odds / (1 + odds)).max() < 1e-6
    assert np.array_equal(found[1], plain[1]) and 0 < (found[1] == 255).mean() < 1
    # A threshold that is asked for is one of the calibrated probabilities, and another share is taken if given.
    level = float(np.median(found[0]))
    other = segment_to(tmp_path / "t.tif", tmp_path / "tm.tif", raw, calibrated_model, calibrated=True, threshold=level)
    assert np.array_equal(other[1] == 255, found[0] >= np.float32(level))
    half = segment_to(tmp_path / "h.tif", tmp_path / "hm.tif", raw, calibrated_model, calibrated=True, membrane_share=0.5)
    assert np.abs(half[0] - odds * 9 / (1 + odds * 9)).max() < 1e-6
    record = read_provenance(tmp_path / "c.tif")
    assert record["manifest"]["options"]["calibration"] == {"temperature": 1.5, "offset": 0.3, "membrane_share": 0.1}


def segment_to(out, mask, raw, model, **options):
    segment(request(raw, out, model, mask_out=str(mask), **options))
    return read(out), read(mask)


def test_calibration_is_refused_where_there_is_none_or_it_says_nothing(tmp_path, model, raw):
    with pytest.raises(UserError, match="has no calibration.*pycaffe_tools.calibrate"):
        segment(request(raw, tmp_path / "p.tif", model, calibrated=True))
    with pytest.raises(UserError, match="--membrane-share.*--calibrated"):
        segment(request(raw, tmp_path / "p.tif", model, membrane_share=0.1))
    assert not list(tmp_path.iterdir())


def test_equal_options_give_equal_bytes_whatever_the_number_of_workers(tmp_path, model, raw):
    segment(request(raw, tmp_path / "a.tif", model, tile=(20, 20)))
    segment(request(raw, tmp_path / "b.tif", model, tile=(20, 20), workers=3))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.skipif(MODE != "dense", reason="needs onnxruntime")
def test_a_net_that_is_not_for_dense_evaluation_is_refused_before_any_work(tmp_path, raw):
    padded = make_model(tmp_path / "padded", padding="pad: 2")
    with pytest.raises(UserError, match="layer c2: .*--mode patch"):
        segment(request(raw, tmp_path / "p.tif", padded))
    assert [file.name for file in tmp_path.iterdir()] == ["padded"]


def test_a_crop_sees_what_lies_beyond_its_edges(tmp_path, model, raw, whole):
    segment(request(raw, tmp_path / "c.tif", model, crop="5:31,20:52", slices="0"))
    assert np.abs(read(tmp_path / "c.tif")[0] - read(whole)[0, 5:31, 20:52]).max() < 1e-5


def test_uint8_uint16_and_float32_of_the_same_values_give_the_same(tmp_path, model, whole):
    for dtype in (np.uint16, np.float32):
        source = write_volume(tmp_path / f"{dtype.__name__}.tif", GREY[:1].astype(dtype))
        out = tmp_path / f"p_{dtype.__name__}.tif"
        segment(request(source, out, model))
        assert np.abs(read(out)[0] - read(whole)[0]).max() < 1e-5


def test_normalisation_is_the_models_own_and_not_the_images(tmp_path, model, whole):
    brighter = write_volume(tmp_path / "raw.tif", (GREY[:1].astype(np.float32) * 0.5 + 60))
    segment(request(brighter, tmp_path / "p.tif", model))
    assert np.abs(read(tmp_path / "p.tif")[0] - read(whole)[0]).max() > 0.01


@pytest.mark.parametrize("name", ["p.tif", "p.h5", "p.h5:/volumes/membrane", "p.zarr"])
def test_formats_hold_the_same_numbers_and_the_pixel_size(tmp_path, model, raw, whole, name):
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    segment(request(raw, tmp_path / name, model))
    with open_volume(tmp_path / name) as volume:
        assert volume.pixel_size == PixelSize(50, 4, 5)
    assert (read(tmp_path / name) == read(whole)).all()


def test_an_unknown_pixel_size_stays_unknown(tmp_path, model):
    source = write_volume(tmp_path / "raw.tif", GREY[:1], PixelSize(None, 4, 5))
    segment(request(source, tmp_path / "p.tif", model, mask_out=str(tmp_path / "m.h5")))
    for name in ("p.tif", "m.h5"):
        with open_volume(tmp_path / name) as volume:
            assert volume.pixel_size == PixelSize(None, 4, 5)


def test_mask_and_uint8_are_the_probabilities_thresholded_and_rounded(tmp_path, model, raw, whole):
    exact = read(whole)
    threshold = float(np.median(exact))
    segment(request(raw, tmp_path / "p.tif", model, dtype="uint8", threshold=threshold, mask_out=str(tmp_path / "m.tif")))
    mask, rounded = read(tmp_path / "m.tif"), read(tmp_path / "p.tif")
    assert mask.dtype == rounded.dtype == np.uint8
    assert (mask == np.where(exact >= np.float32(threshold), 255, 0)).all() and 0.3 < (mask > 0).mean() < 0.7
    assert (rounded == np.floor(exact * np.float32(255) + np.float32(0.5))).all()


def test_overlays_are_the_grey_image_with_the_outline_in_colour(tmp_path, model, raw, whole):
    from matplotlib.image import imread

    threshold = float(np.median(read(whole)))
    segment(request(raw, tmp_path / "p.tif", model, threshold=threshold, overlay_out=str(tmp_path / "o"), slices="0,2"))
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == ["slice_000000.png", "slice_000002.png"]
    picture = np.rint(imread(tmp_path / "o" / "slice_000002.png")[:, :, :3] * 255).astype(int)
    coloured = (picture == MEMBRANE_COLOUR).all(axis=2)
    assert coloured.any() and not coloured[read(whole)[2] < np.float32(threshold)].any()
    grey = picture[~coloured]
    assert (grey[:, :1] == grey).all()


def test_the_outline_of_a_square_is_its_rim():
    mask = np.zeros((7, 7), bool)
    mask[2:5, 2:5] = True
    picture = overlay(np.full((7, 7), 50, np.uint8), mask, (0, 100))
    coloured = (picture == MEMBRANE_COLOUR).all(axis=2)
    expected = mask.copy()
    expected[3, 3] = False
    assert (coloured == expected).all() and (picture[3, 3] == 127).all()


def test_parts_of_array_jobs_merge_to_the_bytes_of_the_whole(tmp_path, model, raw, capfd):
    parts = []
    for number, slices in enumerate(("0:1", "1:3")):
        parts.append(tmp_path / f"part{number}.tif")
        segment(request(raw, parts[-1], model, slices=slices, tile=(20, 26), mask_out=str(tmp_path / f"m{number}.tif")))
    segment(request(raw, tmp_path / "p.tif", model, tile=(20, 26), mask_out=str(tmp_path / "m.tif")))
    assert run_cli("--merge", parts[1], parts[0], "-o", tmp_path / "merged.tif") == 0
    assert (tmp_path / "merged.tif").read_bytes() == (tmp_path / "p.tif").read_bytes()
    assert run_cli("--merge", tmp_path / "m0.tif", tmp_path / "m1.tif", "-o", tmp_path / "mm.tif") == 0
    assert (tmp_path / "mm.tif").read_bytes() == (tmp_path / "m.tif").read_bytes()

    capfd.readouterr()
    for wrong, sentence in [((parts[0],), "slices 1:3 of the input are in none"),
                            ((parts[0], parts[1], parts[0]), "must not overlap"),
                            ((parts[0], tmp_path / "m1.tif"), "content is 'mask'"),
                            ((parts[0], raw), "is not a finished output")]:
        assert run_cli("--merge", *wrong, "-o", tmp_path / "no.tif") == 1
        assert sentence in capfd.readouterr().err
        assert not (tmp_path / "no.tif").exists()
    assert run_cli("--merge", parts[1], "-o", tmp_path / "some.tif", "--slices", "1:3") == 0


@pytest.mark.parametrize("slices, count", [(None, 3), ("1:6,8", 4)])
def test_numbered_parts_are_worked_out_and_merge_to_the_bytes_of_the_whole(tmp_path, model, slices, count):
    source = write_volume(tmp_path / "raw.tif", grey_values(slices=9, rows=24, columns=24))
    segment(request(source, tmp_path / "p.tif", model, tile=(24, 24), slices=slices))
    ranges = ["--slices", slices] if slices else []
    found = []
    for number in range(1, count + 1):
        out = tmp_path / f"part{number}.tif"
        assert run_cli(source, "-o", out, "--model", model, "--mode", MODE, "--tile", "24x24", *ranges, "--part",
                       f"{number}/{count}") == 0
        record = read_provenance(out)
        assert record["manifest"]["options"]["part"] == f"{number}/{count}"
        found.append([int(z) for z in record["slices"]])
    assert sum(found, []) == ([1, 2, 3, 4, 5, 8] if slices else list(range(9)))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert run_cli("--merge", *(tmp_path / f"part{number}.tif" for number in range(count, 0, -1)), *ranges, "-o",
                   tmp_path / "merged.tif") == 0
    assert (tmp_path / "merged.tif").read_bytes() == (tmp_path / "p.tif").read_bytes()
    whole, merged = read_provenance(tmp_path / "p.tif"), read_provenance(tmp_path / "merged.tif")
    assert merged["manifest"]["options"] == whole["manifest"]["options"] and merged["slices"] == whole["slices"]


@pytest.mark.parametrize("part, sentence", [("0/3", "not a part"), ("4/3", "not a part"), ("1", "not a part"), ("1/0", "not a part"),
                                            ("1/4", "only 3 slices; ask for at most 3 parts")])
def test_parts_that_there_are_not_are_refused(tmp_path, model, raw, part, sentence, capfd):
    assert run_cli(raw, "-o", tmp_path / "p.tif", "--model", model, "--mode", MODE, "--part", part) == 1
    assert sentence in capfd.readouterr().err and not list(tmp_path.iterdir())

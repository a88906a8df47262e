"""What makes a database senseless is refused in one sentence, and nothing is left behind."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from .cases import SHAPE, changed, check_refused, make, membrane, numbered, saved


def test_shapes_that_differ(tmp_path):
    check_refused(tmp_path, changed(tmp_path, labels=membrane()[:, :-1]), r"\(8, 39, 50\).*\(8, 40, 50\)")


def test_no_membrane_pixel(tmp_path):
    check_refused(tmp_path, changed(tmp_path, labels=0 * membrane()), "no membrane pixel in the 6 training slices")
    labels = membrane()
    labels[6:] = 0
    check_refused(tmp_path, changed(tmp_path, labels=labels), "no membrane pixel in the 2 validation slices")


def test_fewer_pixels_than_asked(tmp_path, pair):
    found = int((membrane()[:6] == 255).sum())
    check_refused(tmp_path, pair, f"{found} membrane pixels in the training slices .* --train {2 * found}", train=10 ** 5)


def test_nan(tmp_path):
    for value, z in ((np.nan, 2), (np.inf, 7)):
        raw = numbered()
        raw[z, 3, 3] = value
        check_refused(tmp_path, changed(tmp_path, raw=raw), f"slice {z} holds NaN")


def test_rgb(tmp_path, pair):
    tifffile.imwrite(pair.raw, np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    check_refused(tmp_path, pair, "RGB")


@pytest.mark.parametrize("kept", [0, 10, 300, 0.5, 0.99])
def test_truncated_tiff(tmp_path, pair, kept):
    for name in (pair.raw, pair.labels):
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[:kept if kept >= 1 or kept == 0 else int(kept * len(whole))])
        check_refused(tmp_path, pair, Path(name).name)
        Path(name).write_bytes(whole)


def test_more_than_half_membrane_hints_at_the_wrong_value_unless_forced(tmp_path, pair):
    check_refused(tmp_path, pair, "--membrane-value 255", membrane_value=0)
    assert make(pair, tmp_path / "db", membrane_value=0, force=True).info["class_balance"] > 0.5


def test_filled_mitochondria_marked_with_the_wrong_value(tmp_path):
    masks = np.zeros(SHAPE, np.uint8)
    masks[:, 8:20, 10:25] = 255
    check_refused(tmp_path, changed(tmp_path, labels=masks), "--membrane-value", labels_are="mitochondria", membrane_value=0)


def test_labels_with_grey_values(tmp_path):
    labels = membrane()
    labels[4, 5, 6] = 37
    check_refused(tmp_path, changed(tmp_path, labels=labels), "37")


def test_constant_image(tmp_path):
    check_refused(tmp_path, changed(tmp_path, raw=np.full(SHAPE, 7, np.uint8)), "all grey values")


def test_odd_totals_slices_and_stacks_that_make_no_sense(tmp_path, pair):
    check_refused(tmp_path, pair, "even", train=101)
    check_refused(tmp_path, pair, "even", val=0)
    check_refused(tmp_path, pair._replace(val_slices="6:9"), "--val-slices 6:9")
    check_refused(tmp_path, pair._replace(val_slices=":"), "no slice for training")
    check_refused(tmp_path, pair._replace(val_slices="none"), "no slice for validation")
    check_refused(tmp_path, [pair, pair], "same stack")
    check_refused(tmp_path, saved(tmp_path, numbered()[0], membrane()[0], "b"), "one usable slice")
    check_refused(tmp_path, pair._replace(raw=str(tmp_path / "none.tif")), "no such file")


def test_existing_output_is_refused_and_kept_unless_forced(tmp_path, pair):
    make(pair, tmp_path / "db")
    before = (tmp_path / "db" / "train_000.h5").read_bytes()
    check_refused(tmp_path, pair, "exists already", seed=1)
    assert (tmp_path / "db" / "train_000.h5").read_bytes() == before
    make(pair, tmp_path / "db", seed=1, force=True)
    assert (tmp_path / "db" / "train_000.h5").read_bytes() != before

"""The reproduction's stacks from a data set's own files: the pixels of the list, or nothing."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.datasets.catalogue import files_of, known
from pycaffe_tools.datasets.stacks import build_stacks
from pycaffe_tools.reproduce.catalogue import DATA_SETS
from pycaffe_tools.volumes.opening import open_volume

from ..conftest import ROOT

pytest.importorskip("PIL")
tifffile = pytest.importorskip("tifffile")

EM = ROOT.parent / "shared" / "em"


def png(pixels):
    from PIL import Image
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tif(pixels):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels)
    return stream.getvalue()


def entry(raw, labels, **more):
    """An entry of the list for two stacks of slices 3 and 7."""
    def stack(pattern, pixels, labels):
        return {"slices": pattern, "numbers": [3, 7], "labels": labels,
                "pixels_sha256": hashlib.sha256(np.stack(pixels).tobytes()).hexdigest()}
    return {"title": "a data set", "pixel_size_nm": [50, 4, 4], **more,
            "stacks": {"raw.tif": stack("raw/{:02d}.tif", raw, False), "labels.tif": stack("labels/{:02d}.png", labels, True)}}


@pytest.fixture
def pixels():
    random = np.random.RandomState(0)
    raw = [random.randint(0, 256, (6, 5)).astype(np.uint8) for _ in range(2)]
    drawn = [random.randint(0, 256, (6, 5)).astype(np.uint8) for _ in range(2)]
    # 127 is not marked, 128 is: worked by hand.
    drawn[0][0, :2] = 127, 128
    marked = [np.where(image >= 128, 255, 0).astype(np.uint8) for image in drawn]
    return raw, drawn, marked


def fill(folder, raw, drawn):
    for name, image in [("raw/03.tif", tif(raw[0])), ("raw/07.tif", tif(raw[1])),
                        ("labels/03.png", png(drawn[0])), ("labels/07.png", png(drawn[1]))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)


def test_slices_of_a_folder_become_stacks_with_their_pixel_size(pixels, tmp_path):
    raw, drawn, marked = pixels
    fill(tmp_path / "in", raw, drawn)
    build_stacks("x", entry(raw, marked), tmp_path / "in", tmp_path / "out")
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "raw.tif"), raw)
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "labels.tif"), marked)
    with open_volume(tmp_path / "out" / "labels.tif") as volume:
        assert volume.pixel_size.as_list() == pytest.approx([50, 4, 4])


def test_slices_of_an_archive_and_masks_of_one_bit(pixels, tmp_path):
    raw, drawn, marked = pixels
    fill(tmp_path / "in", raw, [image > 127 for image in drawn])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted((tmp_path / "in").rglob("*.*")):
            archive.write(file, file.relative_to(tmp_path / "in").as_posix())
    build_stacks("x", entry(raw, marked, archive="all.zip"), tmp_path, tmp_path / "out")
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "labels.tif"), marked)


def test_opaque_alpha_and_equal_colours_are_dropped_and_real_ones_refused(pixels, tmp_path):
    raw, drawn, marked = pixels
    opaque = np.full_like(drawn[0], 255)
    fill(tmp_path / "in", raw, [np.dstack([drawn[0], opaque]), np.dstack([drawn[1]] * 3 + [opaque])])
    build_stacks("x", entry(raw, marked), tmp_path / "in", tmp_path / "out")
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "labels.tif"), marked)
    fill(tmp_path / "colour", raw, [np.dstack([drawn[0], drawn[1], drawn[0]]), drawn[1]])
    with pytest.raises(UserError, match="labels/03.png: is not a grey image"):
        build_stacks("x", entry(raw, marked), tmp_path / "colour", tmp_path / "other")


def test_other_pixels_than_those_of_the_results_are_not_written(pixels, tmp_path):
    raw, drawn, marked = pixels
    raw[1] = raw[1].copy()
    listed = entry(raw, marked)
    raw[1][0, 0] ^= 1
    fill(tmp_path / "in", raw, drawn)
    with pytest.raises(UserError, match="not written, since its pixels have SHA-256"):
        build_stacks("x", listed, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "raw.tif").exists()


def test_what_is_missing_or_damaged_is_said_with_the_way_to_get_it(pixels, tmp_path):
    raw, drawn, marked = pixels
    with pytest.raises(UserError, match="raw/03.tif: there is no such file; fetch it with .*datasets fetch x -o"):
        build_stacks("x", entry(raw, marked), tmp_path, tmp_path / "out")
    zipped = entry(raw, marked, archive="all.zip")
    with pytest.raises(UserError, match="all.zip: there is no such file; fetch it"):
        build_stacks("x", zipped, tmp_path, tmp_path / "out")
    (tmp_path / "all.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match="all.zip: is not a readable archive"):
        build_stacks("x", zipped, tmp_path, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("raw/03.tif", bytes(5000))
    damaged = bytearray((tmp_path / "all.zip").read_bytes())
    damaged[42:50] = b"\xff" * 8
    (tmp_path / "all.zip").write_bytes(damaged)
    with pytest.raises(UserError, match="all.zip: is not a readable archive"):
        build_stacks("x", zipped, tmp_path, tmp_path / "out")
    zipfile.ZipFile(tmp_path / "all.zip", "w").close()
    with pytest.raises(UserError, match="all.zip: holds no raw/03.tif"):
        build_stacks("x", zipped, tmp_path, tmp_path / "out")
    fill(tmp_path / "in", raw, drawn)
    (tmp_path / "in" / "raw" / "07.tif").write_bytes(b"no image")
    with pytest.raises(UserError, match="raw/07.tif: is not a readable image"):
        build_stacks("x", entry(raw, marked), tmp_path / "in", tmp_path / "out")
    with pytest.raises(UserError, match="reads no stack of this data set"):
        build_stacks("isbi2012", known()["isbi2012"], tmp_path, tmp_path / "out")


def test_stacks_that_exist_are_not_replaced_silently(pixels, tmp_path):
    raw, drawn, marked = pixels
    fill(tmp_path / "in", raw, drawn)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.tif").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        build_stacks("x", entry(raw, marked), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.tif"]
    build_stacks("x", entry(raw, marked), tmp_path / "in", tmp_path / "out", force=True)
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "labels.tif"), marked)


def test_the_list_makes_every_stack_that_the_reproduction_reads():
    made = {stack for found in known().values() for stack in found.get("stacks", {})}
    for name in ("epfl", "vnc"):
        data = DATA_SETS[name]
        definitions = [definition for definition in (data.main, data.second) if definition]
        read = {data.raw, *(definition.labels for definition in definitions)}
        assert read | {definition.exclude for definition in definitions if definition.exclude} <= made


def test_every_slice_of_a_stack_is_in_a_file_of_the_list():
    listed = known()["epfl-boundaries"]
    names = {file["name"] for file in files_of(listed)}
    assert len(names) == 3 * 27 and all(file["url"].startswith("https://") for file in files_of(listed))
    for stack in listed["stacks"].values():
        assert {stack["slices"].format(number) for number in stack["numbers"]} <= names


@pytest.mark.skipif(not EM.is_dir(), reason="the labelled stacks are not beside this checkout")
@pytest.mark.parametrize("name", ["epfl-boundaries", "vnc"])
def test_the_public_layout_gives_the_very_stacks(name, tmp_path):
    """The stacks at hand, taken apart into files as the authors publish them, come back pixel by pixel."""
    listed = known()[name]
    for file, stack in listed["stacks"].items():
        for number, image in zip(stack["numbers"], tifffile.imread(EM / file)):
            target = tmp_path / "in" / stack["slices"].format(number)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tif(image) if target.suffix == ".tif" else png(image))
    if "archive" in listed:
        with zipfile.ZipFile(tmp_path / "in" / listed["archive"], "w") as archive:
            for path in sorted((tmp_path / "in").rglob("*.*")):
                if path.is_file() and path.suffix != ".zip":
                    archive.write(path, path.relative_to(tmp_path / "in").as_posix())
    for path in build_stacks(name, listed, tmp_path / "in", tmp_path / "out"):
        assert np.array_equal(tifffile.imread(path), tifffile.imread(EM / path.name))

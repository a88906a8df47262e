"""The synthetic volume: deterministic, three-dimensional, and neither trivial nor wrong about its labels."""

import numpy as np
import pytest
from click.testing import CliRunner

from pycaffe_tools import synth
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.datasets import scene
from pycaffe_tools.datasets.tissue import Cells, Waves
from pycaffe_tools.evaluate.pixels import roc_auc
from pycaffe_tools.volumes.opening import open_volume

FILES = ("raw.tif", "membranes.tif", "mitochondria.tif")


@pytest.fixture(scope="module")
def drawn():
    """Two neighbouring slices of the default size, and one 80 nm farther (seed 0)."""
    slices = list(scene.Scene(slices=18, size=256, seed=0).slices())
    return slices[0], slices[1], slices[17]


def test_writes_three_calibrated_stacks_whose_labels_are_0_and_255(tmp_path):
    result = CliRunner().invoke(synth.cli, [str(tmp_path / "v"), "--slices", "2", "--size", "96", "--pixel-size", "4"])
    assert result.exit_code == 0, result.output
    for name in FILES:
        with open_volume(tmp_path / "v" / name) as volume:
            assert volume.shape == (2, 96, 96)
            assert volume.dtype == np.uint8
            assert volume.pixel_size.as_list() == pytest.approx([4, 4, 4])
            if name != "raw.tif":
                assert set(np.unique(volume.read(0))) <= {0, 255}
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == sorted(FILES)


def test_a_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path):
    for folder, seed in (("one", 3), ("again", 3), ("other", 4)):
        scene.write_synthetic(tmp_path / folder, slices=2, size=96, seed=seed)
    for name in FILES:
        content = [(tmp_path / folder / name).read_bytes() for folder in ("one", "again", "other")]
        assert content[0] == content[1]
        assert content[0] != content[2] or name == "mitochondria.tif"


def test_membranes_are_a_realistic_share_of_the_pixels(drawn):
    assert 0.12 < (drawn[0].membranes > 0).mean() < 0.28


def test_membranes_are_dark_but_darkness_does_not_find_them(drawn):
    darkness = 255 - drawn[0].raw.astype(float)
    assert 0.75 < roc_auc(darkness, drawn[0].membranes > 0) < 0.94


def test_a_mitochondrions_outline_is_membrane_and_its_inside_is_not(drawn):
    ndimage = pytest.importorskip("scipy.ndimage")
    inside = drawn[0].mitochondria > 0
    assert inside.mean() > 0.01
    rim = inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=1)
    core = ndimage.binary_erosion(inside, iterations=9, border_value=1)
    assert (drawn[0].membranes[rim] > 0).mean() > 0.97
    assert (drawn[0].membranes[core] > 0).mean() < 0.10


def test_slices_continue_each_other_and_fade_with_distance(drawn):
    def alike(one, other):
        return np.corrcoef(one.membranes.ravel(), other.membranes.ravel())[0, 1]

    assert alike(drawn[0], drawn[1]) > 0.8
    assert alike(drawn[0], drawn[2]) < 0.6


def test_the_noise_of_two_slices_is_independent(drawn):
    fine = [image.raw.astype(float) for image in drawn[:2]]
    fine = [image[1:-1, 1:-1] - (image[:-2, 1:-1] + image[2:, 1:-1]) / 2 for image in fine]
    assert abs(np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1]) < 0.2


def test_the_grain_changes_from_slice_to_slice_but_not_its_strength():
    texture = scene._Texture(np.random.default_rng(0), 200, 5.0)
    first, second, *rest = [next(texture) for _ in range(12)]
    assert 0.8 < np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.99
    assert abs(np.corrcoef(first.ravel(), rest[-1].ravel())[0, 1]) < 0.6
    expected = np.hypot(*(deviation for _, deviation in scene._Texture.SCALES))
    assert first.std() == pytest.approx(expected, rel=0.1)
    assert rest[-1].std() == pytest.approx(expected, rel=0.1)


def test_waves_on_a_grid_are_the_waves_at_its_points():
    waves = Waves(np.random.default_rng(0), 200.0, 3.0)
    y, x = np.arange(7) * 5.0, np.arange(9) * 4.0
    points = np.array([[30.0, b, a] for b in y for a in x])
    np.testing.assert_allclose(waves.on_slice(30.0, y, x).ravel(), waves.at(points), atol=1e-9)


def test_sites_that_are_left_out_never_matter():
    cells = Cells(np.random.default_rng(1), thickness=40.0, extent=1500.0)
    axis = np.linspace(0, 1500, 60)
    points = np.array([[25.0, b, a] for b in axis for a in axis])
    shift = np.stack([sum(wave.at(points) for wave in pair) for pair in cells.warp], axis=1)
    at = points[:, None, 1:] + shift[:, None] - cells.centre - cells.slope * (25.0 - cells.middle)
    angle = cells.angle + cells.turn * (25.0 - cells.middle)
    along = (np.cos(angle) * at[..., 0] + np.sin(angle) * at[..., 1]) * np.sqrt(cells.aspect)
    across = (np.cos(angle) * at[..., 1] - np.sin(angle) * at[..., 0]) / np.sqrt(cells.aspect)
    distance = np.sqrt(along ** 2 + across ** 2) / cells.radius
    nearest = np.sort(distance, axis=1)
    for gap, cell in (cells.gap(points), cells.gap_on_slice(25.0, axis, axis)):
        np.testing.assert_array_equal(cell.ravel(), distance.argmin(axis=1))
        np.testing.assert_allclose(gap.ravel(), nearest[:, 1] - nearest[:, 0], atol=1e-9)


def test_a_depth_rises_no_faster_than_the_way():
    depth = np.full((20, 20), 1e3)
    depth[4, 5] = -7.0
    rows, columns = np.mgrid[:20, :20]
    limited = scene._at_most_rising(depth, pixel=5.0)
    dy, dx = np.abs(rows - 4), np.abs(columns - 5)
    # The shortest way by steps along rows, columns and diagonals.
    octile = 5.0 * (np.maximum(dy, dx) + (np.sqrt(2) - 1) * np.minimum(dy, dx))
    near = np.maximum(dy, dx) < 15
    np.testing.assert_allclose(limited[near], (octile - 7.0)[near])


def test_an_existing_folder_is_refused_and_replaced_only_with_force(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="--force"):
        scene.write_synthetic(tmp_path / "v", slices=1, size=64)
    assert (tmp_path / "v" / "mine.txt").read_text() == "keep"
    with pytest.raises(UserError, match="holds other files"):
        scene.write_synthetic(tmp_path / "v", slices=1, size=64, force=True)
    assert (tmp_path / "v" / "mine.txt").read_text() == "keep"
    (tmp_path / "v" / "mine.txt").rename(tmp_path / "v" / "raw.tif")
    scene.write_synthetic(tmp_path / "v", slices=1, size=64, force=True)
    assert (tmp_path / "v" / "raw.tif").read_bytes() != b"keep"


@pytest.mark.parametrize("wrong", [dict(slices=0), dict(size=8), dict(pixel_size=0.0), dict(pixel_size=float("nan")),
                                   dict(seed=-1)])
def test_sizes_that_make_no_volume_are_refused_in_one_sentence(tmp_path, wrong):
    with pytest.raises(UserError, match="cannot draw"):
        scene.write_synthetic(tmp_path / "v", **wrong)
    assert not (tmp_path / "v").exists()

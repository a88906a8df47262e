"""Tiles cover a region once, and a pixel sees the same patch in whichever tile it lies."""

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.ranges import Region, parse_region, parse_tile
from pycaffe_tools.segment.slices.tiles import PaddedSlice, even_tile, grid


@pytest.mark.parametrize("region, tile", [((7, 5), (3, 2)), ((4, 4), (4, 4)), ((1, 9), (5, 5)), ((10, 10), (1, 10))])
def test_a_grid_covers_every_pixel_exactly_once(region, tile):
    count = np.zeros(region, int)
    for part in grid(region, tile):
        count[part.top:part.bottom, part.left:part.right] += 1
        assert part.shape[0] <= tile[0] and part.shape[1] <= tile[1]
    assert (count == 1).all()


def test_even_tiles_are_as_few_and_leave_less_over():
    assert even_tile((256, 256), (300, 512)) == (152, 256)
    assert even_tile((256, 256), (256, 100)) == (256, 100)
    for region in [(301, 3069), (2301, 5), (64, 65)]:
        even = even_tile((256, 192), region)
        assert even[0] <= 256 and even[1] <= 192
        assert len(grid(region, even)) == len(grid(region, (256, 192)))


@pytest.mark.parametrize("crop", [None, "3:29,0:17", ":,20:"])
def test_each_pixel_of_each_tile_has_its_own_mirrored_patch_in_the_middle(crop):
    image = np.random.default_rng(0).integers(0, 255, (33, 41)).astype(np.uint8)
    region = parse_region(crop, image.shape)
    padded = PaddedSlice(image, region, (16, 15))
    for tile in grid(region.shape, (11, 14)):
        piece = padded.cut(tile)
        assert piece.shape == (tile.shape[0] + 31, tile.shape[1] + 31) and piece.dtype == image.dtype
        for row in range(tile.shape[0]):
            for column in range(tile.shape[1]):
                y, x = region.top + tile.top + row, region.left + tile.left + column
                # Mirrored without repeating the border pixel, worked out by index.
                rows = [abs(r) if r < 33 else 64 - r for r in range(y - 16, y + 16)]
                columns = [abs(c) if c < 41 else 80 - c for c in range(x - 16, x + 16)]
                assert (piece[row:row + 32, column:column + 32] == image[np.ix_(rows, columns)]).all()


def test_slices_smaller_than_half_a_patch_are_mirrored_again_and_again():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    piece = PaddedSlice(image, Region(0, 3, 0, 4), (16, 15)).cut(Region(0, 3, 0, 4))
    rows = [(0, 1, 2, 1)[(y % 4)] for y in range(-16, 18)]
    columns = [(0, 1, 2, 3, 2, 1)[x % 6] for x in range(-16, 19)]
    assert (piece == image[np.ix_(rows, columns)]).all()


@pytest.mark.parametrize("text", ["1:2", "0:5,0:99", "4:4,0:3", "a:b,0:1", "0:1,0:1,0:1", "-3:2,0:1"])
def test_a_region_that_is_none_is_refused_with_its_text(text):
    with pytest.raises(UserError, match=f"--crop {text}"):
        parse_region(text, (10, 10))


def test_tile_sizes_are_written_as_height_times_width():
    assert parse_tile("128x64") == (128, 64)
    for wrong in ("128", "0x4", "x", "4x4x4"):
        with pytest.raises(UserError, match="--tile"):
            parse_tile(wrong)

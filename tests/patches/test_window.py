"""A patch is centred on its pixel, and beyond the border the slice is mirrored."""

import numpy as np
import pytest

from pycaffe_tools.patches.window import extract_patches, reflect_pad

from .cases import numbered


def test_classified_pixel_is_element_16_16_and_borders_are_mirrored():
    image = numbered((40, 50))
    ys, xs = np.divmod(np.arange(image.size), 50)
    cut = extract_patches(image, ys, xs)
    np.testing.assert_array_equal(cut[:, 16, 16], image[ys, xs])
    inside = extract_patches(image, np.array([20]), np.array([30]))[0]
    np.testing.assert_array_equal(inside, image[4:36, 14:46])
    # Mirrored without repeating the border pixel: row -1 is row 1.
    reflected = [[abs(y) if y < 40 else 78 - y for y in range(Y - 16, Y + 16)] for Y in ys]
    mirrored = [[abs(x) if x < 50 else 98 - x for x in range(X - 16, X + 16)] for X in xs]
    expected = image[np.array(reflected)[:, :, np.newaxis], np.array(mirrored)[:, np.newaxis, :]]
    np.testing.assert_array_equal(cut, expected)


def test_slices_smaller_than_the_border_are_mirrored_repeatedly():
    line = reflect_pad(np.array([[0, 1, 2]] * 3), 5, 4)[0]
    assert line.tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]


@pytest.mark.parametrize("size", [5, 8, 32])
def test_patches_of_other_sizes_follow_the_same_convention(size):
    image = numbered((40, 50))
    cut = extract_patches(image, np.array([20]), np.array([25]), size)[0]
    assert cut.shape == (size, size) and cut[size // 2, size // 2] == image[20, 25]

"""The palette of DAVIS and VOC masks."""

import numpy as np

from utils.palette import davis_palette


def voc_colour(number: int) -> tuple[int, int, int]:
    """The colour of an id as the VOC development kit computes it."""
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (number & 1) << shift
        green |= (number >> 1 & 1) << shift
        blue |= (number >> 2 & 1) << shift
        number >>= 3
    return red, green, blue


def test_palette_begins_with_the_davis_colours():
    assert [tuple(colour) for colour in davis_palette()[:10].tolist()] == [
        *[(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)],
        *[(128, 0, 128), (0, 128, 128), (128, 128, 128), (64, 0, 0), (192, 0, 0)],
    ]


def test_palette_is_the_voc_one_and_has_256_colours():
    palette = davis_palette()
    assert (palette.shape, palette.dtype) == ((256, 3), np.uint8)
    assert [tuple(colour) for colour in palette.tolist()] == [voc_colour(number) for number in range(256)]
    assert len(np.unique(palette, axis=0)) == 256
    assert palette[255].tolist() == [224, 224, 192]

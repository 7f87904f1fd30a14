"""Normalised Lab for people to see; test_any_size.py tests the conversion to it."""

import numpy as np
import torch

from functional.color import normalised_lab, reconstruction_picture, to_rgb


def test_frames_come_back_as_rgb():
    frame = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    difference = to_rgb(normalised_lab(frame)).astype(int) - frame[..., ::-1]
    assert abs(difference).max() <= 1


def grey(lightness: float) -> torch.Tensor:
    """A map of 2×3 pixels; lightness: -1 is black, 1 white."""
    return torch.tensor([lightness, 0.0, 0.0]).view(3, 1, 1).expand(3, 2, 3)


def test_greys_are_rounded():
    """L = 50 is 118.9 in sRGB."""
    for lightness, value in ((-1, 0), (0, 119), (1, 255)):
        assert (to_rgb(grey(lightness)) == value).all()


def test_reconstruction_picture_by_hand():
    """L = 75 is 184.6 in sRGB; the error is that of the normalised channel, 0.5."""
    picture = reconstruction_picture(grey(-1), grey(0), torch.full((1, 1, 1), 0.5), channel=0)
    row = np.repeat([0, 119, 185, 127], 3)
    np.testing.assert_array_equal(picture, np.broadcast_to(row[:, None], (2, 12, 3)))

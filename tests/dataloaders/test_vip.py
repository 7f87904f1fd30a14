"""Reading VIP: the classes that are given, and what is refused."""

import numpy as np
import pytest

from dataloaders.vip import load_videos
from tests.support.vip import SIZE, write_set
from utils.errors import UserError
from utils.visualize import write_mask


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


def test_classes_that_are_none_of_the_20_are_given_as_background(root):
    (video,) = load_videos(root, ["a"])
    mask = np.zeros(SIZE, np.uint8)
    mask[0, :4] = 1, 19, 20, 255
    write_mask(video.masks[0], mask)
    mask[0, 2:4] = 0
    np.testing.assert_array_equal(video.given(), mask)


def test_masks_that_are_missing_or_of_another_size(root):
    (video,) = load_videos(root, ["a"])
    write_mask(video.masks[0], np.ones((5, 6), np.uint8))
    with pytest.raises(UserError, match=r"6x5.*60x36"):
        video.given()
    video.masks[3].unlink()
    with pytest.raises(UserError, match=f"{video.masks[3]}: no such file"):
        load_videos(root, None)

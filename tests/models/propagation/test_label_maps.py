"""Labels between masks and the feature grid."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.propagation import ToGrid, ToMask
from models.propagation.label_maps import resize_nearest, to_grid, to_mask


def random_mask(height: int, width: int, labels: int = 40) -> torch.Tensor:
    return torch.randint(labels, (height, width), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(31, 53), (55, 57), (24, 80), (1, 1), (101, 93)])
def test_nearest_is_pillows(size):
    """Pillow's nearest neighbour is that of the pixels' centres; cv2.INTER_NEAREST is another."""
    mask = random_mask(48, 80)
    expected = Image.fromarray(mask.numpy().astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    clear = [(2 * np.arange(new) + 1) * old % (2 * new) != 0 for old, new in zip(mask.shape, size, strict=True)]
    where = np.ix_(*clear)  # a centre halfway between two pixels may take either
    assert np.array_equal(resize_nearest(mask, size).numpy()[where], np.array(expected)[where])


def test_a_mask_comes_down_to_the_grid():
    """One row of two cells of four pixels: the first one's corner is 0, its centre 2, its middle half 1 and half 2."""
    mask = torch.tensor([[0, 1, 2, 2, 3, 3, 3, 3]] * 4)
    found = {
        rule: to_grid(mask, rule, (1, 2), stride=4, channels=4)[:, 0].T.tolist()
        for rule in (ToGrid.CORNER, ToGrid.CENTRE, ToGrid.BILINEAR)
    }
    assert found == {
        ToGrid.CORNER: [[1, 0, 0, 0], [0, 0, 0, 1]],
        ToGrid.CENTRE: [[0, 0, 1, 0], [0, 0, 0, 1]],
        ToGrid.BILINEAR: [[0, 0.5, 0.5, 0], [0, 0, 0, 1]],
    }


def test_many_labels_are_resized_as_few_are():
    mask = random_mask(24, 40)
    whole = torch.nn.functional.one_hot(mask, 40).permute(2, 0, 1).float()[None]
    expected = torch.nn.functional.interpolate(whole, (5, 8), mode="bilinear", align_corners=False)[0]
    assert torch.equal(to_grid(mask, ToGrid.BILINEAR, (5, 8), stride=5, channels=40), expected)


@pytest.mark.parametrize(
    ("rule", "expected"), [(ToMask.CROPPED, [0] * 4), (ToMask.DIRECT, [0] * 4), (ToMask.STRETCHED, [1, 2, 0, 0])]
)
def test_a_mask_of_soft_labels(rule, expected):
    """Label 2 never has the largest weight, but where each label's map is rescaled it is the largest in one cell."""
    soft = torch.tensor([[[0.6, 0.7, 0.9, 1.0]], [[0.4, 0.0, 0.0, 0.0]], [[0.0, 0.3, 0.1, 0.0]]])
    assert to_mask(soft, rule, (4, 16), (4, 16), stride=4)[2, 2::4].tolist() == expected
    enlarged = to_mask(soft, rule, (4, 16), (8, 32), stride=4)
    assert enlarged.shape == (8, 32)
    assert enlarged[4, 4::8].tolist() == expected


def test_only_one_rule_crops():
    """A frame of 6 pixels, padded to 2 cells of 4: where the border between the cells lies in the mask."""
    soft = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    found = {rule: to_mask(soft, rule, (4, 6), (4, 6), stride=4)[0].tolist() for rule in ToMask}
    assert found[ToMask.CROPPED] == [0, 0, 0, 0, 1, 1]
    assert found[ToMask.DIRECT] == found[ToMask.STRETCHED] == [0, 0, 0, 1, 1, 1]

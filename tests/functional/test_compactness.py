"""The two largest weights of a window, around which the compactness prior puts its Gaussians."""

import torch

from functional.compactness import two_gaussians, two_largest
from tests.support.problems import normal


def test_two_largest():
    logits = normal(30, 4, 5, 7)
    logits[:10, :, 2:] = -torch.inf  # one row is left, or two
    logits[:5, :, 1:] = -torch.inf
    values, rows, columns = two_largest(logits)
    expected, cells = logits.flatten(2).topk(2)
    assert torch.equal(values, expected)
    assert torch.equal(7 * rows + columns, cells)


def test_two_gaussians_of_a_single_cell():
    assert two_gaussians(torch.ones(1, 1)).item() == 1

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


def test_of_equal_cells_the_first_in_row_major_order_is_larger():
    logits = torch.zeros(2, 3, 4)
    logits[1, 2, 1] = 1
    _, rows, columns = two_largest(logits)
    assert rows.tolist() == [[0, 0], [2, 0]]
    assert columns.tolist() == [[0, 1], [1, 0]]

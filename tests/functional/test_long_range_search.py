"""The long-range search against its plain definition in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from functional.long_range_search import expected_offset, search_dilation
from tests.support import dense
from tests.support.problems import SIZES, normal, problem


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_expected_offset(size, dilation, backend):
    query, keys, _ = problem(size)
    offset = expected_offset(query, keys[:, 0], 2, dilation, backend=backend)
    torch.testing.assert_close(offset, dense.expected_offset(query, keys[:, 0], 2, dilation))


def test_expected_offset_gradient():
    inputs = normal(1, 2, 3, 4).requires_grad_(), normal(1, 2, 3, 4, seed=1).requires_grad_()
    assert gradcheck(lambda q, k: expected_offset(q, k, 1, 2), inputs)


def test_expected_offset_finds_a_shift():
    """The shift (3, -2) of a sharp feature map."""
    key = torch.nn.functional.one_hot(torch.arange(30 * 40).view(30, 40)).permute(2, 0, 1)[None].float() * 100
    query = torch.roll(key, (2, -3), (2, 3))  # query[y, x] = key[y - 2, x + 3]
    offset = expected_offset(query, key, 5, 1)[0, :, 8:-8, 8:-8]
    torch.testing.assert_close(offset, torch.tensor([3.0, -2.0]).view(2, 1, 1).expand_as(offset))


@pytest.mark.parametrize(
    ("gap", "dilation"), [(1, None), (15, None), (16, 2), (29, 2), (30, 3), (44, 3), (45, 4), (60, 4), (1000, 4)]
)
def test_search_dilation(gap, dilation):
    assert search_dilation(gap) == dilation

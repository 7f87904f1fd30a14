"""Reconstruction against a plain softmax over all logits."""

import pytest
import torch
from torch.autograd import gradcheck

from functional.reconstruction import Negatives, negatives_log_sum_exp, reconstruct, reconstruct_inter
from tests.support import dense
from tests.support.problems import normal

SHAPES = [(2, 3, 5, 6, 4, 1), (3, 4, 4, 3, 5, 2), (1, 2, 1, 1, 3, 1), (2, 3, 9, 8, 3, 3)]  # B, C, H, W, N, radius


def problem(shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Negatives, int]:
    """query and key [B, C, H, W], colours [B, 1, H, W], negatives (each sample uses all but one), radius."""
    batch, channels, height, width, count, radius = shape
    used = torch.ones(batch, count, dtype=torch.bool)
    used[torch.arange(batch), torch.arange(batch) % count] = False
    negatives = Negatives(normal(height, width, count, channels, seed=3), used)
    maps = [normal(batch, size, height, width, seed=seed) for seed, size in enumerate((channels, channels, 1))]
    return *maps, negatives, radius


@pytest.mark.parametrize("shape", SHAPES)
def test_reconstruct_inter(shape):
    query, key, colours, negatives, radius = problem(shape)
    result = reconstruct_inter(query, key, colours, negatives, radius)
    torch.testing.assert_close(result, dense.reconstruct_inter(query, key, colours, negatives, radius))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_reconstruct_inter_gradient(shape):
    query, key, colours, negatives, radius = problem(shape)
    inputs = query.requires_grad_(), key.requires_grad_()
    assert gradcheck(lambda q, k: reconstruct_inter(q, k, colours, negatives, radius), inputs)
    assert gradcheck(lambda q: negatives_log_sum_exp(q, negatives, radius), (query,))


def test_shifted_query_is_compared_with_the_negatives():
    query, key, colours, negatives, radius = problem(SHAPES[0])
    plain = reconstruct_inter(query, key, colours, negatives, radius)
    same = reconstruct_inter(query, key, colours, negatives, radius, shifted_query=query)
    assert torch.equal(plain, same)
    zero = reconstruct_inter(query, key, colours, negatives, radius, shifted_query=torch.zeros_like(query))
    weights = dense.correlate(query, key, radius).exp()
    weights /= weights.sum(1, keepdim=True) + 3 * 9  # three negatives, all logits of which are 0
    torch.testing.assert_close(zero, (weights[:, None] * dense.window_of(colours, radius)).sum(2))


def test_reconstruct():
    weights, colours = normal(2, 9, 5, 7).softmax(1), normal(2, 3, 5, 7, seed=1)
    expected = (weights[:, None] * dense.window_of(colours, 1)).sum(2)
    torch.testing.assert_close(reconstruct(weights, colours), expected)

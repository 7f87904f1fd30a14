"""Reconstruction against other videos: streamed, and equal to a plain softmax over all logits."""

import pytest
import torch
from torch.autograd import gradcheck

from functional.reconstruction import Negatives, negatives_log_sum_exp, reconstruct, reconstruct_inter
from models.queue import NegativeQueue
from tests import dense
from tests.test_operators import normal

SHAPES = [(2, 3, 5, 6, 4, 1), (3, 4, 4, 3, 5, 2), (1, 2, 1, 1, 3, 1), (2, 3, 9, 8, 3, 3)]  # B, C, H, W, N, radius


def problem(shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Negatives, int]:
    """query, key [B, C, H, W], colours [B, 1, H, W], negatives of which each sample uses all but one, radius."""
    batch, channels, height, width, count, radius = shape
    used = torch.ones(batch, count, dtype=torch.bool)
    used[torch.arange(batch), torch.arange(batch) % count] = False
    negatives = Negatives(normal(height, width, count, channels, seed=3), used)
    maps = [normal(batch, size, height, width, seed=seed) for seed, size in enumerate((channels, channels, 1))]
    return *maps, negatives, radius


def plain_inter(query, key, colours, negatives, radius):
    """One softmax over the own cells and all negative cells, of which only the own ones carry colour."""
    results = []
    for b, used in enumerate(negatives.used):
        own = dense.correlate(query[b : b + 1], key[b : b + 1], radius)[0]  # [P*P, H, W]
        others = negatives.keys[:, :, used].permute(2, 3, 0, 1)  # [n, C, H, W]
        logits = torch.cat([own, dense.correlate(query[b].expand_as(others), others, radius).flatten(0, 1)])
        weights = logits.softmax(0)[: len(own)]
        results.append((weights * dense.window_of(colours[b : b + 1], radius)[0]).sum(1))
    return torch.stack(results)


@pytest.mark.parametrize("shape", SHAPES)
def test_reconstruct_inter(shape):
    query, key, colours, negatives, radius = problem(shape)
    result = reconstruct_inter(query, key, colours, negatives, radius)
    torch.testing.assert_close(result, plain_inter(query, key, colours, negatives, radius))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_reconstruct_inter_gradient(shape):
    query, key, colours, negatives, radius = problem(shape)
    inputs = query.requires_grad_(), key.requires_grad_()
    assert gradcheck(lambda q, k: reconstruct_inter(q, k, colours, negatives, radius), inputs)
    assert gradcheck(lambda q: negatives_log_sum_exp(q, negatives, radius), (query,))


def test_another_query_meets_the_negatives():
    query, key, colours, negatives, radius = problem(SHAPES[0])
    plain = reconstruct_inter(query, key, colours, negatives, radius)
    same = reconstruct_inter(query, key, colours, negatives, radius, shifted_query=query)
    other = reconstruct_inter(query, key, colours, negatives, radius, shifted_query=-query)
    assert torch.equal(plain, same)
    assert not torch.allclose(plain, other)


def test_reconstruct():
    weights, colours = normal(2, 9, 5, 7).softmax(1), normal(2, 3, 5, 7, seed=1)
    expected = (weights[:, None] * dense.window_of(colours, 1)).sum(2)
    torch.testing.assert_close(reconstruct(weights, colours), expected)


def queue_of(batch: int, factor: int) -> NegativeQueue:
    return NegativeQueue(batch, factor, channels=2, height=3, width=4, device=torch.device("cpu"))


def test_queue_is_a_ring():
    queue = queue_of(2, 3)
    for batch in range(5):
        queue.push(torch.full((2, 2, 3, 4), float(batch)), torch.tensor([2 * batch, 2 * batch + 1]))
    assert queue.written == 5
    assert queue.videos.tolist() == [6, 7, 8, 9, 4, 5]
    assert queue.keys[1, 2, :, 0].tolist() == [3, 3, 4, 4, 2, 2]


def test_negatives_are_used_once_more_than_all_is_written():
    queue = queue_of(1, 2)
    ready = []
    for video in range(4):
        videos = torch.tensor([video])
        ready.append(queue.negatives(videos, videos) is not None)
        queue.push(torch.zeros(1, 2, 3, 4), videos)
    assert ready == [False, False, False, True]


def test_every_sample_gets_as_many_negatives_in_the_queues_order():
    queue = queue_of(2, 3)
    queue.videos.copy_(torch.tensor([0, 1, 7, 0, 8, 9]))
    queue.written = 4
    videos = torch.tensor([0, 1])
    negatives = queue.negatives(videos, videos)
    assert negatives.used.int().tolist() == [[0, 1, 1, 0, 1, 1], [1, 0, 1, 1, 1, 0]]
    alone = queue.negatives(videos[1:], videos)  # a process with the second sample only sees the same
    assert torch.equal(alone.used, negatives.used[1:])


def test_no_negatives_where_a_sample_has_none():
    queue = queue_of(1, 1)
    queue.videos.copy_(torch.tensor([5]))
    queue.written = 2
    assert queue.negatives(torch.tensor([5]), torch.tensor([5])) is None


def test_queue_is_restored():
    queue, other = queue_of(2, 3), queue_of(2, 3)
    queue.push(normal(2, 2, 3, 4).float(), torch.tensor([4, 5]))
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)
    assert (other.videos.tolist(), other.written) == (queue.videos.tolist(), 1)

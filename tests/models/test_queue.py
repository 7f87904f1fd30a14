"""The queue of negatives: a ring buffer that gives each sample the keys of other videos."""

import torch

from models.queue import NegativeQueue
from tests.support.problems import normal


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


def test_videos_of_another_index():
    """Row 1 was removed; what is empty stays so."""
    queue = queue_of(1, 4)
    queue.videos[:3] = torch.tensor([2, 1, 0])
    queue.renumber(torch.tensor([0, -1, 1]))
    assert queue.videos.tolist() == [1, -1, 0, -1]

"""How tasks are dealt out to processes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.distributed import World

CPU = torch.device("cpu")


@given(costs=st.lists(st.integers(1, 100), max_size=30), size=st.integers(1, 8))
def test_every_task_is_dealt_once_and_evenly(costs, size):
    shares = [World(rank, size, CPU).share(costs) for rank in range(size)]
    assert sorted(task for share in shares for task in share) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(costs[task] for task in share) for share in shares]
    assert max(loads) - min(loads) <= max(costs, default=0)

"""Attention over the k best cells against a dense formulation of it."""

import pytest
import torch

from functional.top_k_attention import attend_top_k
from tests.support import dense
from tests.support.problems import normal

pytestmark = pytest.mark.usefixtures("single_thread")

LABELS = 3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (17, 12), (9, 30)])
@pytest.mark.parametrize("circle", [False, True])
@pytest.mark.parametrize(("radius", "top_k"), [(1, 4), (3, 10), (12, 5)])
def test_attend_top_k(height, width, circle, radius, top_k):
    """At the frame's edge a window may have fewer than k cells."""
    query, keys = normal(2, 6, height, width), normal(3, 2, 6, height, width, seed=1)
    values, windowed = normal(3, 2, LABELS, height, width, seed=2), [True, False, True]
    ours = attend_top_k(query, keys, values, radius, top_k=top_k, circle=circle, windowed=windowed)
    local = dense.window_mask(height, width, radius, circle=circle)
    windows = [local if kind else torch.ones_like(local) for kind in windowed]
    for sample in range(2):
        flat = (maps.flatten(-2) for maps in (query[sample], keys[:, sample], values[:, sample]))
        torch.testing.assert_close(ours[sample].flatten(1), dense.attend_top_k(*flat, windows, top_k))

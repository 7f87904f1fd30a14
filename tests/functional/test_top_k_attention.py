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
    ours = attend_top_k(query, keys, values, radius, top_k, circle=circle, windowed=windowed)
    local = dense.window_mask(height, width, radius, circle=circle)
    windows = [local if kind else torch.ones_like(local) for kind in windowed]
    for sample in range(2):
        flat = (maps.flatten(-2) for maps in (query[sample], keys[:, sample], values[:, sample]))
        torch.testing.assert_close(ours[sample].flatten(1), dense.attend_top_k(*flat, windows, top_k))


def test_windows_are_squares_unless_told():
    query, keys = normal(1, 6, 5, 9), normal(2, 1, 6, 5, 9, seed=1)
    values = normal(2, 1, LABELS, 5, 9, seed=2)
    local = dense.window_mask(5, 9, 2, circle=False)
    flat = (maps.flatten(-2) for maps in (query[0], keys[:, 0], values[:, 0]))
    expected = dense.attend_top_k(*flat, [local, local], 5)
    torch.testing.assert_close(attend_top_k(query, keys, values, 2, 5)[0].flatten(1), expected)


def test_attend_top_k_refuses_more_values_than_keys():
    maps = normal(3, 1, 2, 3, 4)
    with pytest.raises(ValueError, match="must be as many"):
        attend_top_k(maps[0], maps[:2], maps, 1, 2)


@pytest.mark.parametrize("circle", [False, True])
def test_copies_compete(circle):
    """Of a reference that counts n times there are n copies of every cell."""
    query, keys, values = normal(2, 6, 9, 12), normal(2, 2, 6, 9, 12, seed=1), normal(2, 2, LABELS, 9, 12, seed=2)
    ours = attend_top_k(query, keys, values, 3, 10, circle=circle, windowed=[False, True], counts=[1, 4])
    local = dense.window_mask(9, 12, 3, circle=circle)
    windows = [torch.ones_like(local), *[local] * 4]
    for sample in range(2):
        flat = [maps.flatten(-2) for maps in (query[sample], keys[:, sample], values[:, sample])]
        flat[1:] = [torch.cat((maps[:1], maps[1:].expand(4, -1, -1))) for maps in flat[1:]]
        expected = dense.attend_top_k(*flat, windows, 10, ties=False)
        torch.testing.assert_close(ours[sample].flatten(1), expected)


@pytest.mark.parametrize("windowed", [True, False])
def test_ties_are_kept(windowed):
    """Many cells are equally similar, more than are asked for, in one reference and across references."""
    features = torch.eye(3, dtype=torch.float64)[torch.arange(9 * 14).view(9, 14) % 3].permute(2, 0, 1)[None]
    values = normal(2, 1, LABELS, 9, 14)
    keys = torch.stack((features, features.roll(1, 3)))
    ours = attend_top_k(features, keys, values, 4, 5, windowed=[windowed] * 2, ties=True)
    local = dense.window_mask(9, 14, 4, circle=False)
    windows = [local if windowed else torch.ones_like(local)] * 2
    expected = dense.attend_top_k(features[0].flatten(1), keys[:, 0].flatten(2), values[:, 0].flatten(2), windows, 5)
    torch.testing.assert_close(ours[0].flatten(1), expected)

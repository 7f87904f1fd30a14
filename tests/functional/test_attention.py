"""Local attention against its plain definition in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from functional.attention import attend
from functional.buckets import BLOCKS_AT_ONCE, QUERIES
from functional.compactness import WINDOWS_AT_ONCE
from functional.long_range_search import expected_offset
from tests.support import dense
from tests.support.problems import SIZES, normal, offsets_for, problem

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_operators_on_any_device(device, backend):
    """Forward and backward of the correlation, the search and the attention."""
    parts = [part.to(device).requires_grad_() for part in problem((9, 17))]
    query, keys, values = parts
    offset = expected_offset(query, keys[:, 0], 2, 2, backend=backend)
    offsets = [offset, None, None]
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=offsets, prior=True, backend=backend)
    copies = [part.detach().cpu().requires_grad_() for part in parts]
    query, keys, values = copies
    offsets = [dense.expected_offset(query, keys[:, 0], 2, 2), None, None]
    expected = dense.attend(query, keys, values, 2, offsets, lambda weights: weights)
    plain = attend(parts[0], parts[1].unbind(1), parts[2].unbind(1), 2, offsets=[offset, None, None], backend=backend)
    torch.testing.assert_close(plain.cpu(), expected)
    assert result.device.type == device
    found = torch.autograd.grad(plain.square().sum(), parts)
    for ours, theirs in zip(found, torch.autograd.grad(expected.square().sum(), copies), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_attend(size, prior, searched, backend):
    query, keys, values = problem(size)
    offsets = offsets_for(size) if searched else None
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=offsets, prior=prior, backend=backend)
    expected = dense.attend(query, keys, values, 2, offsets, dense.compactness_prior if prior else None)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 60),
    radius=st.integers(0, 4),
    references=st.integers(1, 3),
    labels=st.integers(1, 5),
    searched=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_attend_on_any_shape(height, width, radius, references, labels, searched, seed):
    query, keys = normal(1, 3, height, width, seed=seed), normal(1, references, 3, height, width, seed=seed + 1)
    values = normal(1, references, labels, height, width, seed=seed + 2)
    offsets = [None] * references
    if searched:
        offsets[0] = 5 * normal(1, 2, height, width, seed=seed + 3)
    result = attend(query, keys.unbind(1), values.unbind(1), radius, offsets=offsets)
    torch.testing.assert_close(result, dense.attend(query, keys, values, radius, offsets))


def test_more_queries_in_one_place_than_a_block_takes():
    """All 740 windows are centred at (10.3, 5.6)."""
    query, keys, values = problem((20, 37), batch=1, references=1)
    y, x = torch.meshgrid(torch.arange(20), torch.arange(37), indexing="ij")
    offsets = [torch.stack((10.3 - x, 5.6 - y)).to(query)[None]]
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=offsets)
    torch.testing.assert_close(result, dense.attend(query, keys, values, 2, offsets))


def test_peaked_windows_are_read_in_parts(monkeypatch):
    monkeypatch.setitem(WINDOWS_AT_ONCE, "cpu", 7)
    query, keys, values = problem((9, 17))
    result = attend(query, keys.unbind(1), values.unbind(1), 2, prior=True)
    torch.testing.assert_close(result, dense.attend(query, keys, values, 2, prior=dense.compactness_prior))


@pytest.mark.parametrize(("queries", "blocks"), [(3, 1), (3, 4), (64, 512)])
def test_shifted_windows_are_read_in_groups(queries, blocks, monkeypatch):
    """As a CPU does, one block after the other, and as a device does, with padded queries."""
    monkeypatch.setitem(QUERIES, "cpu", queries)
    monkeypatch.setitem(BLOCKS_AT_ONCE, "cpu", blocks)
    query, keys, values = problem((20, 37))
    offsets = offsets_for((20, 37))
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=offsets, prior=True)
    expected = dense.attend(query, keys, values, 2, offsets=offsets, prior=dense.compactness_prior)
    torch.testing.assert_close(result, expected)


def test_attend_gradient():
    query, keys, values = (part.requires_grad_() for part in problem((3, 4), batch=1, references=2, channels=2))
    offset = (0.3 * normal(1, 2, 3, 4, seed=5)).requires_grad_()

    def searched(query, keys, values, offset):
        return attend(query, keys.unbind(1), values.unbind(1), 1, offsets=[None, offset])

    assert gradcheck(searched, (query, keys, values, offset))


def test_cells_outside_the_frame_are_in_the_softmax():
    """A frame of one cell: the softmax includes the eight cells outside, with logit and value 0."""
    query = key = torch.tensor([2.0]).view(1, 1, 1, 1)
    result = attend(query, [key], [torch.ones(1, 1, 1, 1)], radius=1)
    torch.testing.assert_close(result.item(), (torch.tensor(4.0).exp() / (torch.tensor(4.0).exp() + 8)).item())


@pytest.mark.parametrize("far", [1e3, -1e3, 1e9, float("nan")])
def test_windows_far_outside_are_empty(far):
    query, keys, values = problem((9, 17), references=1)
    offset = torch.full((2, 2, 9, 17), far, dtype=torch.float64)
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=[offset])
    if far == far:
        assert not result.any()


def test_attend_refuses_fewer_values_than_keys():
    query, keys, values = problem((3, 4))
    with pytest.raises(ValueError, match="must be as many"):
        attend(query, keys.unbind(1), values.unbind(1)[:2], 1)


def test_the_prior_without_objects():
    """One label channel, the background: a video whose objects appear later."""
    query, keys, _ = problem((9, 17), references=2)
    values = torch.ones(2, 2, 1, 9, 17, dtype=torch.float64)
    found = attend(20 * query, keys.unbind(1), values.unbind(1), 2, offsets=[None, offsets_for((9, 17))[1]], prior=True)
    expected = dense.attend(20 * query, keys, values, 2, [None, offsets_for((9, 17))[1]], prior=dense.compactness_prior)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)

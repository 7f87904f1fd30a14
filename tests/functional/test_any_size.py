"""Each operator in float32 against its definition in float64, on frames of any size from 1×1 to 40×60.

Where rounding decides which cell is the largest, both are computed in float64.
"""

import numpy as np
import pytest
import skimage.color
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from functional.attention import attend
from functional.color import normalised_lab
from functional.compactness import compactness_loss
from functional.correlation import correlate
from functional.keypoints import heat_maps, joint_positions
from functional.long_range_search import expected_offset
from functional.reconstruction import Negatives, reconstruct, reconstruct_inter
from functional.top_k_attention import attend_top_k
from tests.support import dense
from tests.support.plain_metrics import assert_agrees
from tests.support.problems import normal

pytestmark = pytest.mark.usefixtures("single_thread")

HEIGHTS, WIDTHS = 40, 60
RADIUS = 2
Size = tuple[int, int]


def problem(size: Size, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """query [1, 4, H, W], keys [2, 4, H, W], values [2, 3, H, W]."""
    return normal(1, 4, *size, seed=seed), normal(2, 4, *size, seed=seed + 1), normal(2, 3, *size, seed=seed + 2)


def close(found: torch.Tensor, expected: torch.Tensor, *, largest: float = 1) -> None:
    """largest: the largest of the summed values, by which rounding errors scale."""
    torch.testing.assert_close(found.double(), expected, atol=2e-6 * largest, rtol=2e-5)


def correlation(size: Size, seed: int) -> None:
    query, keys, _ = problem(size, seed)
    dilation = 1 + seed % 4
    close(
        correlate(query.float(), keys[:1].float(), RADIUS, dilation),
        dense.correlate(query, keys[:1], RADIUS, dilation),
    )


def search(size: Size, seed: int) -> None:
    query, keys, _ = problem(size, seed)
    dilation = 1 + seed % 4
    close(
        expected_offset(query.float(), keys[:1].float(), RADIUS, dilation),
        dense.expected_offset(query, keys[:1], RADIUS, dilation),
        largest=RADIUS * dilation,
    )


def attention(size: Size, seed: int) -> None:
    """One reference without the long-range search, one with."""
    query, keys, values = problem(size, seed)
    offset = 4 * normal(1, 2, *size, seed=seed + 3).float()  # where windows lie is not compared
    parts = (part.float()[:, None].unbind(0) for part in (keys, values))
    found = attend(query.float(), *parts, RADIUS, offsets=[None, offset])
    close(found, dense.attend(query, keys[None], values[None], RADIUS, [None, offset.double()]))


def attention_with_prior(size: Size, seed: int) -> None:
    query, keys, values = problem(size, seed)
    offset = 4 * normal(1, 2, *size, seed=seed + 3)
    parts = (part[:, None].unbind(0) for part in (keys, values))
    found = attend(query, *parts, RADIUS, offsets=[None, offset], prior=True)
    close(found, dense.attend(query, keys[None], values[None], RADIUS, [None, offset], dense.compactness_prior))


def attention_top_k(size: Size, seed: int) -> None:
    query, keys, values = problem(size, seed)
    circle = bool(seed % 2)
    parts = (part[:, None].unbind(0) for part in (keys, values))
    found = attend_top_k(query, *parts, 3, 5, circle=circle, windowed=[False, True])
    near = dense.window_mask(*size, 3, circle=circle)
    flat = (maps.flatten(-2) for maps in (query[0], keys, values))
    close(found[0].flatten(1), dense.attend_top_k(*flat, [torch.ones_like(near), near], 5))


def reconstruction(size: Size, seed: int) -> None:
    weights, colours = normal(1, 9, *size, seed=seed).softmax(1), normal(1, 2, *size, seed=seed + 1)
    close(reconstruct(weights.float(), colours.float()), (weights[:, None] * dense.window_of(colours, 1)).sum(2))


def reconstruction_against_negatives(size: Size, seed: int) -> None:
    query, keys, values = problem(size, seed)
    negatives = normal(*size, 3, 4, seed=seed + 3)
    used = torch.tensor([[True, False, True]])
    found = reconstruct_inter(
        query.float(), keys[:1].float(), values[:1].float(), Negatives(negatives.float(), used), RADIUS
    )
    close(found, dense.reconstruct_inter(query, keys[:1], values[:1], Negatives(negatives, used), RADIUS))


def compactness(size: Size, seed: int) -> None:
    weights = (4 * normal(1, 25, *size, seed=seed)).softmax(1).requires_grad_()
    windows = weights.movedim(1, -1).flatten(0, -2)
    peaked = windows.amax(1) > 0.5
    differences = F.smooth_l1_loss(20 * windows, 20 * dense.two_gaussians(windows.detach()), reduction="none")
    expected = (differences * peaked[:, None]).mean()
    rounded = weights.detach().float().requires_grad_()
    found = compactness_loss(rounded)
    close(found, expected)
    gradients = [torch.autograd.grad(loss, inputs)[0] for loss, inputs in ((found, rounded), (expected, weights))]
    close(*gradients, largest=20)


def lab(size: Size, seed: int) -> None:
    """The tolerance is that of OpenCV, which interpolates in tables, as in the reference implementation."""
    frame = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    expected = (skimage.color.rgb2lab(frame[..., ::-1]) - [50, 0, 0]) / [50, 127, 127]
    np.testing.assert_allclose(normalised_lab(frame).numpy(), expected.transpose(2, 0, 1), atol=5e-3)


def joints(size: Size, seed: int) -> None:
    """A joint's heat map is a Gaussian, from which its position is found again."""
    height, width = size
    joint = np.random.default_rng(seed).random(2) * (width - 1, height - 1)
    y, x = np.mgrid[:height, :width]
    squares = (x - joint[0]) ** 2 + (y - joint[1]) ** 2
    expected = np.where(squares <= 1.5**2, np.exp(-2 * squares), 0)
    maps = heat_maps(torch.tensor(joint, dtype=torch.float32)[None], height, width)
    np.testing.assert_allclose(maps[1], expected, atol=1e-5)
    assert abs(joint_positions(maps[1:])[0].numpy() - joint).max() < 0.5


def scores(size: Size, seed: int) -> None:
    random = np.random.default_rng(seed)
    assert_agrees(*(random.random((2, *size)) < random.random((2, 1, 1))))


OPERATORS = (
    correlation,
    search,
    attention,
    attention_with_prior,
    attention_top_k,
    reconstruction,
    reconstruction_against_negatives,
    compactness,
    lab,
    joints,
    scores,
)


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(height=st.integers(1, HEIGHTS), width=st.integers(1, WIDTHS), seed=st.integers(0, 2**31))
def test_random_sizes(operator, height, width, seed):
    operator((height, width), seed)


@pytest.mark.soak
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_size(operator):
    for height in range(1, HEIGHTS + 1):
        for width in range(1, WIDTHS + 1):
            operator((height, width), seed=100 * height + width)

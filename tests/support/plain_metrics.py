"""J and F by their definition, pixel by pixel (docs/method.md §9)."""

import math

import numpy as np
import pytest

from functional.metrics import boundary, boundary_f, jaccard

Pixels = set[tuple[int, int]]


def pixels(mask: np.ndarray) -> Pixels:
    """The (row, column) of every pixel that is set."""
    return {(y, x) for y, row in enumerate(mask.tolist()) for x, value in enumerate(row) if value}


def plain_jaccard(predicted: np.ndarray, truth: np.ndarray) -> float:
    ours, theirs = pixels(predicted), pixels(truth)
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


def plain_boundary(mask: np.ndarray) -> Pixels:
    """A pixel is boundary if it differs from its right, lower or lower-right neighbour, as far as it has them."""
    (height, width), rows = mask.shape, mask.tolist()
    found = set()
    for y in range(height):
        for x in range(width):
            for below, right in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if below < height and right < width and rows[y][x] != rows[below][right]:
                    found.add((y, x))
    return found


def plain_share(found: Pixels, wanted: Pixels, radius: int) -> float:
    """The share of the pixels `found` that lie no further than the radius from one of those `wanted`."""
    steps = range(-radius, radius + 1)
    near = [(dy, dx) for dy in steps for dx in steps if dx**2 + dy**2 <= radius**2]
    return sum(any((y + dy, x + dx) in wanted for dy, dx in near) for y, x in found) / len(found)


def plain_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    height, width = truth.shape
    radius = math.ceil(0.008 * math.sqrt(height**2 + width**2))
    ours, theirs = plain_boundary(predicted), plain_boundary(truth)
    if ours and theirs:
        precision, recall = plain_share(ours, theirs, radius), plain_share(theirs, ours, radius)
    elif theirs:
        precision, recall = 1.0, 0.0
    elif ours:
        precision, recall = 0.0, 1.0
    else:
        precision, recall = 1.0, 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def assert_agrees(predicted: np.ndarray, truth: np.ndarray) -> None:
    """All three measures equal their plain definitions and do not change their arguments."""
    before = predicted.copy(), truth.copy()
    assert pixels(boundary(predicted)) == plain_boundary(predicted)
    assert jaccard(predicted, truth) == plain_jaccard(predicted, truth)
    assert boundary_f(predicted, truth) == pytest.approx(plain_f(predicted, truth), abs=1e-12)
    np.testing.assert_array_equal((predicted, truth), before)

"""The learning rate by the number of samples seen, or along a cosine."""

import itertools

import pytest

from training.schedule import cosine_factor, learning_rate_factor


def test_learning_rate():
    stage_1 = [
        (0, 1),
        (400_000, 1),
        (400_001, 0.5),
        (600_000, 0.5),
        (800_000, 0.25),
        (1_000_000, 0.125),
        (1_000_001, 1 / 16),
    ]
    stage_2 = [(0, 1), (55_000, 1), (55_001, 0.9), (135_000, 0.75), (175_000, 0.5), (250_000, 0.25), (300_000, 0.125)]
    for momentum, expected in ((False, stage_1), (True, [*stage_2, (300_001, 0.0625), (10**9, 0.0625)])):
        for samples, factor in expected:
            assert learning_rate_factor(samples, momentum=momentum) == factor
        found = [learning_rate_factor(samples, momentum=momentum) for samples in range(0, 1_200_000, 1000)]
        assert all(later <= earlier for earlier, later in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1 / 3), (1, 2 / 3), (2, 1), (2 + 38 / 3, 0.75), (2 + 19, 0.5), (2 + 38 * 2 / 3, 0.25), (40, 0)],
)
def test_cosine_of_40_steps(step, factor):
    """It rises over a twentieth, 2 steps, and falls over 38; cos(60°) = 1/2."""
    assert cosine_factor(step, 40) == pytest.approx(factor, abs=1e-12)


def test_cosine_of_one_step():
    assert cosine_factor(0, 1) == 0.5

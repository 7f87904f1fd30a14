"""The learning rate over training (docs/method.md §6)."""

import math

# (samples seen, up to and including; factor)
STAGE_1 = ((400_000, 1.0), (600_000, 1 / 2), (800_000, 1 / 4), (1_000_000, 1 / 8))
STAGE_2 = ((55_000, 1.0), (85_000, 0.9), (135_000, 0.75), (175_000, 0.5), (250_000, 0.25), (300_000, 0.125))
AFTERWARDS = 1 / 16
WARM_UP = 0.05  # fraction of the steps, in `cosine_factor`


def learning_rate_factor(samples: int, *, momentum: bool) -> float:
    """Return the factor of the learning rate after this many samples in this stage, counted over all processes.

    momentum: whether this is stage 2.
    """
    for bound, factor in STAGE_2 if momentum else STAGE_1:
        if samples <= bound:
            return factor
    return AFTERWARDS


def cosine_factor(step: int, steps: int) -> float:
    """Return the factor at step 0 … steps - 1 with --cosine: a linear warm-up, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2

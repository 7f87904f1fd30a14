"""Randomness as a pure function of where training is: the same for one process as for many, and after a restart."""

import numpy as np
import torch

PAIRS, DROPPED_CHANNEL, SHUFFLED_POSITION = range(3)  # what is drawn: each has a stream of its own


def generator(seed: int, purpose: int, *position: int) -> np.random.Generator:
    """Random numbers for one purpose at one position of training, such as (epoch, step)."""
    return np.random.default_rng([seed, purpose, *position])


def torch_generator(seed: int, purpose: int, *position: int) -> torch.Generator:
    """The same for PyTorch, on the CPU."""
    return torch.Generator().manual_seed(int(generator(seed, purpose, *position).integers(2**63)))

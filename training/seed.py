"""Random generators seeded by (seed, purpose, epoch, step): the same for any number of processes, and on resume."""

import numpy as np
import torch

PAIRS, DROPPED_CHANNEL, SHUFFLED_EMBEDDING = range(3)  # purposes; each has its own stream of random numbers


def generator(seed: int, purpose: int, *when: int) -> np.random.Generator:
    """Return a NumPy generator for one purpose at one point of training; when: (epoch,) or (epoch, step)."""
    return np.random.default_rng([seed, purpose, *when])


def torch_generator(seed: int, purpose: int, *when: int) -> torch.Generator:
    """Return the same for PyTorch, on the CPU."""
    return torch.Generator().manual_seed(int(generator(seed, purpose, *when).integers(2**63)))

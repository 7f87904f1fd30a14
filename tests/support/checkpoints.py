"""Checkpoints of the real network, with random weights."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from functional.color import normalised_lab
from models.liir import LIIR
from tests.support.images import frame_pixels

SHARPNESS = 60  # scale of the pixel head's random weights; without it attention is uniform and masks do not move


@cache
def _weights(seed: int) -> Mapping[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LIIR().eval()
    with torch.inference_mode():
        mean = model.encode(normalised_lab(frame_pixels(0))[None]).mean((0, 2, 3))
    state = model.state_dict()
    state["post_convolution.weight"] = state["post_convolution.weight"] * SHARPNESS
    state["post_convolution.bias"] = (state["post_convolution.bias"] - mean) * SHARPNESS
    return state


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of the network, the pixel head scaled so that the squares are roughly followed.

    Callers share the tensors: replace them, do not write to them.
    """
    return dict(_weights(seed))


def write_checkpoint(path: Path, state: Mapping[str, Tensor] | None = None, **beside: object) -> Path:
    """A checkpoint with this state_dict, or random weights, and more `beside` it."""
    torch.save({"state_dict": weights() if state is None else state, **beside}, path)
    return path

"""Golden tensors of the reference implementation, and the deterministic weights that they were computed with."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.liir import LIIR

FIXTURES = Path(__file__).parents[1] / "fixtures"
HEADS = ("post_convolution", "conv_semantic")


def load_golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file of tests/fixtures/."""
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return dict(arrays)


def golden_array(name: str, shape: Sequence[int], head_scale: float) -> np.ndarray:
    """A parameter or buffer of the network, float32 (int64 for BatchNorm's counters), given by its name alone."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), np.int64)
    if name.endswith("running_var"):
        return np.exp(0.1 * noise)
    if name.endswith(("running_mean", "pos_embed1")):
        return 0.1 * noise
    if len(shape) == 4:
        scale = head_scale if name.startswith(HEADS) else 1.0
        return noise * np.float32(np.sqrt(2.0 / (shape[0] * shape[2] * shape[3])) * scale)
    if name.endswith("weight"):
        return 1 + 0.1 * noise
    return 0.1 * noise


def golden_weights(head_scale: float, bias: np.ndarray | None = None, **heads: bool) -> dict[str, torch.Tensor]:
    """The weights of a network with these heads; `bias` centres its pixel features.

    `head_scale` sharpens the correlation: at 0.08 no weight of a window exceeds 0.1, at 0.2 some do.
    """
    shapes = {name: value.shape for name, value in LIIR(**heads).state_dict().items()}
    state = {name: torch.as_tensor(golden_array(name, shape, head_scale)) for name, shape in shapes.items()}
    if bias is not None:
        state["post_convolution.bias"] = torch.as_tensor(bias)
    return state


def golden_model(head_scale: float, bias: np.ndarray | None = None) -> LIIR:
    """The network with `golden_weights`, in evaluation mode, not folded."""
    model = LIIR()
    model.load_state_dict(golden_weights(head_scale, bias))
    return model.eval().requires_grad_(False)


def golden_queue(shape: Sequence[int]) -> np.ndarray:
    """The content of the queue before a step, float32 [N, 128, 32, 32]."""
    noise = np.random.default_rng(zlib.crc32(b"feats_queue")).standard_normal(tuple(shape)).astype(np.float32)
    return noise * np.float32(0.3)

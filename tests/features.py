"""Features that tests can foretell: the grey value of each cell of 4×4 pixels says what it is."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

KINDS_OPTIONS = "--encoder", "tests.features:kinds", "--protocol", "liir", "--device", "cpu"
STRIDE, STEP, KINDS = 4, 15, 16  # grey values STEP apart are another kind of thing


class Kinds:
    """An encoder as --encoder takes it: one-hot, so that things of one kind match and others do not."""

    stride = STRIDE

    def __call__(self, frames: Tensor) -> Tensor:
        cells = (F.avg_pool2d(frames, STRIDE) / STEP).round().long()
        return 30 * F.one_hot(cells[:, 0], KINDS + 1).movedim(-1, 1).float()

    def prepare(self, frame: np.ndarray) -> Tensor:
        return torch.from_numpy(frame[None, ..., 0].astype(np.float32))


def kinds(_: torch.device) -> Kinds:
    """What `--encoder tests.features:kinds` names."""
    return Kinds()


class Pixels:
    """What the pixels of a cell are, scaled so that a cell matches itself alone."""

    stride = STRIDE

    def __call__(self, frames: Tensor) -> Tensor:
        return 10 * F.pixel_unshuffle(frames, STRIDE)


def pixels(_: torch.device) -> Pixels:
    """What `--encoder tests.features:pixels` names."""
    return Pixels()


def nothing_to_call(_: torch.device) -> None:
    """A function that forgets to return its encoder."""


def other_stride(_: torch.device) -> object:
    """An encoder that does not say its stride, so it is taken for 8."""
    return Kinds().__call__


def pair_of_strides(_: torch.device) -> torch.nn.Conv2d:
    """An encoder with a stride of another kind."""
    return torch.nn.Conv2d(3, 4, 8, 8)


def tokens(_: torch.device) -> object:
    """Features in a row, as transformers make them."""
    return lambda frames: torch.zeros(1, frames.shape[1] * 96, 17)


def paint(kinds: np.ndarray) -> np.ndarray:
    """A frame whose features are these kinds of things, [H, W] -> BGR uint8 [H, W, 3]."""
    return np.repeat((STEP * kinds).astype(np.uint8)[..., None], 3, 2)


def middles(mask: np.ndarray) -> np.ndarray:
    """What a mask says in the middle of each cell, where upsampling does not blur."""
    return mask[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]

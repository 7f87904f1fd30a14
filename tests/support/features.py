"""Encoders with predictable features, one vector for each cell of 4×4 pixels."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

KINDS_OPTIONS = "--encoder", "tests.support.features:kinds", "--protocol", "liir", "--device", "cpu"
STRIDE, STEP, KINDS = 4, 15, 16  # a kind is a grey value, a multiple of STEP


TRIED = 8 * STRIDE, 9 * STRIDE  # size of the frame with which encoders are tried


class Kinds:
    """One-hot features of a cell's grey value: cells of one kind match, others do not."""

    stride = STRIDE

    def __call__(self, frames: Tensor) -> Tensor:
        cells = (F.avg_pool2d(frames, STRIDE) / STEP).round().long()
        return 30 * F.one_hot(cells[:, 0], KINDS + 1).movedim(-1, 1).float()

    def prepare(self, frame: np.ndarray) -> Tensor:
        return torch.from_numpy(frame[None, ..., 0].astype(np.float32))


def kinds(_: torch.device) -> Kinds:
    """What `--encoder tests.support.features:kinds` names."""
    return Kinds()


class Pixels:
    """The pixels of a cell, scaled so that a cell matches only itself."""

    stride = STRIDE

    def __call__(self, frames: Tensor) -> Tensor:
        return 10 * F.pixel_unshuffle(frames, STRIDE)


def pixels(_: torch.device) -> Pixels:
    """What `--encoder tests.support.features:pixels` names."""
    return Pixels()


def nothing_to_call(_: torch.device) -> None:
    """A function that forgets to return its encoder."""


def other_stride(_: torch.device) -> object:
    """An encoder of stride 4 that does not declare it, so that 8 is assumed."""
    return Kinds().__call__


def other_columns(_: torch.device) -> object:
    """An encoder of stride 8 whose rows alone are 8 pixels high."""
    return lambda frames: frames[..., ::8, ::4]


def stride_of_nothing(_: torch.device) -> object:
    """An encoder whose stride is 0."""
    encoder = Kinds()
    encoder.stride = 0
    return encoder


def not_finite(_: torch.device) -> object:
    """An encoder of stride 8 that has diverged."""
    return lambda frames: torch.full_like(frames[..., ::8, ::8], torch.nan)


def pair_of_strides(_: torch.device) -> torch.nn.Conv2d:
    """An encoder whose stride is a pair."""
    return torch.nn.Conv2d(3, 4, 8, 8)


class OfOneSize(Kinds):
    """Takes frames of the given size only, as a vision transformer with fixed positions."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, frames: Tensor) -> Tensor:
        assert frames.shape[2:] == self.size, "frames of another size"
        return super().__call__(frames)


def of_no_size(_: torch.device) -> OfOneSize:
    """An encoder that takes no frame at all."""
    return OfOneSize((0, 0))


def of_one_size(_: torch.device) -> OfOneSize:
    """An encoder that takes the frame with which it is tried."""
    return OfOneSize(TRIED)


class Resizing(Pixels):
    """Resizes frames in `prepare`, but not those of one size."""

    def prepare(self, frame: np.ndarray) -> Tensor:
        return torch.zeros(3, *(TRIED if frame.shape[:2] == TRIED else (40, 40)))


def resizing(_: torch.device) -> Resizing:
    """An encoder that resizes frames in `prepare`, but not that with which it is tried."""
    return Resizing()


def failing(_: torch.device) -> object:
    """A function that fails."""
    return [].pop()


def tokens(_: torch.device) -> object:
    """A sequence of tokens, as a transformer returns."""
    return lambda frames: torch.zeros(1, frames.shape[1] * 96, 17)


def paint(kinds: np.ndarray) -> np.ndarray:
    """A frame with these kinds of objects, [H, W] -> BGR uint8 [H, W, 3]."""
    return np.repeat((STEP * kinds).astype(np.uint8)[..., None], 3, 2)


def middles(mask: np.ndarray) -> np.ndarray:
    """A mask's values at the centres of the cells, which upsampling does not blur."""
    return mask[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]

"""Propagation of object masks: `Propagator` for frames and masks as stored in files."""

import time
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from functional.color import normalised_lab
from functional.metrics import present_ids
from models.propagation.label_maps import Size
from models.propagation.propagator import UNKNOWN, Propagator


class PreparedFrame(NamedTuple):
    """A frame ready for `ObjectPropagator.step`."""

    pixels: Tensor  # the encoder's input, [C, h, w]
    size: Size  # of the original frame and of its mask


class ObjectPropagator:
    """Propagates a mask of object ids through a video, frame by frame.

    objects = ObjectPropagator(Propagator(encode, LocalProtocol()))
    objects.step(objects.prepare(first_frame), mask)
    for frame in frames:
        mask = objects.step(objects.prepare(frame))
    """

    def __init__(
        self,
        propagator: Propagator,
        prepare: Callable[[np.ndarray], Tensor] = normalised_lab,
        *,
        max_side: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        """prepare: BGR uint8 [H, W, 3] -> encoder input [C, H, W]; max_side: larger frames are downscaled to it."""
        self.propagator = propagator
        self.max_side = max_side
        self.device = device
        self.seconds = 0.0  # spent in `step`
        self.ids = np.zeros(1, np.uint8)  # object id of each label channel, 0 first
        self._last_seen: dict[int, int] = {}  # object id -> the last frame that contains it
        self._prepare = prepare

    def prepare(self, frame: np.ndarray) -> PreparedFrame:
        """Convert a frame, BGR uint8 [H, W, 3], to the input of `step`; stateless, so it may be called ahead."""
        size = (frame.shape[0], frame.shape[1])
        longest = max(size)
        inner = self.propagator.protocol.frame_size(*size)
        if self.max_side is not None and longest > self.max_side:
            inner = max(1, round(size[0] * self.max_side / longest)), max(1, round(size[1] * self.max_side / longest))
            frame = cv2.resize(frame, inner[::-1], interpolation=cv2.INTER_AREA)
        elif inner != size:
            frame = cv2.resize(frame, inner[::-1], interpolation=cv2.INTER_LINEAR)
        return PreparedFrame(self._prepare(frame).to(self.device), size)

    def step(self, frame: PreparedFrame, given: np.ndarray | None = None) -> np.ndarray:
        """Return the object ids in the next frame, uint8 [H, W].

        given: ids of this frame, integers [H, W], 0 the background; required for the first frame. In later frames,
        pixels that are UNKNOWN (-1) are predicted, but not as an object that occurs in `given`: it is replaced whole.
        """
        started = time.perf_counter()
        mask = self.propagator.step(frame.pixels, None if given is None else self._labels(given), frame.size).mask
        ids = self.ids[mask.cpu().numpy()]
        self.seconds += time.perf_counter() - started
        self._last_seen |= dict.fromkeys(present_ids(ids), self.propagator.frame - 1)
        return ids

    @property
    def vanished(self) -> dict[int, int]:
        """The objects that the last frame does not contain: id -> the first frame without it."""
        return {number: last + 1 for number, last in self._last_seen.items() if last + 1 < self.propagator.frame}

    def _labels(self, given: np.ndarray) -> Tensor:
        """Label channels of ids; new ids get channels of their own."""
        named = np.setdiff1d(given, [UNKNOWN, *self.ids])
        self.ids = np.concatenate([self.ids, named.astype(np.uint8)])
        channels = np.zeros(256, np.int64)
        channels[self.ids] = np.arange(len(self.ids))
        return torch.from_numpy(np.where(given == UNKNOWN, UNKNOWN, channels[given]))


def unknown_elsewhere(mask: np.ndarray) -> np.ndarray:
    """Return a mask [H, W] with UNKNOWN in place of its background, int16: it adds or replaces its objects only."""
    return np.where(mask, mask, np.int16(UNKNOWN))

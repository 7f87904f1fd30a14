"""Objects carried through a video by their ids: `Propagator` for frames and masks as files hold them."""

import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from functional.color import normalised_lab
from models.propagation import UNKNOWN, Propagator


class ObjectPropagator:
    """Ids of objects in one frame after the other.

    objects = ObjectPropagator(Propagator(encode, Propagation()))
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
        """prepare: BGR uint8 [H, W, 3] -> what the encoder takes, [C, H, W]; max_side: of a frame when propagated."""
        self.propagator = propagator
        self.max_side = max_side
        self.device = device
        self.seconds = 0.0  # spent in steps
        self.ids = np.zeros(1, np.uint8)  # of the label channels
        self._prepare = prepare
        self._size = (0, 0)  # of the frames as they came

    def prepare(self, frame: np.ndarray) -> Tensor:
        """A frame, BGR uint8 [H, W, 3], as `step` takes it; may be called ahead, by another thread."""
        self._size = frame.shape[:2]
        size = self._inner()
        if size != self._size:
            frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
        return self._prepare(frame).to(self.device)

    def step(self, frame: Tensor, given: np.ndarray | None = None) -> np.ndarray:
        """The ids in the next frame, uint8 [H, W].

        given: ids of this frame, uint8 [H, W]; needed with the first frame. Later, objects are where it is not 0, and
        elsewhere is what is found: so objects join, or are corrected.
        """
        started, first = time.perf_counter(), len(self.ids) == 1
        prediction = self.propagator.step(frame, None if given is None else self._labels(given))
        mask, size = prediction.mask, tuple(prediction.mask.shape)
        if size != self._size:
            mask = self.propagator.harden(prediction.soft, size, enlarged=self._size)
        ids = self.ids[mask.cpu().numpy()]
        self.seconds += time.perf_counter() - started
        if given is None:
            return ids
        return given if first else np.where(given > 0, given, ids)

    def _labels(self, given: np.ndarray) -> Tensor:
        """Label channels of ids, at the size at which they are propagated; new ids get channels of their own."""
        first = len(self.ids) == 1
        self.ids = np.concatenate([self.ids, np.setdiff1d(given, self.ids)])
        channels = np.zeros(256, np.int64)
        channels[self.ids] = np.arange(len(self.ids))
        labels = channels[given]
        if not first:
            labels[given == 0] = UNKNOWN
        size = self._inner()
        if size != self._size:
            labels = cv2.resize(labels.astype(np.int16), size[::-1], interpolation=cv2.INTER_NEAREST)
        return torch.from_numpy(labels.astype(np.int64))

    def _inner(self) -> tuple[int, int]:
        """The size at which frames are propagated."""
        longest = max(self._size)
        if self.max_side is None or longest <= self.max_side:
            return self._size
        height, width = (max(1, round(side * self.max_side / longest)) for side in self._size)
        return height, width

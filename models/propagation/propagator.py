"""Propagation of labels from frame to frame: one step and its memory (docs/method.md §4)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.attention import attend
from functional.long_range_search import expected_offset, search_dilation
from functional.top_k_attention import attend_top_k
from models.propagation.label_maps import Size, one_hot, resize_nearest, to_grid, to_mask
from models.propagation.protocol import ANCHORS, LocalProtocol, Protocol, ToGrid, TopKProtocol

UNKNOWN = -1  # in given labels: to be predicted


class NonFiniteFeaturesError(ValueError):
    """The features of an encoder are not finite, so that every label would become background."""


class Prediction(NamedTuple):
    """The predicted or given labels of one frame."""

    soft: Tensor  # label weights on the feature grid [K, h, w], background first; as predicted, if anything was
    mask: Tensor  # labels at the size of masks [H, W], int64


class Memory(NamedTuple):
    """Features and labels of a stored frame."""

    features: Tensor  # [1, C, h, w]
    labels: Tensor  # hard, int64 [h, w], or soft [K, h, w]


class Propagator:
    """Propagates labels through one video, frame by frame; memory does not grow with the length of the video.

    Frames with given labels are all kept (except with `ReferencePolicy.LAST`).

    propagator = Propagator(encode, LocalProtocol())
    propagator.step(first_frame, mask)
    for frame in frames:
        mask = propagator.step(frame).mask
    """

    def __init__(
        self, encode: Callable[[Tensor], Tensor], protocol: Protocol, *, stride: int = 4, backend: str = "native"
    ) -> None:
        """encode: frames [1, 3, H, W] -> features [1, C, h, w]; stride: pixels per cell of the feature grid.

        With a protocol that pads frames, H and W are multiples of the stride.
        """
        self.encode = encode
        self.protocol = protocol
        self.stride = stride
        self.backend = backend
        self.frame = 0  # index of the next frame
        self.channels = 1  # label channels so far, background included
        self.memory: dict[int, Memory] = {}
        self.given: set[int] = set()  # frames with given labels, which remain reference frames

    @torch.inference_mode()
    def step(self, frame: Tensor, labels: Tensor | None = None, size: Size | None = None) -> Prediction:
        """Return the labels of the next frame, and store its features and labels.

        frame: the encoder's input [3, H, W], any size. labels: given labels, required for the first frame: integers
        [H, W], 0 background, 1 … K-1 objects, -1 to be predicted, but not as an object that occurs in the labels; or
        soft labels on the feature grid, float [K, h, w].
        A frame with given labels remains a reference frame (except with `ReferencePolicy.LAST`).
        size: height and width of masks where they differ from the frame's.
        Raises ValueError if the labels do not fit, NonFiniteFeaturesError if the features are not finite.
        The reference implementation encodes all reference frames at every step and is limited to 6 objects.
        """
        features, input_size = self._encode(frame), (frame.shape[-2], frame.shape[-1])
        size, grid = size or input_size, (features.shape[-2], features.shape[-1])
        self._require_fitting(labels, size, grid)
        hard, soft = None, None
        if labels is None:
            soft = self._predict(features)
        else:
            hard, soft = self._take(labels.to(frame.device))
            if hard is not None and (hard == UNKNOWN).any():
                soft = self._predict(features)
                soft[hard[hard > 0].unique()] = 0  # given whole
            self.given.add(self.frame)
        mask = self._merge(hard, soft, input_size, size)
        if soft is not None and hard is None and self.protocol.soft:
            stored = soft
        else:
            own = mask
            if self.protocol.to_grid == ToGrid.CORNER and size != input_size:  # corners of the cells of the input
                own = self._merge(hard, soft, input_size, input_size)
            if self.protocol.soft:
                stored = to_grid(own, self.protocol.to_grid, grid, stride=self.stride, channels=self.channels)
            else:
                stored = own[:: self.stride, :: self.stride]
        self._store(features, stored)
        return Prediction(self._as_soft(stored) if soft is None else soft, mask)

    def _take(self, labels: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Split given labels into hard ones, int64 [H, W], or soft ones [K, h, w]; new labels get channels."""
        if labels.is_floating_point():
            self.channels = max(self.channels, len(labels))
            return None, labels.float()
        self.channels = max(self.channels, int(labels.max()) + 1)
        return labels.long(), None

    def _predict(self, features: Tensor) -> Tensor:
        """Predict soft labels [K, h, w] of a frame from the reference frames; features: of the frame, [1, C, h, w]."""
        protocol, frames = self.protocol, self.protocol.references(self.frame, self.given)
        if isinstance(protocol, TopKProtocol):
            counts, windowed = [1] * len(frames), [not (protocol.given_in_full and f in self.given) for f in frames]
            if copies := protocol.copies_of_first(self.frame):
                frames, windowed, counts = [*frames, 0], [*windowed, True], [*counts, copies]
        keys = [self.memory[frame].features for frame in frames]
        values = [self._values(self.memory[frame].labels) for frame in frames]
        if isinstance(protocol, TopKProtocol):
            radius, k, circle, ties = protocol.radius, protocol.top_k, protocol.circle, protocol.ties
            return attend_top_k(
                features, keys, values, radius, k, circle=circle, ties=ties, windowed=windowed, counts=counts
            )[0]
        offsets = [self._offset(protocol, features, frame) for frame in frames]
        prior, backend = protocol.prior, self.backend
        soft = attend(features, keys, values, protocol.radius, offsets=offsets, prior=prior, backend=backend)[0]
        if protocol.soft and prior:
            soft = soft[:-1] / soft[-1:].clamp_min(torch.finfo(soft.dtype).tiny)
        return soft

    def _merge(self, hard: Tensor | None, soft: Tensor | None, input_size: Size, size: Size) -> Tensor:
        """Return a mask [H, W]: the given hard labels, and those of the soft labels where they are unknown or None."""
        given = None if hard is None else resize_nearest(hard, size)
        if soft is None:
            assert given is not None
            return given
        predicted = to_mask(soft, self.protocol.to_mask, input_size, size, stride=self.stride)
        return predicted if given is None else torch.where(given == UNKNOWN, predicted, given)

    def _require_fitting(self, labels: Tensor | None, size: Size, grid: Size) -> None:
        """Raise ValueError unless the labels have the size of masks or of the grid, and exist for the first frame."""
        if not self.memory and (labels is None or bool((labels == UNKNOWN).any())):
            raise ValueError("the first frame needs labels")
        if labels is None:
            return
        wanted = grid if labels.is_floating_point() else tuple(size)
        if tuple(labels.shape[-2:]) != wanted or labels.ndim != 2 + labels.is_floating_point():
            kind = "feature grid" if labels.is_floating_point() else "mask"
            raise ValueError(f"labels {tuple(labels.shape)} and the {kind} {wanted} must be of one size")

    def _encode(self, frame: Tensor) -> Tensor:
        """Encode a frame [3, H, W]: features [1, C, h, w], scaled so that their dot products are logits."""
        if self.protocol.padded:
            height, width = frame.shape[-2:]
            frame = F.pad(frame, (0, -width % self.stride, 0, -height % self.stride))
        features = self.encode(frame[None]).float()  # of a half-precision encoder
        if not features.isfinite().all():
            raise NonFiniteFeaturesError(f"frame {self.frame}: its features are not finite")
        if self.protocol.normalise:
            features = F.normalize(features, dim=1)
        return features if self.protocol.temperature == 1 else features / self.protocol.temperature**0.5

    def _values(self, labels: Tensor) -> Tensor:
        """Convert a stored frame's hard labels [h, w] or soft labels [k, h, w] to values of attention, [1, K, h, w].

        With soft labels and the prior, a channel of ones is appended; attention turns it into the sum of the weights.
        """
        protocol = self.protocol
        values = self._as_soft(labels)[None]
        if protocol.foreground_gain != 1:
            values[:, 1:] *= protocol.foreground_gain
        if isinstance(protocol, LocalProtocol) and protocol.soft and protocol.prior:
            values = F.pad(values, (0, 0, 0, 0, 0, 1), value=1.0)
        return values

    def _as_soft(self, labels: Tensor) -> Tensor:
        """Convert stored hard labels [h, w] or soft labels [k, h, w] to soft ones of all channels, [K, h, w]."""
        if labels.is_floating_point():
            return F.pad(labels, (0, 0, 0, 0, 0, self.channels - len(labels)))
        return one_hot(labels, self.channels)

    def _offset(self, protocol: LocalProtocol, features: Tensor, reference: int) -> Tensor | None:
        """Compute the window offsets [1, 2, h, w] in a reference frame; None if it is not searched."""
        dilation = search_dilation(self.frame - reference)
        if dilation is None or not protocol.search:
            return None
        key, backend = self.memory[reference].features, self.backend
        return expected_offset(features, key, protocol.radius, dilation, backend=backend)

    def _store(self, features: Tensor, labels: Tensor) -> None:
        self.memory[self.frame] = Memory(features, labels)
        self.frame += 1
        kept = {*ANCHORS, *self.given, *range(self.frame - self.protocol.remembered, self.frame)}
        self.memory = {frame: memory for frame, memory in self.memory.items() if frame in kept}

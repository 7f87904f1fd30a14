"""Propagation of labels from frame to frame: one step and its memory (docs/method.md §4)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.attention import attend
from functional.long_range_search import expected_offset, search_dilation
from functional.top_k_attention import attend_top_k
from models.propagation.protocol import ANCHORS, LocalProtocol, Protocol, TopKProtocol

UPSAMPLED_CHANNELS = 16  # label channels upsampled at a time
UNKNOWN = -1  # value of given labels that are to be predicted


class NonFiniteFeaturesError(ValueError):
    """The features of an encoder are not finite, so that every label would become background."""


class Prediction(NamedTuple):
    """The predicted or given labels of one frame."""

    soft: Tensor  # label weights on the feature grid [K, h, w], background first
    mask: Tensor  # labels at the frame's size [H, W], int64


class Memory(NamedTuple):
    """Features and labels of a stored frame."""

    features: Tensor  # [1, C, h, w]
    labels: Tensor  # hard, int64 [h, w], or soft [K, h, w]


class Propagator:
    """Propagates labels through one video, frame by frame; memory does not grow with the length of the video.

    propagator = Propagator(encode, LocalProtocol())
    propagator.step(first_frame, mask)
    for frame in frames:
        mask = propagator.step(frame).mask
    """

    def __init__(
        self, encode: Callable[[Tensor], Tensor], protocol: Protocol, *, stride: int = 4, backend: str = "native"
    ) -> None:
        """encode: frames [1, 3, H, W] -> features [1, C, H/stride, W/stride], H and W multiples of `stride`."""
        self.encode = encode
        self.protocol = protocol
        self.stride = stride
        self.backend = backend
        self.frame = 0  # index of the next frame
        self.channels = 1  # label channels so far, background included
        self.memory: dict[int, Memory] = {}
        self.given: set[int] = set()  # frames with given labels, which remain reference frames

    @torch.inference_mode()
    def step(self, frame: Tensor, labels: Tensor | None = None) -> Prediction:
        """Return the labels of the next frame, and store its features and labels.

        frame: normalised Lab [3, H, W] of any size. labels: given labels, required for the first frame: integers
        [H, W], 0 background, 1 … K-1 objects, -1 to be predicted; or soft labels on the feature grid, float [K, h, w].
        A frame with given labels remains a reference frame (except with `ReferencePolicy.LAST`).
        Raises ValueError if labels and frame do not fit, NonFiniteFeaturesError if the features are not finite.
        The reference implementation encodes all reference frames at every step and is limited to 6 objects.
        """
        self._require_fitting(frame, labels)
        features, size = self._encode(frame), frame.shape[-2:]
        if labels is None:
            prediction = self._predict(features, size)
            soft = prediction.soft
        else:
            labels = labels.to(frame.device)
            self.channels = max(self.channels, len(labels) if labels.is_floating_point() else int(labels.max()) + 1)
            predicted = self._predict(features, size) if (labels == UNKNOWN).any() else None
            prediction, soft = self._take(labels, predicted, size)
            self.given.add(self.frame)
        self._remember(features, soft if self.protocol.soft else self._on_grid(prediction.mask))
        return prediction

    def _predict(self, features: Tensor, size: Sequence[int]) -> Prediction:
        """Predict a frame of the given size from the reference frames; features: of the frame, [1, C, h, w]."""
        protocol, frames = self.protocol, self.protocol.references(self.frame, self.given)
        keys = [self.memory[frame].features for frame in frames]
        values = [self._values(self.memory[frame].labels) for frame in frames]
        if isinstance(protocol, TopKProtocol):
            windowed = [not (protocol.given_in_full and frame in self.given) for frame in frames]
            radius, top_k, circle = protocol.radius, protocol.top_k, protocol.circle
            soft = attend_top_k(features, keys, values, radius, top_k=top_k, circle=circle, windowed=windowed)[0]
            return Prediction(soft, self.harden(soft, size))
        offsets = [self._offset(protocol, features, frame) for frame in frames]
        prior, backend = protocol.prior, self.backend
        soft = attend(features, keys, values, protocol.radius, offsets=offsets, prior=prior, backend=backend)[0]
        if protocol.soft and prior:
            soft = soft[:-1] / soft[-1:].clamp_min(torch.finfo(soft.dtype).tiny)
        return Prediction(soft, self.harden(soft, size))

    def _take(self, labels: Tensor, predicted: Prediction | None, size: Sequence[int]) -> tuple[Prediction, Tensor]:
        """Given labels, with predicted ones where they are unknown; and these as soft labels [K, h, w] to remember."""
        if labels.is_floating_point():
            return Prediction(labels, self.harden(labels, size)), labels
        labels = labels.long()
        mask = labels if predicted is None else torch.where(labels == UNKNOWN, predicted.mask, labels)
        soft = self._one_hot(self._on_grid(mask))
        return Prediction(soft if predicted is None else predicted.soft, mask), soft

    def _require_fitting(self, frame: Tensor, labels: Tensor | None) -> None:
        """Raise ValueError unless the labels fit the frame, and exist for the first frame."""
        if not self.memory and (labels is None or bool((labels == UNKNOWN).any())):
            raise ValueError("the first frame needs labels")
        if labels is None:
            return
        size = tuple(frame.shape[-2:])
        wanted = tuple(math.ceil(side / self.stride) for side in size) if labels.is_floating_point() else size
        if tuple(labels.shape[-2:]) != wanted or labels.ndim != 2 + labels.is_floating_point():
            raise ValueError(f"labels {tuple(labels.shape)} and frame {size} must be of one size")

    def _encode(self, frame: Tensor) -> Tensor:
        """Encode a frame [3, H, W]: features [1, C, h, w], scaled so that their dot products are logits."""
        height, width = frame.shape[-2:]
        features = self.encode(F.pad(frame, (0, -width % self.stride, 0, -height % self.stride))[None])
        if not features.isfinite().all():
            raise NonFiniteFeaturesError(f"frame {self.frame}: its features are not finite")
        if self.protocol.normalise:
            features = F.normalize(features, dim=1)
        return features if self.protocol.temperature == 1 else features / self.protocol.temperature**0.5

    def harden(self, soft: Tensor, size: Sequence[int], enlarged: Sequence[int] | None = None) -> Tensor:
        """Upsample soft labels [K, h, w] to the size of their frame and return their argmax, int64 [H, W].

        enlarged: size of the result, if the frame was downscaled.
        """
        wanted = enlarged or size
        scales = (whole / part for whole, part in zip(wanted, size, strict=True))
        padded = [round(cells * self.stride * scale) for cells, scale in zip(soft.shape[1:], scales, strict=True)]
        return _argmax_at(soft, padded, stretch=self.protocol.stretch)[: wanted[0], : wanted[1]]

    def _values(self, labels: Tensor) -> Tensor:
        """Convert a stored frame's hard labels [h, w] or soft labels [k, h, w] to values of attention, [1, K, h, w].

        With soft labels and the prior, a channel of ones is appended; attention turns it into the sum of the weights.
        """
        protocol = self.protocol
        if labels.is_floating_point():
            values = F.pad(labels, (0, 0, 0, 0, 0, self.channels - len(labels)))[None]
        else:
            values = self._one_hot(labels)[None]
        if protocol.foreground_gain != 1:
            values[:, 1:] *= protocol.foreground_gain
        if isinstance(protocol, LocalProtocol) and protocol.soft and protocol.prior:
            values = F.pad(values, (0, 0, 0, 0, 0, 1), value=1.0)
        return values

    def _offset(self, protocol: LocalProtocol, features: Tensor, reference: int) -> Tensor | None:
        """Compute the window offsets [1, 2, h, w] in a reference frame; None if it is not searched."""
        dilation = search_dilation(self.frame - reference)
        if dilation is None or not protocol.search:
            return None
        key, backend = self.memory[reference].features, self.backend
        return expected_offset(features, key, protocol.radius, dilation, backend=backend)

    def _remember(self, features: Tensor, labels: Tensor) -> None:
        self.memory[self.frame] = Memory(features, labels)
        self.frame += 1
        kept = {*ANCHORS, *self.given, *range(self.frame - self.protocol.remembered, self.frame)}
        self.memory = {frame: memory for frame, memory in self.memory.items() if frame in kept}

    def _on_grid(self, labels: Tensor) -> Tensor:
        """Sample labels of a frame [H, W] at the cells of the feature grid, [h, w]."""
        return labels[:: self.stride, :: self.stride]

    def _one_hot(self, labels: Tensor) -> Tensor:
        """One-hot encode labels, [h, w] -> [K, h, w] float."""
        return F.one_hot(labels, self.channels).permute(2, 0, 1).float()


def _argmax_at(soft: Tensor, size: list[int], *, stretch: bool) -> Tensor:
    """Upsample bilinearly and return the argmax over channels: [K, h, w] -> int64 [H, W].

    A few channels are upsampled at a time, which bounds the memory for many objects.
    """

    def strongest(first: int) -> tuple[Tensor, Tensor]:
        part = soft[None, first : first + UPSAMPLED_CHANNELS]
        maps = F.interpolate(part, size, mode="bilinear", align_corners=False)[0]
        strength, label = (_stretched(maps) if stretch else maps).max(0)
        return strength, label + first

    best, labels = strongest(0)
    for first in range(UPSAMPLED_CHANNELS, len(soft), UPSAMPLED_CHANNELS):
        strength, label = strongest(first)
        stronger = strength > best
        best, labels = torch.where(stronger, strength, best), torch.where(stronger, label, labels)
    return labels


def _stretched(maps: Tensor) -> Tensor:
    """Rescale each map of [K, H, W] linearly to 0 … 1; maps without positive values are unchanged."""
    least, largest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = torch.where(largest > least, largest - least, 1)
    return torch.where(largest > 0, (maps - least) / span, maps)

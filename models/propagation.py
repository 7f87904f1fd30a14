"""Labels carried through a video: one step, and what is remembered (docs/method.md §4)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.attention import attend
from functional.search import expected_offset, search_dilation
from functional.top_k import attend_top
from models.protocol import ANCHORS, RECENT, Propagation, reference_frames
from utils.errors import UserError

UPSAMPLED_CHANNELS = 16  # label channels brought to full size at a time
UNKNOWN = -1  # a label that is to be predicted


@dataclass(frozen=True)
class Prediction:
    """What one step yields."""

    soft: Tensor  # label weights on the feature grid [K, h, w], background first, as found where something was to be
    mask: Tensor  # labels at the frame's size [H, W], int64


@dataclass(frozen=True)
class Memory:
    features: Tensor  # [1, C, h, w]
    labels: Tensor  # int64 [h, w], or soft ones [K, h, w]


class Propagator:
    """Carries labels through one video, frame by frame, in memory that does not grow with its length.

    propagator = Propagator(encode, Propagation())
    propagator.step(first_frame, mask)
    for frame in frames:
        mask = propagator.step(frame).mask
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        propagation: Propagation,
        *,
        stride: int = 4,
        backend: str = "native",
    ) -> None:
        """encode: frames [1, 3, H, W] -> features [1, C, H/stride, W/stride], H and W multiples of `stride`."""
        self.encode = encode
        self.propagation = propagation
        self.stride = stride
        self.backend = backend
        self.frame = 0  # index of the next frame
        self.channels = 1  # label channels so far, background included
        self.memory: dict[int, Memory] = {}
        self.given: set[int] = set()  # the frames whose labels were given, which stay references

    @property
    def remembered_frames(self) -> list[int]:
        """The indices of the frames in memory."""
        return sorted(self.memory)

    @torch.inference_mode()
    def step(self, frame: Tensor, labels: Tensor | None = None) -> Prediction:
        """The labels of the next frame.

        frame: normalised Lab [3, H, W] of any size. labels: [H, W], 0 the background, 1 … K-1 objects, -1 what is to be
        predicted; or soft labels on the feature grid, floating-point [K, h, w]. Needed with the first frame; whenever
        given they are what is remembered of this frame, and the frame stays a reference (but for policy 2).
        Reference: encodes all reference frames again at every step, and has room for 6 objects.
        """
        self._require(frame, labels)
        features = self._encode(frame)
        found = remembered = None
        if labels is not None:
            labels = labels.to(frame.device)
        if labels is None:
            found = remembered = self._attend(features)
            hard = self.harden(found, frame.shape[-2:])
        elif labels.is_floating_point():
            found = remembered = labels
            self.channels = max(self.channels, len(labels))
            hard = self.harden(labels, frame.shape[-2:])
        else:
            hard, unknown = labels.long(), labels == UNKNOWN
            self.channels = max(self.channels, int(labels.max()) + 1)
            if unknown.any():
                found = self._attend(features)
                hard = torch.where(unknown, self.harden(found, frame.shape[-2:]), hard)
        if labels is not None:
            self.given.add(self.frame)
        if not self.propagation.soft:
            remembered = self._on_grid(hard)
        elif remembered is None:
            remembered = self._one_hot(self._on_grid(hard))
        self._remember(features, remembered)
        return Prediction(self._one_hot(self._on_grid(hard)) if found is None else found, hard)

    def _require(self, frame: Tensor, labels: Tensor | None) -> None:
        """ValueError unless these labels can go with the frame."""
        if not self.memory and (labels is None or bool((labels == UNKNOWN).any())):
            raise ValueError("the first frame needs labels")
        if labels is None:
            return
        size = tuple(frame.shape[-2:])
        wanted = tuple(math.ceil(side / self.stride) for side in size) if labels.is_floating_point() else size
        if tuple(labels.shape[-2:]) != wanted or labels.ndim != 2 + labels.is_floating_point():
            raise ValueError(f"labels {tuple(labels.shape)} and frame {size} must be of one size")

    def _encode(self, frame: Tensor) -> Tensor:
        """Features [1, C, h, w], scaled so that their products are logits."""
        features = self.encode(self._pad(frame)[None])
        if not features.isfinite().all():  # the masks would be background, and look like a bad result
            raise UserError(f"frame {self.frame}: its features are not finite; the checkpoint or encoder is broken")
        if self.propagation.normalise:
            features = F.normalize(features, dim=1)
        return features if self.propagation.temperature == 1 else features / self.propagation.temperature**0.5

    def harden(self, soft: Tensor, size: Sequence[int], enlarged: Sequence[int] | None = None) -> Tensor:
        """The strongest label of every pixel of a frame of that size, int64 [H, W], of its soft labels [K, h, w].

        enlarged: another size at which they are wanted.
        """
        wanted = enlarged or size
        scales = (whole / part for whole, part in zip(wanted, size, strict=True))
        padded = [round(cells * self.stride * scale) for cells, scale in zip(soft.shape[1:], scales, strict=True)]
        return _hard_labels(soft, padded, stretch=self.propagation.stretch)[: wanted[0], : wanted[1]]

    def _attend(self, features: Tensor) -> Tensor:
        """Soft labels [K, h, w] of the frame with these features [1, C, h, w]."""
        how, frames = self.propagation, self._references()
        keys = [self.memory[frame].features for frame in frames]
        values = [self._values(self.memory[frame].labels) for frame in frames]
        if how.top_k is not None:
            windowed = [how.first_windowed or frame not in self.given for frame in frames]
            return attend_top(
                features, keys, values, how.radius, top_k=how.top_k, circle=how.circle, windowed=windowed
            )[0]
        offsets = [self._offset(features, frame) for frame in frames]
        if not (how.soft and how.prior):
            return attend(features, keys, values, how.radius, offsets=offsets, prior=how.prior, backend=self.backend)[0]
        values = [F.pad(of_frame, (0, 0, 0, 0, 0, 1), value=1.0) for of_frame in values]  # what the weights sum to
        found = attend(features, keys, values, how.radius, offsets=offsets, prior=True, backend=self.backend)[0]
        return found[:-1] / found[-1:].clamp_min(torch.finfo(found.dtype).tiny)

    def _references(self) -> list[int]:
        how = self.propagation
        frames = reference_frames(self.frame, how.policy, how.context)
        return frames if how.policy == 2 else sorted({*frames, *self.given})

    def _values(self, labels: Tensor) -> Tensor:
        """What a remembered frame passes on, [1, K, h, w], of its labels [h, w] or soft labels [k, h, w]."""
        if labels.is_floating_point():
            values = F.pad(labels, (0, 0, 0, 0, 0, self.channels - len(labels)))[None]
        else:
            values = self._one_hot(labels)[None]
        if self.propagation.foreground_gain == 1:
            return values
        values[:, 1:] *= self.propagation.foreground_gain
        return values

    def _offset(self, features: Tensor, reference: int) -> Tensor | None:
        """The centres' shifts [1, 2, h, w] in a reference that is searched; None for one that is not."""
        dilation = search_dilation(self.frame - reference)
        if dilation is None or not self.propagation.search:
            return None
        key = self.memory[reference].features
        return expected_offset(features, key, self.propagation.radius, dilation, backend=self.backend)

    def _remember(self, features: Tensor, labels: Tensor) -> None:
        self.memory[self.frame] = Memory(features, labels)
        self.frame += 1
        recent = max(RECENT) if self.propagation.context is None else self.propagation.context
        kept = {*ANCHORS, *self.given, *range(self.frame - recent, self.frame)}
        self.memory = {frame: memory for frame, memory in self.memory.items() if frame in kept}

    def _pad(self, maps: Tensor) -> Tensor:
        """Zeros right and below, to a multiple of the stride."""
        height, width = maps.shape[-2:]
        return F.pad(maps, (0, -width % self.stride, 0, -height % self.stride))

    def _on_grid(self, labels: Tensor) -> Tensor:
        """Full-size labels [H, W] -> those at the feature grid's positions [h, w]."""
        return labels[:: self.stride, :: self.stride]

    def _one_hot(self, labels: Tensor) -> Tensor:
        """[h, w] -> [K, h, w] float."""
        return F.one_hot(labels, self.channels).permute(2, 0, 1).float()


def _hard_labels(soft: Tensor, size: list[int], *, stretch: bool) -> Tensor:
    """The strongest label of every pixel after bilinear upsampling to a size, [K, h, w] -> int64 [H, W].

    A few channels at a time, so that many objects do not need as many full-size maps.
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
    """Maps [K, H, W], each from its least value to 0 and its largest to 1; those nowhere above 0 as they are."""
    least, largest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = torch.where(largest > least, largest - least, 1)
    return torch.where(largest > 0, (maps - least) / span, maps)

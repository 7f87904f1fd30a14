"""Labels carried through a video: which frames are remembered, and one step (docs/method.md §4, §5)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.attention import attend
from functional.search import expected_offset, search_dilation

RECENT = (1, 3, 5)  # references counted back from the target
ANCHORS = (0, 5)  # references counted from the start
REFERENCE_POLICIES = (0, 1, 2)
UPSAMPLED_CHANNELS = 16  # label channels brought to full size at a time


@dataclass(frozen=True)
class Propagation:
    """How labels are propagated. The four released models differ in `search`, `prior` and `foreground_gain` only."""

    search: bool = True  # search old references before attending
    prior: bool = False  # compactness prior on every window
    foreground_gain: float = 1.0  # multiplies the values of all channels but the background
    policy: int = 0  # which reference frames: 0 first, sixth and recent; 1 first and recent; 2 the last frame alone
    radius: int = 14

    @classmethod
    def released(cls, *, momentum: bool, compact: bool, policy: int = 0) -> "Propagation":
        """The released model evaluated with `--usemomen` (momentum) and `--compact` (docs/method.md §5)."""
        if momentum and compact:
            return cls(search=False, prior=True, foreground_gain=1.05, policy=policy)
        return cls(prior=compact, policy=policy)


def reference_frames(target: int, policy: int) -> list[int]:
    """The frames that frame `target` is reconstructed from, ascending."""
    if policy == 2:
        return [target - 1]
    anchors = {0, *(frame for frame in ANCHORS if target > frame)} if policy == 0 else {0}
    return sorted(anchors | {target - back for back in RECENT if target > back})


@dataclass(frozen=True)
class Prediction:
    """What one step yields."""

    soft: Tensor  # label weights on the feature grid [K, h, w], background first; with the prior they do not sum to 1
    mask: Tensor  # labels at the frame's size [H, W], int64


@dataclass(frozen=True)
class Memory:
    features: Tensor  # [1, C, h, w]
    labels: Tensor  # [h, w], int64


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

    @property
    def remembered_frames(self) -> list[int]:
        """The indices of the frames in memory."""
        return sorted(self.memory)

    @torch.inference_mode()
    def step(self, frame: Tensor, labels: Tensor | None = None) -> Prediction:
        """The labels of the next frame.

        frame: normalised Lab [3, H, W] of any size. labels: [H, W], 0 the background, 1 … K-1 objects; needed with
        the first frame, and whenever given they are what is remembered of this frame.
        Reference: encodes all reference frames again at every step, and has room for 6 objects.
        """
        if labels is None and not self.memory:
            raise ValueError("the first frame needs labels")
        if labels is not None and labels.shape != frame.shape[-2:]:
            raise ValueError(f"labels {tuple(labels.shape)} and frame {tuple(frame.shape[-2:])} must be of one size")
        features = self.encode(self._pad(frame)[None])
        if labels is None:
            soft = self._attend(features)
            padded = _hard_labels(soft, self.stride)
        else:
            padded = self._pad(labels.to(frame.device).long())
            self.channels = max(self.channels, int(padded.max()) + 1)
            soft = self._one_hot(self._on_grid(padded))
        self._remember(features, self._on_grid(padded))
        return Prediction(soft, padded[: frame.shape[-2], : frame.shape[-1]])

    def _attend(self, features: Tensor) -> Tensor:
        """Soft labels [K, h, w] of the frame with these features [1, C, h, w]."""
        frames = reference_frames(self.frame, self.propagation.policy)
        memories = [self.memory[frame] for frame in frames]
        soft = attend(
            features,
            [memory.features for memory in memories],
            [self._values(memory.labels) for memory in memories],
            self.propagation.radius,
            offsets=[self._offset(features, frame) for frame in frames],
            prior=self.propagation.prior,
            backend=self.backend,
        )
        return soft[0]

    def _values(self, labels: Tensor) -> Tensor:
        """What a remembered frame passes on, [h, w] -> [1, K, h, w]."""
        values = self._one_hot(labels)[None]
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
        kept = {*ANCHORS, *range(self.frame - max(RECENT), self.frame)}
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


def _hard_labels(soft: Tensor, stride: int) -> Tensor:
    """The strongest label of every pixel after bilinear upsampling, [K, h, w] -> [h·stride, w·stride] int64.

    A few channels at a time, so that many objects do not need as many full-size maps.
    """
    best = labels = None
    for first in range(0, len(soft), UPSAMPLED_CHANNELS):
        part = soft[None, first : first + UPSAMPLED_CHANNELS]
        strength, label = F.interpolate(part, scale_factor=stride, mode="bilinear", align_corners=False)[0].max(0)
        if best is None:
            best, labels = strength, label
        else:
            stronger = strength > best
            best, labels = torch.where(stronger, strength, best), torch.where(stronger, label + first, labels)
    return labels

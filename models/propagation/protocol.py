"""Propagation protocols: LIIR's and those of other features (docs/method.md §4, §10)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar

RECENT = (1, 3, 5)  # LIIR's reference frames, counted back from the target
ANCHORS = (0, 5)  # LIIR's reference frames, counted from the start of the video


class ToGrid(Enum):
    """How a mask is brought to the feature grid."""

    CORNER = "the top-left pixel of every cell"
    CENTRE = "the pixel at the centre of every cell"
    BILINEAR = "one-hot labels, resized bilinearly without antialiasing: soft"


class ToMask(Enum):
    """How soft labels on the feature grid become a mask."""

    CROPPED = "bilinearly to stride × grid, argmax, cropped to the frame"
    DIRECT = "bilinearly to the size of the mask, argmax"
    STRETCHED = (
        "bilinearly to the network's frame, each label's map scaled to 0 … 1, argmax, nearest to the mask's size"
    )


class ReferencePolicy(IntEnum):
    """The reference frames of LIIR's protocol; the values are those of `--ref`."""

    FIRST_SIXTH_AND_RECENT = 0
    FIRST_AND_RECENT = 1
    LAST = 2


@dataclass(frozen=True, kw_only=True)
class LocalProtocol:
    """LIIR's protocol: one softmax over the local windows of a few reference frames.

    The four released models differ in `search`, `prior` and `foreground_gain` only.
    """

    policy: ReferencePolicy = ReferencePolicy.FIRST_SIXTH_AND_RECENT
    radius: int = 14  # of the windows, in cells
    search: bool = True  # long-range search in old reference frames
    prior: bool = False  # compactness prior on every window
    foreground_gain: float = 1.0  # factor of the values of all labels except the background
    soft: bool = False  # store soft labels; with the prior, normalised by the sum of the weights
    normalise: ClassVar[bool] = False
    temperature: ClassVar[float] = 1.0
    to_grid: ClassVar[ToGrid] = ToGrid.CORNER
    to_mask: ClassVar[ToMask] = ToMask.CROPPED
    padded: ClassVar[bool] = True  # frames, with zeros, to a multiple of the stride
    remembered: ClassVar[int] = max(RECENT)  # number of recent frames to store

    def __post_init__(self) -> None:
        if self.soft and self.foreground_gain != 1:
            raise ValueError("foreground_gain: with soft labels the gain would be applied again in every frame")

    def references(self, target: int, given: Iterable[int] = ()) -> list[int]:
        """Return the reference frames of frame `target`, ascending; given: frames with given labels."""
        if self.policy == ReferencePolicy.LAST:
            return [target - 1]
        anchors = ANCHORS if self.policy == ReferencePolicy.FIRST_SIXTH_AND_RECENT else ANCHORS[:1]
        recent = (target - back for back in RECENT)
        return sorted({0, *(frame for frame in (*anchors, *recent) if 0 < frame < target), *given})

    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the encoder sees a frame of this size."""
        return height, width


@dataclass(frozen=True, kw_only=True)
class TopKProtocol:
    """The usual protocol of other features: attention to the k most similar cells, and soft labels."""

    radius: int  # of the windows, in cells
    top_k: int  # number of cells selected in all reference frames together
    context: int  # reference frames: the first one and this many recent ones
    temperature: float  # divides the logits
    to_grid: ToGrid
    to_mask: ToMask
    normalise: bool = True  # L2-normalise the features
    circle: bool = False  # circular windows: cells at a distance less than the radius
    given_in_full: bool = False  # no windows in frames with given labels: all cells are compared
    copies: bool = False  # windowed copies of the first frame take the places of missing frames of the context
    ties: bool = False  # keep all cells whose logit equals the smallest of the top k
    short_side: int | None = None  # resize frames to this shorter side, in pixels; None: native size
    multiple: int = 1  # with `short_side`: round the longer side down to a multiple of this
    soft: ClassVar[bool] = True
    padded: ClassVar[bool] = False
    foreground_gain: ClassVar[float] = 1.0

    @property
    def remembered(self) -> int:
        """Number of recent frames to store."""
        return self.context

    def references(self, target: int, given: Iterable[int] = ()) -> list[int]:
        """Return the reference frames of frame `target`, ascending; given: frames with given labels."""
        return sorted({0, *range(max(0, target - self.context), target), *given})

    def copies_of_first(self, target: int) -> int:
        """How many windowed copies of the first frame compete for frame `target`, beside `references`."""
        return max(0, self.context + 1 - target) if self.copies else 0

    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the encoder sees a frame of this size."""
        if self.short_side is None:
            return height, width
        long = int(self.short_side * max(height, width) / min(height, width)) // self.multiple * self.multiple
        return (long, self.short_side) if height > width else (self.short_side, long)


Protocol = LocalProtocol | TopKProtocol


def released_protocol(
    *, momentum: bool, compact: bool, policy: ReferencePolicy = ReferencePolicy.FIRST_SIXTH_AND_RECENT
) -> LocalProtocol:
    """Return the protocol of the model released with `--usemomen` (momentum) and `--compact` (docs/method.md §5)."""
    if momentum and compact:
        return LocalProtocol(search=False, prior=True, foreground_gain=1.05, policy=policy)
    return LocalProtocol(prior=compact, policy=policy)


# name: (stride of the features in pixels, protocol), docs/method.md §10
PROTOCOLS: dict[str, tuple[int, Protocol]] = {
    "liir": (4, LocalProtocol()),
    "crw": (8, TopKProtocol(
        radius=12, circle=True, top_k=10, context=20, copies=True, given_in_full=True, temperature=0.05,
        to_grid=ToGrid.BILINEAR, to_mask=ToMask.DIRECT,
    )),
    "dino": (16, TopKProtocol(
        radius=12, top_k=5, ties=True, context=7, temperature=0.1, short_side=480, multiple=64,
        to_grid=ToGrid.CENTRE, to_mask=ToMask.STRETCHED,
    )),
}  # fmt: skip

"""Propagation protocols: LIIR's and those of other features (docs/method.md §4, §10)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

RECENT = (1, 3, 5)  # LIIR's reference frames, counted back from the target
ANCHORS = (0, 5)  # LIIR's reference frames, counted from the start of the video


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
    stretch: ClassVar[bool] = False
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


@dataclass(frozen=True, kw_only=True)
class TopKProtocol:
    """The usual protocol of other features: attention to the k most similar cells, and soft labels."""

    radius: int  # of the windows, in cells
    top_k: int  # number of cells selected in all reference frames together
    context: int  # reference frames: the first one and this many recent ones
    temperature: float  # divides the logits
    normalise: bool = True  # L2-normalise the features
    circle: bool = False  # circular windows: cells at a distance less than the radius
    given_in_full: bool = False  # no windows in frames with given labels: all cells are compared
    stretch: bool = False  # rescale each label's map to 0 … 1 before the argmax
    soft: ClassVar[bool] = True
    foreground_gain: ClassVar[float] = 1.0

    @property
    def remembered(self) -> int:
        """Number of recent frames to store."""
        return self.context

    def references(self, target: int, given: Iterable[int] = ()) -> list[int]:
        """Return the reference frames of frame `target`, ascending; given: frames with given labels."""
        return sorted({0, *range(max(0, target - self.context), target), *given})


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
    "crw": (8, TopKProtocol(radius=12, top_k=10, context=20, temperature=0.05, circle=True, given_in_full=True)),
    "dino": (16, TopKProtocol(radius=12, top_k=5, context=7, temperature=0.1, stretch=True)),
}

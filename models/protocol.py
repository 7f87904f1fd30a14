"""How labels are propagated: by LIIR, and by the protocols of other features (docs/method.md §4, §10)."""

from dataclasses import dataclass

RECENT = (1, 3, 5)  # references counted back from the target
ANCHORS = (0, 5)  # references counted from the start
REFERENCE_POLICIES = (0, 1, 2)


@dataclass(frozen=True)
class Propagation:
    """How labels are propagated. The four released models differ in `search`, `prior` and `foreground_gain` only.

    Other features have other protocols; `PROTOCOLS` has those that the field compares by.
    """

    search: bool = True  # search old references before attending
    prior: bool = False  # compactness prior on every window
    foreground_gain: float = 1.0  # multiplies the values of all channels but the background
    policy: int = 0  # which reference frames: 0 first, sixth and recent; 1 first and recent; 2 the last frame alone
    radius: int = 14
    soft: bool = False  # remember soft labels; with the prior they are divided by what its weights sum to
    context: int | None = None  # reference frames: the first one and so many recent ones, instead of `policy`
    normalise: bool = False  # features to length 1
    temperature: float = 1.0  # divides the logits
    top_k: int | None = None  # attend to so many cells of all references; no search, prior and foreground gain with it
    circle: bool = False  # with top_k: windows are circles, of cells nearer than the radius
    first_windowed: bool = True  # with top_k: False lets a query see all of a frame whose labels were given
    stretch: bool = False  # each label's map to 0 … 1 before the strongest label is taken

    def __post_init__(self) -> None:
        if self.top_k is None and (self.circle or not self.first_windowed):
            raise ValueError("circle and first_windowed need top_k")
        if self.top_k is not None and (self.prior or self.foreground_gain != 1):
            raise ValueError("the prior and the foreground gain do not go with top_k")
        if self.soft and self.foreground_gain != 1:
            raise ValueError("the foreground gain would grow from frame to frame in soft labels that are remembered")

    @classmethod
    def released(cls, *, momentum: bool, compact: bool, policy: int = 0) -> "Propagation":
        """The released model evaluated with `--usemomen` (momentum) and `--compact` (docs/method.md §5)."""
        if momentum and compact:
            return cls(search=False, prior=True, foreground_gain=1.05, policy=policy)
        return cls(prior=compact, policy=policy)


# stride, how: what published features are compared by (docs/method.md §10)
PROTOCOLS = {
    "liir": (4, Propagation()),
    "crw": (8, Propagation(
        radius=12, soft=True, context=20, normalise=True, temperature=0.05, top_k=10, circle=True, first_windowed=False
    )),
    "dino": (16, Propagation(
        radius=12, soft=True, context=7, normalise=True, temperature=0.1, top_k=5, stretch=True
    )),
}  # fmt: skip


def reference_frames(target: int, policy: int, context: int | None = None) -> list[int]:
    """The frames that frame `target` is reconstructed from, ascending."""
    if context is not None:
        return sorted({0, *range(max(0, target - context), target)})
    if policy == 2:
        return [target - 1]
    anchors = {0, *(frame for frame in ANCHORS if target > frame)} if policy == 0 else {0}
    return sorted(anchors | {target - back for back in RECENT if target > back})

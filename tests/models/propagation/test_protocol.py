"""Reference frames, the released settings, and the protocols of other methods against dense formulations."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.propagation import (
    PROTOCOLS,
    LocalProtocol,
    Propagator,
    ReferencePolicy,
    released_protocol,
)
from tests.support import dense
from tests.support.problems import normal


def expected_references(target: int, policy: int) -> list[int]:
    """The rule of docs/method.md §4."""
    recent = {target - back for back in (1, 3, 5) if target - back > 0}
    if policy == 0:
        return sorted({0} | ({5} if target > 5 else set()) | recent)
    return sorted({0} | recent) if policy == 1 else [target - 1]


@pytest.mark.parametrize(("target", "policy"), list(itertools.product(range(1, 60), range(3))))
def test_reference_frames(target, policy):
    assert LocalProtocol(policy=ReferencePolicy(policy)).references(target) == expected_references(target, policy)


def test_frames_whose_labels_were_given_stay_references():
    assert LocalProtocol().references(20, {0, 8}) == [0, 5, 8, 15, 17, 19]
    crw = PROTOCOLS["crw"][1]
    assert crw.references(40, {0, 8}) == [0, 8, *range(20, 40)]
    assert [crw.copies_of_first(target) for target in (1, 20, 21, 40)] == [20, 1, 0, 0]


LABELS = 3


def propagate_densely(name: str, video: list[Tensor], first: Tensor) -> list[Tensor]:
    """Soft labels [K, N] of all frames, given the features [C, H, W] of each and the first labels [K, N]."""
    height, width = video[0].shape[1:]
    context, radius, top_k, temperature = {"crw": (20, 12, 10, 0.05), "dino": (7, 12, 5, 0.1)}[name]
    near = dense.window_mask(height, width, radius, circle=name == "crw")
    everywhere = torch.ones_like(near)
    flat = [F.normalize(features.flatten(1), dim=0) for features in video]
    soft = [first]
    for t in range(1, len(video)):
        frames = sorted({0} | {s for s in range(t) if t - s <= context})
        windows = [everywhere if name == "crw" and s == 0 else near for s in frames]
        if name == "crw":  # the first frame stands in for those before it, and competes through its windows, too
            copies = range(t - context, 1)
            frames, windows = frames + [0] * len(copies), windows + [near] * len(copies)
        query, keys = flat[t] / temperature, torch.stack([flat[s] for s in frames])
        soft.append(dense.attend_top_k(query, keys, [soft[s] for s in frames], windows, top_k, ties=name == "dino"))
    return soft


@pytest.mark.parametrize("name", ["crw", "dino"])
def test_protocols(name):
    """The frames are features already; the video is longer than the context."""
    stride, how = PROTOCOLS[name]
    assert stride == {"crw": 8, "dino": 16}[name]
    height, width = 6, 20
    labels = torch.randint(0, LABELS, (height, width), generator=torch.Generator().manual_seed(0))
    labels[0, :LABELS] = torch.arange(LABELS)
    start, drift = normal(5, height, width), normal(24, 5, height, width, seed=1)
    video = [start + 0.2 * drift[:t].sum(0) for t in range(24)]
    propagator = Propagator(lambda frames: frames[..., ::stride, ::stride], how, stride=stride)
    expected = propagate_densely(name, video, F.one_hot(labels, LABELS).permute(2, 0, 1).flatten(1).double())
    for t, features in enumerate(video):
        frame = features.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
        given = labels.repeat_interleave(stride, 0).repeat_interleave(stride, 1) if t == 0 else None
        prediction = propagator.step(frame, given)
        torch.testing.assert_close(prediction.soft.flatten(1).double(), expected[t], atol=1e-6, rtol=1e-5)
        if t:
            full = F.interpolate(prediction.soft[None], scale_factor=stride, mode="bilinear")[0]
            if name == "dino":  # each label's map is stretched
                full = (full - full.amin((1, 2), True)) / (full.amax((1, 2), True) - full.amin((1, 2), True))
            assert torch.equal(prediction.mask, full.argmax(0))


def test_the_released_models_differ_in_three_fields():
    plain = released_protocol(momentum=False, compact=False)
    assert plain == LocalProtocol(search=True, prior=False, foreground_gain=1.0, policy=0, radius=14)
    assert released_protocol(momentum=True, compact=False) == plain
    assert released_protocol(momentum=False, compact=True) == LocalProtocol(prior=True)
    both = released_protocol(momentum=True, compact=True)
    assert both == LocalProtocol(search=False, prior=True, foreground_gain=1.05)
    for momentum, compact in itertools.product((False, True), repeat=2):
        released = released_protocol(momentum=momentum, compact=compact, policy=ReferencePolicy.LAST)
        assert released.policy == ReferencePolicy.LAST


def test_what_does_not_go_together():
    with pytest.raises(ValueError, match="gain would be applied again"):
        LocalProtocol(soft=True, foreground_gain=1.05)

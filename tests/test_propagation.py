"""Which frames are remembered, and what a step does with them."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.propagation import Propagator
from models.protocol import Propagation, reference_frames
from utils.errors import UserError

STRIDE = 4


def expected_references(target: int, policy: int) -> list[int]:
    """docs/method.md §4, word by word."""
    recent = {target - back for back in (1, 3, 5) if target - back > 0}
    if policy == 0:
        return sorted({0} | ({5} if target > 5 else set()) | recent)
    return sorted({0} | recent) if policy == 1 else [target - 1]


def patches(frames: Tensor) -> Tensor:
    """An encoder without weights: sharp features, [B, 3, H, W] -> [B, 48, H/4, W/4]."""
    return 5 * F.normalize(F.pixel_unshuffle(frames, STRIDE), dim=1)


class Recorder:
    """Wraps an encoder and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frames: Tensor) -> Tensor:
        self.calls += len(frames)
        return patches(frames)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def halves(height: int, width: int, number: int = 1) -> Tensor:
    """Labels: object `number` on the left."""
    labels = torch.zeros(height, width, dtype=torch.int64)
    labels[:, : width // 2] = number
    return labels


@pytest.mark.parametrize(("target", "policy"), list(itertools.product(range(1, 60), range(3))))
def test_reference_frames(target, policy):
    assert reference_frames(target, policy) == expected_references(target, policy)


@pytest.mark.parametrize("policy", range(3))
def test_each_frame_is_encoded_once_and_memory_is_constant(policy):
    encode = Recorder()
    propagator = Propagator(encode, Propagation(policy=policy, radius=1))
    propagator.step(noise(8, 12), halves(8, 12))
    held = []
    for t in range(1, 40):
        propagator.step(noise(8, 12, t))
        held.append(propagator.remembered_frames)
        assert set(reference_frames(t + 1, policy)) <= set(held[-1])
    assert encode.calls == 40
    assert max(map(len, held)) <= 7


def test_a_still_video_keeps_its_mask():
    frame, labels = noise(32, 48), halves(32, 48)
    for released in itertools.product((False, True), repeat=2):
        propagation = Propagation.released(momentum=released[0], compact=released[1])
        propagator = Propagator(patches, propagation)
        propagator.step(frame, labels)
        for _ in range(20):
            prediction = propagator.step(frame)
        # The prior gives a window's second peak a share of 0.27 even where its weight is 0: borders fray.
        assert (prediction.mask == labels).float().mean() > (0.9 if propagation.prior else 0.999)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (33, 50), (32, 48)])
def test_any_frame_size(height, width):
    propagator = Propagator(patches, Propagation(radius=2))
    labels = halves(height, width)
    first = propagator.step(noise(height, width), labels)
    assert torch.equal(first.mask, labels)
    prediction = propagator.step(noise(height, width, 1))
    assert prediction.mask.shape == (height, width)
    assert prediction.soft.shape == (propagator.channels, -(-height // STRIDE), -(-width // STRIDE))


@pytest.mark.parametrize("objects", [1, 5, 16, 40, 300])
def test_any_number_of_objects(objects):
    """Hard labels, computed a few channels at a time, are those of the whole upsampled stack."""
    labels = torch.randint(objects + 1, (40, 60), generator=torch.Generator().manual_seed(0))
    labels[0, 0] = objects
    propagator = Propagator(patches, Propagation(radius=3))
    propagator.step(noise(40, 60), labels)
    prediction = propagator.step(noise(40, 60, 1))
    assert len(prediction.soft) == objects + 1
    whole = F.interpolate(prediction.soft[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    assert torch.equal(prediction.mask, whole.argmax(0))


def test_empty_channels_change_nothing():
    """Label numbers with gaps give the same masks as consecutive ones."""
    masks = {}
    for number in (1, 7):
        propagator = Propagator(patches, Propagation(radius=2, prior=True))
        propagator.step(noise(16, 24), halves(16, 24, number))
        masks[number] = propagator.step(noise(16, 24, 1)).mask
    assert torch.equal(masks[7], 7 * masks[1])


def test_labels_given_later_are_remembered():
    propagator = Propagator(patches, Propagation(radius=1, policy=2))
    frame = noise(16, 24)
    propagator.step(frame, torch.zeros(16, 24, dtype=torch.int64))
    assert not propagator.step(frame).mask.any()
    propagator.step(frame, halves(16, 24, 2))
    assert set(propagator.step(frame).mask.unique().tolist()) == {0, 2}


def test_wrong_use_is_refused():
    propagator = Propagator(patches, Propagation())
    with pytest.raises(ValueError, match="first frame needs labels"):
        propagator.step(noise(8, 8))
    with pytest.raises(ValueError, match="one size"):
        propagator.step(noise(8, 8), halves(8, 12))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_no_background(broken):
    propagator = Propagator(lambda frames: patches(frames) * (broken if propagator.frame == 2 else 1), Propagation())
    propagator.step(noise(8, 12), halves(8, 12))
    propagator.step(noise(8, 12, 1))
    with pytest.raises(UserError, match="frame 2: its features are not finite"):
        propagator.step(noise(8, 12, 2))


def test_the_released_models_differ_in_three_fields():
    plain = Propagation.released(momentum=False, compact=False)
    assert plain == Propagation(search=True, prior=False, foreground_gain=1.0, policy=0, radius=14)
    assert Propagation.released(momentum=True, compact=False) == plain
    assert Propagation.released(momentum=False, compact=True) == Propagation(prior=True)
    both = Propagation.released(momentum=True, compact=True)
    assert both == Propagation(search=False, prior=True, foreground_gain=1.05)

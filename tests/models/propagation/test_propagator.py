"""The propagator: which frames it remembers, which labels it takes, what a step returns."""

import itertools
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from functional.attention import attend
from functional.long_range_search import expected_offset
from models.propagation import (
    PROTOCOLS,
    UNKNOWN,
    LocalProtocol,
    NonFiniteFeaturesError,
    Propagator,
    ReferencePolicy,
    released_protocol,
)
from tests.support.problems import normal

pytestmark = pytest.mark.usefixtures("single_thread")

STRIDE = 4


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
    """Labels with object `number` in the left half."""
    labels = torch.zeros(height, width, dtype=torch.int64)
    labels[:, : width // 2] = number
    return labels


@pytest.mark.parametrize("policy", range(3))
def test_each_frame_is_encoded_once_and_memory_is_constant(policy):
    encode = Recorder()
    propagator = Propagator(encode, LocalProtocol(policy=ReferencePolicy(policy), radius=1))
    propagator.step(noise(8, 12), halves(8, 12))
    held = []
    for t in range(1, 40):
        propagator.step(noise(8, 12, t))
        held.append(sorted(propagator.memory))
        assert set(LocalProtocol(policy=ReferencePolicy(policy)).references(t + 1)) <= set(held[-1])
    assert encode.calls == 40
    assert max(map(len, held)) <= 7


def test_a_still_video_keeps_its_mask():
    frame, labels = noise(32, 48), halves(32, 48)
    for released in itertools.product((False, True), repeat=2):
        propagation = released_protocol(momentum=released[0], compact=released[1])
        propagator = Propagator(patches, propagation)
        propagator.step(frame, labels)
        for _ in range(20):
            prediction = propagator.step(frame)
        # The prior gives a window's second peak a share of 0.27 even where its weight is 0: borders change.
        assert (prediction.mask == labels).float().mean() > (0.9 if propagation.prior else 0.999)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (33, 50), (32, 48)])
def test_any_frame_size(height, width):
    propagator = Propagator(patches, LocalProtocol(radius=2))
    labels = halves(height, width)
    first = propagator.step(noise(height, width), labels)
    assert torch.equal(first.mask, labels)
    prediction = propagator.step(noise(height, width, 1))
    assert prediction.mask.shape == (height, width)
    assert prediction.soft.shape == (propagator.channels, -(-height // STRIDE), -(-width // STRIDE))


@pytest.mark.parametrize("objects", [1, 5, 16, 40, 300])
def test_any_number_of_objects(objects):
    """Hard labels, computed a few channels at a time, equal the argmax of all upsampled channels."""
    labels = torch.randint(objects + 1, (40, 60), generator=torch.Generator().manual_seed(0))
    labels[0, 0] = objects
    propagator = Propagator(patches, LocalProtocol(radius=3))
    propagator.step(noise(40, 60), labels)
    prediction = propagator.step(noise(40, 60, 1))
    assert len(prediction.soft) == objects + 1
    whole = F.interpolate(prediction.soft[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    assert torch.equal(prediction.mask, whole.argmax(0))


def test_empty_channels_change_nothing():
    """Label numbers with gaps give the same masks as consecutive ones."""
    masks = {}
    for number in (1, 7):
        propagator = Propagator(patches, LocalProtocol(radius=2, prior=True))
        propagator.step(noise(16, 24), halves(16, 24, number))
        masks[number] = propagator.step(noise(16, 24, 1)).mask
    assert torch.equal(masks[7], 7 * masks[1])


def test_labels_given_later_are_remembered():
    propagator = Propagator(patches, LocalProtocol(radius=1, policy=ReferencePolicy.LAST))
    frame = noise(16, 24)
    propagator.step(frame, torch.zeros(16, 24, dtype=torch.int64))
    assert not propagator.step(frame).mask.any()
    propagator.step(frame, halves(16, 24, 2))
    assert set(propagator.step(frame).mask.unique().tolist()) == {0, 2}


def test_wrong_use_is_refused():
    propagator = Propagator(patches, LocalProtocol())
    with pytest.raises(ValueError, match="first frame needs labels"):
        propagator.step(noise(8, 8))
    with pytest.raises(ValueError, match="one size"):
        propagator.step(noise(8, 8), halves(8, 12))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(broken):
    propagator = Propagator(lambda frames: patches(frames) * (broken if propagator.frame == 2 else 1), LocalProtocol())
    propagator.step(noise(8, 12), halves(8, 12))
    propagator.step(noise(8, 12, 1))
    with pytest.raises(NonFiniteFeaturesError, match="frame 2: its features are not finite"):
        propagator.step(noise(8, 12, 2))


def test_soft_labels_with_the_prior_sum_to_1():
    """Weights of the compactness prior do not sum to 1; remembered soft labels must."""
    start, drift = normal(5, 12, 20, dtype=torch.float32), normal(50, 5, 12, 20, seed=1, dtype=torch.float32)
    propagator = Propagator(lambda frames: 3 * frames, LocalProtocol(prior=True, soft=True, search=False), stride=1)
    first = F.one_hot(torch.arange(240).view(12, 20) % 3).permute(2, 0, 1).float()
    for t in range(50):
        soft = propagator.step(start + 0.05 * drift[:t].sum(0), first if t == 0 else None).soft
        torch.testing.assert_close(soft.sum(0), torch.ones(12, 20), atol=1e-4, rtol=0)


def colours(frames: Tensor) -> Tensor:
    """One-hot features of a frame whose channel 0 numbers the colour of each 4×4 cell."""
    return 30 * F.one_hot(frames[:, 0, ::4, ::4].long(), 4).movedim(-1, 1).float()


def frame_of(cells: list[list[int]]) -> Tensor:
    return torch.tensor(cells).float().repeat_interleave(4, 0).repeat_interleave(4, 1).expand(3, -1, -1)


def test_late_objects_join_and_their_frame_is_remembered():
    """Where a late mask is UNKNOWN the labels are predicted; its frame stays in memory."""
    propagator = Propagator(colours, LocalProtocol(radius=3, search=False))
    before, cells = [[1, 1, 0, 0], [0, 0, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 2]]
    propagator.step(frame_of(before), frame_of(before)[0].long())
    late = torch.full((8, 16), UNKNOWN)
    late[4:, 12:] = 2
    mask = propagator.step(frame_of(cells), late).mask
    assert mask[2::4, 2::4].tolist() == cells  # in the middle of each cell
    empty = frame_of([[0] * 4] * 2)
    for _ in range(12):  # both objects are hidden for longer than recent frames are remembered
        assert not propagator.step(empty).mask.any()
    assert 1 in sorted(propagator.memory)
    assert propagator.step(frame_of(cells)).mask[2::4, 2::4].tolist() == cells


def test_labels_given_later_may_be_fewer():
    """Hard labels, and soft ones on the grid of a frame of odd size."""
    frame = noise(5, 7)
    for fewer in (halves(5, 7), torch.ones(1, 2, 2)):
        propagator = Propagator(patches, LocalProtocol(radius=1))
        propagator.step(frame, halves(5, 7, 2))
        propagator.step(frame, fewer)
        assert len(propagator.step(frame).soft) == 3


def test_attention_and_search_use_the_backend():
    propagator = Propagator(patches, LocalProtocol(radius=1), backend="other")
    with (
        patch("models.propagation.propagator.attend", wraps=attend) as attention,
        patch("models.propagation.propagator.expected_offset", wraps=expected_offset) as search,
    ):
        for t in range(20):  # the first frame is searched from the 16th on
            propagator.step(noise(8, 8, t), None if t else halves(8, 8))
    for calls in (attention.call_args_list, search.call_args_list):
        assert {call.kwargs["backend"] for call in calls} == {"other"}


def test_soft_labels_are_taken_and_remembered():
    """Soft labels on the feature grid are remembered soft or hard, as the protocol says."""
    frame, soft = frame_of([[1, 1, 0, 0]]), torch.tensor([[[0.7, 0.7, 1, 1]], [[0.3, 0.3, 0, 0]]])
    for remember, expected in ((True, soft[1]), (False, torch.zeros(1, 4))):
        propagator = Propagator(colours, LocalProtocol(radius=1, soft=remember))
        propagator.step(frame, soft)
        torch.testing.assert_close(propagator.step(frame).soft[1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "labels",
    [
        None,
        torch.full((4, 16), UNKNOWN),
        torch.zeros(4, 12).long(),
        torch.zeros(2, 1, 3),
        torch.zeros(1, 4),
        torch.zeros(1, 4, 16).long(),
    ],
)
def test_labels_that_do_not_fit(labels):
    with pytest.raises(ValueError, match="labels"):
        Propagator(colours, LocalProtocol(radius=1)).step(frame_of([[1, 1, 0, 0]]), labels)


@pytest.mark.parametrize("protocol", [LocalProtocol(radius=2, search=False), PROTOCOLS["crw"][1], PROTOCOLS["dino"][1]])
def test_features_in_half_precision(protocol):
    propagator = Propagator(lambda frames: patches(frames).half(), protocol)
    propagator.step(noise(32, 48), halves(32, 48))
    assert propagator.step(noise(32, 48)).mask.float().mean() == pytest.approx(0.5, abs=0.1)

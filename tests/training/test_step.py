"""A training step: what each option changes and what it does not. Frames are 64×64."""

import copy

import pytest
import torch

from models.resnet import POSITION_GRID
from tests.support.threads import one_thread
from training.step import SHUFFLED_PATCH, Recipe, Training, shuffle_patches
from utils.distributed import World

BATCH = 2
VIDEOS = torch.arange(BATCH)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("training.step.REGION_GRID", 8)
    with one_thread():
        yield


@pytest.fixture
def frames():
    """Reference and target, which differ by a shift."""
    video = torch.rand(BATCH, 3, 64, 68, generator=torch.Generator().manual_seed(0)) - 0.5
    return video[..., :64].clone(), video[..., 4:].clone()


def build(**options) -> Training:
    """A training whose position embedding, heads and queue are not zero."""
    built = Training(Recipe(bsize=BATCH, factor=1, **options), World(0, 1, torch.device("cpu")))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        built.model.feature_extraction.pos_embed1.normal_(generator=random)
        if built.queue is not None:
            built.queue.keys.normal_(generator=random)
            built.queue.videos.copy_(VIDEOS + 100)
            built.queue.written = 2
    return built


# The factors of the learning rate: the last sample at which each holds, and the first one after it.
STAGE_1 = [(0, 1), (400_000, 1), (600_000, 1 / 2), (800_000, 1 / 4), (1_000_000, 1 / 8), (1_000_002, 1 / 16)]
STAGE_1 += [(400_002, 1 / 2), (600_002, 1 / 4), (800_002, 1 / 8), (9_000_000, 1 / 16)]
STAGE_2 = [(0, 1), (55_000, 1), (85_000, 0.9), (135_000, 0.75), (175_000, 0.5), (250_000, 0.25), (300_000, 0.125)]
STAGE_2 += [(55_002, 0.9), (85_002, 0.75), (135_002, 0.5), (175_002, 0.25), (250_002, 0.125), (300_002, 0.0625)]


@pytest.mark.parametrize(
    ("momentum", "samples", "factor"),
    [(False, *row) for row in STAGE_1] + [(True, *row) for row in STAGE_2],
)
def test_the_learning_rate_follows_the_samples_seen(momentum, samples, factor, frames):
    """Adam's first step changes a weight by the learning rate, whatever the gradient, so it is measured there."""
    built = build(usemomen=momentum, lr=1e-3)
    built.progress.steps = samples // BATCH
    weight = built.model.post_convolution.weight
    before = weight.detach().double()
    built.step(*frames, VIDEOS, VIDEOS)
    moved = (weight.detach().double() - before).abs().max()
    assert float(moved) == pytest.approx(1e-3 * factor, rel=1e-3)


def test_a_step_starts_from_no_gradient(frames):
    """Gradients do not accumulate over steps."""
    twice, once = build(lr=0.0), build(lr=0.0)
    twice.step(*frames, VIDEOS, VIDEOS)
    for built in (twice, once):
        built.progress.step = built.progress.steps = 1
        built.step(*frames, VIDEOS, VIDEOS)
    for ours, theirs in zip(twice.model.parameters(), once.model.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_mixed_precision_is_nearly_the_same(frames):
    exact, mixed = (build(semantic=True, compact=True, amp=amp) for amp in (False, True))
    losses = exact.step(*frames, VIDEOS, VIDEOS)
    for name, value in mixed.step(*frames, VIDEOS, VIDEOS).items():
        assert value.dtype == losses[name].dtype
        if value.ndim == 0:
            assert float(value.detach()) == pytest.approx(float(losses[name].detach()), rel=0.05, abs=1e-3), name
    assert {value.dtype for value in mixed.model.parameters()} == {torch.float32}
    assert not torch.equal(mixed.model.post_convolution.weight, exact.model.post_convolution.weight)


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_batchnorm_keeps_its_statistics_and_learns(freeze, frames):
    built = build(freeze_bn=freeze)
    before = copy.deepcopy(built.model.state_dict())
    built.step(*frames, VIDEOS, VIDEOS)
    after = built.model.state_dict()
    for name, value in after.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(value, before[name]) == freeze, name
    assert not torch.equal(after["feature_extraction.bn1.weight"], before["feature_extraction.bn1.weight"])


def test_shuffled_position_changes_the_region_loss_alone(frames):
    plain, shuffled = (build(usemomen=True, compact=True, pe_shuffle=on) for on in (False, True))
    ours, theirs = (built.step(*frames, VIDEOS, VIDEOS) for built in (plain, shuffled))
    for name in ("pixel", "compactness", "reconstruction"):
        assert torch.equal(ours[name], theirs[name]), name
    assert not torch.allclose(ours["region"], theirs["region"])
    assert torch.equal(plain.queue.keys, shuffled.queue.keys)


def test_shuffling_moves_whole_patches():
    cells = torch.arange(POSITION_GRID**2, dtype=torch.float32).view(1, 1, POSITION_GRID, POSITION_GRID)
    embedding = torch.cat((cells, -cells), 1)
    first, again, other = (shuffle_patches(embedding, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == embedding.shape

    def patches(maps: torch.Tensor) -> set[tuple[float, ...]]:
        cut = maps.unfold(2, SHUFFLED_PATCH, SHUFFLED_PATCH).unfold(3, SHUFFLED_PATCH, SHUFFLED_PATCH)
        return {tuple(patch.tolist()) for patch in cut.permute(2, 3, 0, 1, 4, 5).flatten(2).flatten(0, 1)}

    assert patches(first) == patches(embedding)


def test_a_loss_that_is_not_finite_changes_no_weight(frames):
    built = build()
    frames[1][0, 0, 0, 0] = float("inf")
    before = copy.deepcopy(dict(built.model.named_parameters()))
    with pytest.raises(FloatingPointError, match="not finite"):
        built.step(*frames, VIDEOS, VIDEOS)
    assert all(torch.equal(value, before[name]) for name, value in built.model.named_parameters())
    assert built.progress.steps == 0

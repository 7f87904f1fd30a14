"""A training step: what each option changes and what it does not. Frames are 64×64."""

import copy
from unittest.mock import patch

import pytest
import torch

from dataloaders.training_pairs import Video
from models.losses import COLOUR_CHANNELS
from models.queue import NegativeQueue
from models.resnet import POSITION_GRID
from tests.support.threads import one_thread
from training.files import read_training_state
from training.seed import DROPPED_CHANNEL, SHUFFLED_EMBEDDING, generator, torch_generator
from training.step import Progress, Recipe, Training, shuffle_patches
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


def test_a_step_counts_and_the_last_one_begins_the_next_epoch(frames):
    built = build()
    built.step(*frames, VIDEOS, VIDEOS)
    assert built.progress == Progress(epoch=0, step=1, steps=1)
    built.progress.end_epoch_if_complete(2)
    assert built.progress == Progress(epoch=0, step=1, steps=1)
    built.progress.end_epoch_if_complete(1)
    assert built.progress == Progress(epoch=1, step=0, steps=1)


def test_a_loaded_state_continues_to_the_same_bits(frames, tmp_path):
    straight, resumed = (build(usemomen=True, pe_shuffle=True) for _ in range(2))
    straight.step(*frames, VIDEOS, VIDEOS)
    torch.save(straight.state_dict(), tmp_path / "last.pt")
    resumed.load_state_dict(read_training_state(tmp_path / "last.pt"), tmp_path / "last.pt")
    for built in (straight, resumed):
        built.step(*frames, VIDEOS, VIDEOS)
    ours, theirs = (
        [state["state_dict"], state["optimizer"]["state"], state["queue"], state["position"]]
        for state in (straight.state_dict(), resumed.state_dict())
    )
    torch.testing.assert_close(theirs, ours, atol=0, rtol=0)


def test_a_state_of_a_device_with_a_fused_optimiser_continues(frames, tmp_path):
    """As it would have with the plain one, up to rounding."""
    straight, fused, resumed = (build() for _ in range(3))
    for built in (straight, fused):
        built.step(*frames, VIDEOS, VIDEOS)
    state = fused.state_dict()
    state["optimizer"]["param_groups"][0]["fused"] = True
    torch.save(state, tmp_path / "last.pt")
    resumed.load_state_dict(read_training_state(tmp_path / "last.pt"), tmp_path / "last.pt")
    for built in (straight, resumed):
        built.step(*frames, VIDEOS, VIDEOS)
    torch.testing.assert_close(dict(resumed.model.state_dict()), dict(straight.model.state_dict()))


def test_a_state_of_another_index_is_renumbered(frames, tmp_path):
    """The queue's videos are those of the same name, first frame and length, whatever their row."""
    built, resumed = build(usemomen=True), build(usemomen=True)
    built.videos, resumed.videos = [Video(name, 0, 9) for name in "abc"], [Video(name, 0, 9) for name in "cxb"]
    built.step(*frames, VIDEOS, VIDEOS + 1)  # b and c
    path = tmp_path / "last.pt"
    torch.save(built.state_dict(), path)
    resumed.load_state_dict(read_training_state(path), path)
    assert resumed.queue.videos.tolist() == [2, 0]
    assert torch.equal(resumed.queue.keys, built.queue.keys)


def test_randomness_is_that_of_the_epoch_and_the_step(frames):
    """It does not depend on how many steps were taken before; each purpose has its own random numbers."""
    built, embeddings = build(pe_shuffle=True, lr=0.0, seed=7), []
    built.model.register_forward_pre_hook(lambda _, inputs: embeddings.append(inputs[2]))
    for step in range(4):
        built.progress = Progress(epoch=1, step=step, steps=10 + 3 * step)
        losses = built.step(*frames, VIDEOS, VIDEOS)
        assert int(losses["channel"]) == COLOUR_CHANNELS[generator(7, DROPPED_CHANNEL, 1, step).integers(2)]
        random = torch_generator(7, SHUFFLED_EMBEDDING, 1, step)
        assert torch.equal(embeddings[-1], shuffle_patches(built.model.feature_extraction.pos_embed1, random))


class OneOfTwo(World):
    """A process beside one that has the same samples."""

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        return torch.cat((part, part))


def test_the_queue_is_that_of_all_processes(frames):
    """Negatives are counted for, and keys are taken from, the whole global batch."""
    built, everyone = build(usemomen=True), torch.arange(2 * BATCH)
    built.world = OneOfTwo(0, 1, built.world.device)
    built.queue = NegativeQueue(2 * BATCH, 1, channels=128, height=8, width=8, device=built.world.device)
    with patch.object(built.queue, "negatives", wraps=built.queue.negatives) as negatives:
        built.step(*frames, VIDEOS, everyone)
    assert [asked.tolist() for asked in negatives.call_args.args] == [VIDEOS.tolist(), everyone.tolist()]
    assert torch.equal(built.queue.videos, everyone)
    assert built.queue.keys[:, :, :BATCH].any()
    assert torch.equal(built.queue.keys[:, :, :BATCH], built.queue.keys[:, :, BATCH:])


def test_an_unknown_backend_is_not_ignored(frames):
    with pytest.raises(KeyError, match="none"):
        build(backend="none").step(*frames, VIDEOS, VIDEOS)


def test_adam_has_the_constants_of_the_method():
    (group,) = build().optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0)  # docs/method.md §6


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


def test_the_learning_rate_follows_the_cosine(frames):
    """Half of it, where half of the 38 steps after the warm-up of 2 are taken."""
    built = build(cosine=40, lr=1e-3)
    built.progress.steps = 21
    built.step(*frames, VIDEOS, VIDEOS)
    assert built.optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)


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
    """Of 16×16 cells."""
    cells = torch.arange(POSITION_GRID**2, dtype=torch.float32).view(1, 1, POSITION_GRID, POSITION_GRID)
    embedding = torch.cat((cells, -cells), 1)
    first, again, other = (shuffle_patches(embedding, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == embedding.shape

    def patches(maps: torch.Tensor, side: int) -> set[tuple[float, ...]]:
        cut = maps.unfold(2, side, side).unfold(3, side, side)
        return {tuple(patch.tolist()) for patch in cut.permute(2, 3, 0, 1, 4, 5).flatten(2).flatten(0, 1)}

    assert patches(first, 16) == patches(embedding, 16)
    assert not patches(first, 32) & patches(embedding, 32)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_not_finite_changes_no_weight(broken, frames):
    built = build()
    if broken == "loss":
        frames[1][0, 0, 0, 0] = float("inf")
    else:
        built.model.post_convolution.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = copy.deepcopy(dict(built.model.named_parameters()))
    with pytest.raises(FloatingPointError, match="not finite"):
        built.step(*frames, VIDEOS, VIDEOS)
    assert all(torch.equal(value, before[name]) for name, value in built.model.named_parameters())
    assert built.progress.steps == 0

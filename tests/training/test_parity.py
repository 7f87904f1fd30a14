"""Agreement of `Training.step` with the reference implementation, within the golden files' tolerances."""

import numpy as np
import pytest
import torch
from torch import Tensor

from functional.color import normalised_lab
from models.losses import COLOUR_CHANNELS
from tests.support.golden import golden_queue, golden_weights, load_golden
from training.seed import DROPPED_CHANNEL, generator
from training.step import Recipe, Training
from utils.distributed import World

pytestmark = pytest.mark.parity

RECIPES = ["baseline", "semantic", "compact", "semantic_compact"] + [
    f"momentum{compact}_{queue}" for compact in ("", "_compact") for queue in ("cold", "warm")
]
SCALES = {"s08": 0.08, "s20": 0.2}
BATCH = 2


def build(recipe: str, head_scale: float, channels: list[int], *, factor: int = 3, lr: float = 1e-4) -> Training:
    """A training with the golden weights, whose first steps drop these colour channels."""
    stages = {"semantic": "semantic" in recipe, "usemomen": "momentum" in recipe, "compact": "compact" in recipe}
    options = {"seed": seed_that_drops(channels), "bsize": BATCH, "factor": factor, "lr": lr}
    built = Training(Recipe(**stages, **options), World(0, 1, torch.device("cpu")))
    heads = {"semantic": stages["semantic"], "momentum": stages["usemomen"]}
    built.model.load_state_dict(golden_weights(head_scale, **heads))
    return built


def seed_that_drops(channels: list[int]) -> int:
    """A seed with which the first steps of a training drop these colour channels."""

    def dropped(seed: int) -> list[int]:
        steps = range(len(channels))
        return [COLOUR_CHANNELS[generator(seed, DROPPED_CHANNEL, 0, step).integers(2)] for step in steps]

    return next(seed for seed in range(10_000) if dropped(seed) == channels)


def fill_queue(training: Training, videos: list[int], written: int = 0) -> None:
    queue = training.queue
    queue.keys.copy_(torch.as_tensor(golden_queue((len(videos), 128, 32, 32))).permute(2, 3, 0, 1))
    queue.videos.copy_(torch.tensor(videos))
    queue.written = written


def training_frames() -> tuple[Tensor, Tensor]:
    """References and targets [B, 3, 256, 256]."""
    pairs = load_golden("train_step")["frames_bgr"]
    lab = torch.stack([torch.stack([normalised_lab(frame) for frame in pair]) for pair in pairs])
    return lab[:, 0], lab[:, 1]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_training_step(recipe, scale):
    golden = {
        name.partition("/")[2]: value
        for name, value in load_golden("train_step").items()
        if name.startswith(f"{recipe}_{scale}/")
    }
    training = build(recipe, SCALES[scale], [int(golden["dropped_channel"])])
    if "momentum" in recipe:
        fill_queue(training, [0, 1, 7, 0, 8, 9], written=4 if "warm" in recipe else 0)
    videos = torch.arange(BATCH)
    losses = training.step(*training_frames(), videos, videos)

    names = ("total", "pixel", "region", "compactness")
    found = [float(torch.as_tensor(losses.get(name, 0)).detach()) for name in names]
    np.testing.assert_allclose(found, golden["loss"], rtol=1e-5)
    for name in ("reconstruction", "region_reconstruction"):
        if name in golden:
            np.testing.assert_allclose(losses[name].detach().numpy(), golden[name], atol=1e-4)
    gradients = {name: p.grad for name, p in training.model.named_parameters() if p.grad is not None}
    assert sorted(gradients) == sorted(golden["grad_names"])
    for name, norm in zip(golden["grad_names"], golden["grad_norms"], strict=True):
        assert float(gradients[name].norm()) == pytest.approx(norm, rel=1e-3, abs=1e-7), name
    running_mean = training.model.feature_extraction.bn1.running_mean.numpy()
    np.testing.assert_allclose(running_mean, golden["bn1_running_mean"], atol=1e-5)
    if training.queue:
        keys = training.queue.keys.double()
        checksum = [keys.sum(), keys.abs().sum(), keys.square().sum()]
        np.testing.assert_allclose(checksum, golden["queue_checksum"], rtol=1e-5)
        assert training.queue.videos.tolist() == golden["queue_videos"].tolist()
        assert [training.queue.written] == golden["queue_pointer"].tolist()
        norm = float(training.model.conv_semantic_k.weight.norm())
        assert norm == pytest.approx(float(golden["conv_semantic_k_norm"]), rel=1e-5)


@pytest.mark.parametrize("name", [pytest.param("semantic_compact", marks=pytest.mark.soak), "momentum_compact"])
def test_trajectory(name):
    golden = load_golden(f"trajectory_{name}")
    channels = golden["dropped_channel"].tolist()
    training = build(name, 0.2, channels, factor=2, lr=float(golden["lr"]))
    if training.queue:
        fill_queue(training, [100, 101, 102, 103])
    frames = training_frames()
    for step, videos in enumerate(torch.as_tensor(golden["videos"])):
        losses = training.step(*frames, videos, videos)
        assert float(losses["total"].detach()) == pytest.approx(golden["losses"][step], rel=1e-3), step
    norm = float(training.model.post_convolution.weight.detach().norm())
    assert norm == pytest.approx(float(golden["post_convolution_norm"]), rel=1e-3)

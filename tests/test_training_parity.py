"""Agreement of the training step with the reference's (tolerances: those of the golden files)."""

import numpy as np
import pytest
import torch

from functional.color import normalised_lab
from models.liir import LIIR
from models.losses import compute_losses, drop_channel
from models.queue import NegativeQueue
from tests.conftest import golden_weights, load_golden
from tests.golden_weights import golden_queue

pytestmark = pytest.mark.parity

RECIPES = ["baseline", "semantic", "compact", "semantic_compact"] + [
    f"momentum{compact}_{queue}" for compact in ("", "_compact") for queue in ("cold", "warm")
]
SCALES = {"s08": 0.08, "s20": 0.2}
BATCH = 2


def build(recipe: str, head_scale: float) -> LIIR:
    heads = {"semantic": "semantic" in recipe, "momentum": "momentum" in recipe}
    model = LIIR(**heads)
    model.load_state_dict(golden_weights(head_scale, **heads))
    return model.train()


def build_queue(factor: int, videos: list[int], written: int = 0) -> NegativeQueue:
    queue = NegativeQueue(BATCH, factor, channels=128, height=32, width=32, device=torch.device("cpu"))
    queue.keys.copy_(torch.as_tensor(golden_queue((BATCH * factor, 128, 32, 32))).permute(2, 3, 0, 1))
    queue.videos.copy_(torch.tensor(videos))
    queue.written = written
    return queue


def training_frames() -> tuple[torch.Tensor, torch.Tensor]:
    """References and targets [B, 3, 256, 256]."""
    pairs = load_golden("train_step")["frames_bgr"]
    lab = torch.stack([torch.stack([normalised_lab(frame) for frame in pair]) for pair in pairs])
    return lab[:, 0], lab[:, 1]


def one_step(model, channel: int, compact: bool, queue: NegativeQueue | None = None, videos=None) -> dict:
    """The losses of a step, with gradients; the queue is written."""
    reference, target = training_frames()
    if queue is not None:
        model.update_key_head(0.999)
    features = model(drop_channel(reference, channel), drop_channel(target, channel))
    negatives = queue.negatives(videos, videos) if queue else None
    colours = slice(channel, channel + 1)
    losses = compute_losses(features, reference[:, colours], target[:, colours], compact=compact, negatives=negatives)
    losses["total"].backward()
    if queue is not None:
        queue.push(features.region_key, videos)
    return losses


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_training_step(recipe, scale):
    golden = {
        name.partition("/")[2]: value
        for name, value in load_golden("train_step").items()
        if name.startswith(f"{recipe}_{scale}/")
    }
    model = build(recipe, SCALES[scale])
    queue = videos = None
    if "momentum" in recipe:
        queue = build_queue(3, [0, 1, 7, 0, 8, 9], written=4 if "warm" in recipe else 0)
        videos = torch.tensor([0, 1])
    losses = one_step(model, int(golden["dropped_channel"]), "compact" in recipe, queue, videos)

    found = [
        float(torch.as_tensor(losses.get(name, 0)).detach()) for name in ("total", "pixel", "region", "compactness")
    ]
    np.testing.assert_allclose(found, golden["loss"], rtol=1e-5)
    for name in ("reconstruction", "region_reconstruction"):
        if name in golden:
            np.testing.assert_allclose(losses[name].detach().numpy(), golden[name], atol=1e-4)
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
    assert sorted(norms) == sorted(golden["grad_names"])
    for name, norm in zip(golden["grad_names"], golden["grad_norms"], strict=True):
        assert norms[name] == pytest.approx(norm, rel=1e-3, abs=1e-7), name
    running_mean = model.feature_extraction.bn1.running_mean.numpy()
    np.testing.assert_allclose(running_mean, golden["bn1_running_mean"], atol=1e-5)
    if queue:
        keys = queue.keys.double()
        checksum = [keys.sum(), keys.abs().sum(), keys.square().sum()]
        np.testing.assert_allclose(checksum, golden["queue_checksum"], rtol=1e-5)
        assert queue.videos.tolist() == golden["queue_videos"].tolist()
        assert [queue.written] == golden["queue_pointer"].tolist()
        norm = float(model.conv_semantic_k.weight.norm())
        assert norm == pytest.approx(float(golden["conv_semantic_k_norm"]), rel=1e-5)


@pytest.mark.parametrize("name", [pytest.param("semantic_compact", marks=pytest.mark.soak), "momentum_compact"])
def test_trajectory(name):
    golden = load_golden(f"trajectory_{name}")
    model = build(name, 0.2)
    queue = build_queue(2, [100, 101, 102, 103]) if "momentum" in name else None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=float(golden["lr"]))
    for step, channel in enumerate(golden["dropped_channel"]):
        optimizer.zero_grad()
        losses = one_step(model, int(channel), True, queue, torch.as_tensor(golden["videos"][step]))
        optimizer.step()
        assert float(losses["total"].detach()) == pytest.approx(golden["losses"][step], rel=1e-3), step
    norm = float(model.post_convolution.weight.detach().norm())
    assert norm == pytest.approx(float(golden["post_convolution_norm"]), rel=1e-3)

"""Propagation and training on a device that is not the CPU: a stand-in that refuses to mix the two and counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.launches import propagation, training
from benchmarks.propagation import sample_clip
from benchmarks.stand_in import DEVICE, StandIn
from evaluation.features import DEFAULT_CHECKPOINT
from models.propagation import (
    PROTOCOLS,
    LocalProtocol,
    ObjectPropagator,
    Propagator,
    ReferencePolicy,
    unknown_elsewhere,
)
from models.propagation.protocol import Protocol
from tests.support.features import Kinds, paint
from tests.support.problems import normal
from training.files import read_training_state
from training.step import Recipe, Training
from utils.checkpoint import save
from utils.distributed import World

pytestmark = pytest.mark.usefixtures("single_thread")

CPU = torch.device("cpu")
LIIR = LocalProtocol(radius=4)
PROPAGATIONS = {
    "searched": LIIR,
    "prior": replace(LIIR, prior=True),
    "near": replace(LIIR, search=False, prior=True, foreground_gain=1.05),
    "soft": replace(LIIR, prior=True, soft=True),
    "last": replace(LIIR, policy=ReferencePolicy.LAST),
    "crw": PROTOCOLS["crw"][1],
    "dino": replace(PROTOCOLS["dino"][1], short_side=None),  # at the frames' own size, which is small
}
RECIPES = {
    "stage 1": Recipe(bsize=1),
    "regions": Recipe(semantic=True, compact=True, freeze_bn=True, bsize=1),
    "stage 2": Recipe(usemomen=True, compact=True, pe_shuffle=True, bsize=1, factor=1),
}


def test_tensors_of_two_devices_are_refused():
    with StandIn(), pytest.raises(RuntimeError, match=r"aten::add: tensors of the device and of the CPU"):
        normal(3).to(DEVICE) + normal(3)


def test_counts():
    with StandIn() as device:
        maps = normal(4, 6).to(DEVICE)  # a copy
        device.reset()
        total = (maps.mT[1:] * 2).relu_().sum()  # one new map and one number
        assert device.launches == {"aten::mul": 1, "aten::relu_": 1, "aten::sum": 1}
        assert float(total) == torch.relu(2 * maps.here.mT[1:]).sum()
        assert device.waits == {"aten::_local_scalar_dense": 1}
        assert device.peak == 8 * (24 + 20 + 1)
        del maps, total
        assert device.allocated == 0


@pytest.mark.parametrize("name", PROPAGATIONS)
def test_propagation(name):
    """The masks are those of the CPU; an object joins in the second one."""
    frames = 6 if name == "dino" else 24  # of so few kinds of cells, whose ties DINO's protocol keeps all
    masks = {device: propagate(PROPAGATIONS[name], device, frames) for device in (CPU, DEVICE)}
    assert np.array_equal(*masks.values())
    assert {*np.unique(masks[CPU][1:6])} == {0, 4, 9}


def propagate(protocol: Protocol, device: torch.device, frames: int) -> list[np.ndarray]:
    """Masks of a video in which two squares move."""
    encode = Kinds()
    objects = ObjectPropagator(Propagator(encode, protocol, stride=encode.stride), encode.prepare, device=device)
    masks = []
    with StandIn():
        for t in range(frames):
            kinds, shift = np.zeros((50, 70), np.uint8), 4 * (t // 6)
            kinds[8:24, 8 + shift : 24 + shift], kinds[28:44, 40 - shift : 56 - shift] = 1, 2
            given = {0: np.where(kinds == 1, 4, 0), 1: unknown_elsewhere(np.where(kinds == 2, 9, 0))}
            masks.append(objects.step(objects.prepare(paint(kinds)), given.get(t)))
    return masks


@pytest.mark.soak
@pytest.mark.parametrize("name", RECIPES)
def test_training(name):
    """The losses and weights of three steps are those of the CPU."""
    (losses, weights), (others, other_weights) = (train(RECIPES[name], device) for device in (CPU, DEVICE))
    torch.testing.assert_close(others, losses)
    torch.testing.assert_close(other_weights, weights)


def train(recipe: Recipe, device: torch.device) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The total losses of three steps, and the weights."""
    losses = []
    with StandIn():
        state = Training(recipe, World(0, 1, device))
        for step in range(3):
            reference, target = (normal(1, 3, 256, 256, seed=2 * step + i, dtype=torch.float32) for i in range(2))
            videos = torch.tensor([step]).to(device)
            parts = state.step(reference.to(device), target.to(device), videos, videos)
            losses.append(parts["total"].detach().cpu())
        return losses, {key: value.cpu() for key, value in state.model.state_dict().items()}


@pytest.mark.filterwarnings("ignore:.*non-meta parameter")  # PyTorch takes the stand-in for what it reports to be
def test_a_state_of_the_cpu_is_restored_on_a_device(tmp_path):
    saved = Training(RECIPES["stage 2"], World(0, 1, CPU))
    save(tmp_path / "last.pt", saved.state_dict())
    with StandIn():
        state = Training(RECIPES["stage 2"], World(0, 1, DEVICE))
        state.model.update_key_head(0.5)  # now it differs
        state.load_state_dict(read_training_state(tmp_path / "last.pt"), tmp_path / "last.pt")
        assert all(value.device == DEVICE for value in (*state.model.parameters(), state.queue.keys))
        weights = {key: value.cpu() for key, value in state.model.state_dict().items()}
    torch.testing.assert_close(weights, dict(saved.model.state_dict()))


HALF = (torch.arange(160) > 80).long().expand(96, -1)
CLIP = [normal(3, 96, 160, seed=t, dtype=torch.float32) for t in range(8)], [HALF]


@pytest.mark.parametrize("clip", [CLIP, pytest.param(None, marks=pytest.mark.soak)], ids=["96x160", "480x854"])
def test_what_a_frame_costs(clip):
    """With five references. A device is waited for: for finite features, the offsets of the search, peaked windows."""
    counts = propagation(DEFAULT_CHECKPOINT, *(clip or sample_clip()))
    bars = {
        "near references, plain": (200, 1),
        "near references, compact": (350, 2),
        "two searched, plain": (500, 2),
        "two searched, compact": (700, 4),
    }
    for name, (launches, waits) in bars.items():
        device = counts[f"step, {name}"]
        assert device.launches.total() <= launches, name
        assert device.waits.total() <= waits, name
        assert device.peak < 2e9, name


def test_what_a_training_step_costs():
    first, second = (device.launches.total() for device in training().values())
    assert second <= 1.6 * first

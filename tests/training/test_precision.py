"""The check of --amp before a training's first step."""

import copy

import pytest
import torch

from training import precision
from training.step import Recipe, Training
from utils.distributed import World

CPU = torch.device("cpu")


@pytest.fixture
def checked(monkeypatch) -> list[torch.Tensor]:
    """The features that the two encoders, in bfloat16 and in float32, gave in a check."""
    found = []

    def encode_both(*encoders) -> None:
        frame = torch.full((1, 3, 16, 24), 0.5)
        found.extend(encode(frame) for encode in encoders)

    monkeypatch.setattr(precision, "warn_if_slower", encode_both)
    return found


def test_the_training_is_left_as_it_is(checked):
    """BatchNorm's statistics, modes, gradients and random numbers."""
    training = Training(Recipe(amp=True), World(0, 1, CPU))
    before, random = copy.deepcopy(training.model.state_dict()), torch.get_rng_state()
    modes = [module.training for module in training.model.modules()]
    precision.warn_if_amp_is_slower(training)
    mixed, plain = checked
    assert (mixed.dtype, plain.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(mixed.float(), plain, atol=0.1, rtol=0.1)
    assert not mixed.requires_grad
    torch.testing.assert_close(training.model.state_dict(), before, atol=0, rtol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in training.model.modules()] == modes
    assert all(parameter.grad is None for parameter in training.model.parameters())


@pytest.mark.parametrize(
    ("amp", "world"),
    [(False, World(0, 1, CPU)), (True, World(1, 2, CPU)), (True, World(0, 1, torch.device("cuda")))],
    ids=["without --amp", "not the main process", "on CUDA"],
)
def test_where_nothing_is_checked(amp, world, checked):
    training = Training(Recipe(), World(0, 1, CPU))
    training.recipe, training.world = Recipe(amp=amp), world
    precision.warn_if_amp_is_slower(training)
    assert not checked

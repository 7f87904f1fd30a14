"""Writers of damaged last.pt files, from the state of a real training."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cache

import torch
from torch import Tensor, nn

from models.liir import LIIR
from tests.support.hostile import Maker
from training.step import Recipe, Training
from utils.distributed import World


@cache
def _last() -> dict:
    """The state of a training with the options `training_runs.STAGE_2`, after a step with zero gradients."""
    recipe = Recipe(usemomen=True, compact=True, lr=1e-4, bsize=2, factor=1)
    training = Training(recipe, World(0, 1, torch.device("cpu")))
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    training.optimizer.step()
    training.progress.step = training.progress.steps = 1
    assert asdict(recipe) == training.state_dict()["recipe"]
    return training.state_dict()


def last_with(**changes: Callable[[dict], object]) -> Maker:
    """A last.pt with parts of its state changed by functions."""
    return lambda path: torch.save({**_last(), **{name: make(_last()[name]) for name, make in changes.items()}}, path)


def last_without(name: str) -> Maker:
    return lambda path: torch.save({key: value for key, value in _last().items() if key != name}, path)


def with_moments(change: Callable[[Tensor], Tensor]) -> Callable[[dict], dict]:
    """An optimiser's state with the first moment of the first parameter changed by a function."""

    def make(optimizer: dict) -> dict:
        first = {**optimizer["state"][0], "exp_avg": change(optimizer["state"][0]["exp_avg"])}
        return {**optimizer, "state": {**optimizer["state"], 0: first}}

    return make


def of_another_network(_: dict) -> dict:
    """The state of Adam for as many parameters of other shapes."""
    count = sum(1 for parameter in LIIR(momentum=True).parameters() if parameter.requires_grad)
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(count)]
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    optimizer = torch.optim.Adam(parameters)
    optimizer.step()
    return optimizer.state_dict()

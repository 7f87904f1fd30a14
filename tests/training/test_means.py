"""What a log entry averages, and over what."""

import pytest
import torch

from training.means import Means
from utils.distributed import World


class Slower(World):
    """A process beside one whose values are all greater by 1."""

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        return (values + values + 1) / 2


def test_means_over_steps_and_processes():
    """Losses are averaged over steps, waiting is summed; other results of a step are left out."""
    means = Means()
    for loss, waited in ((1.0, 0.5), (2.0, 0.25), (6.0, 0.0)):
        losses = {"total": torch.tensor(2 * loss, requires_grad=True), "pixel": torch.tensor(loss)}
        means.add({**losses, "reconstruction": torch.zeros(1, 1, 2, 2)}, waited)
    assert means.steps == 3
    expected = {"total": 6, "pixel": 3, "seconds_waiting": 0.75}
    assert means.read(World(0, 1, torch.device("cpu"))) == pytest.approx(expected)
    greater = {name: value + 0.5 for name, value in expected.items()}
    assert means.read(Slower(0, 2, torch.device("cpu"))) == pytest.approx(greater)


def test_one_step_is_not_rounded():
    means = Means()
    means.add({"total": torch.tensor(0.1), "pixel": torch.tensor(0.1)}, 0.0)
    assert means.read(World(0, 1, torch.device("cpu")))["total"] == torch.tensor(0.1).item()


def test_a_step_reads_no_value_from_the_device():
    """Values on `meta` cannot be read."""
    means = Means()
    for _ in range(2):
        means.add({"total": torch.zeros((), device="meta"), "pixel": torch.zeros((), device="meta")}, 0.1)
    assert means.steps == 2

"""The losses and the loader's delay, averaged over the steps of a log entry."""

import torch
from torch import Tensor

from utils.distributed import World

LOSSES = ("total", "pixel", "region", "compactness")


class Means:
    """Sums over steps; the losses stay on their device, since reading one would wait for the step to end."""

    def __init__(self) -> None:
        self.steps = 0
        self._losses: dict[str, Tensor] = {}
        self._waited = 0.0

    def add(self, losses: dict[str, Tensor], waited: float) -> None:
        """Add a step: its losses, of which `LOSSES` are taken, and the seconds that it waited for frames."""
        parts = {name: losses[name].detach() for name in LOSSES if name in losses}
        self._losses = {name: self._losses[name] + part if self.steps else part for name, part in parts.items()}
        self._waited += waited
        self.steps += 1

    def read(self, world: World) -> dict[str, float]:
        """Return the mean losses, and "seconds_waiting" of all steps; means over all processes, which must all call."""
        losses = torch.stack([*self._losses.values()]) / self.steps
        values = world.mean(torch.cat([losses, losses.new_tensor([self._waited])])).tolist()
        return dict(zip([*self._losses, "seconds_waiting"], values, strict=True))

"""What a training leaves in its savepath: checkpoints, log, pictures."""

from pathlib import Path

import torch
from torch import Tensor

from functional.color import reconstruction_picture
from training import Training
from utils.checkpoint import save, steps_taken
from utils.log import TrainingLog
from utils.visualize import write_picture

LAST = "last.pt"
OUTPUTS = (LAST, "checkpoint_*.pt", "*.pt.part", "log.jsonl", "tensorboard", "pictures")
LOSSES = ("total", "pixel", "region", "compactness")
STEPS_PER_ITER_CHECKPOINT = 1000  # in stage 2


class TrainingFiles:
    """Written by the leading process; the others pass by, but all must call."""

    def __init__(self, savepath: Path, training: Training, *, log_every: int, save_every: int) -> None:
        self.savepath = savepath
        self.training = training
        self.log_every = log_every
        self.save_every = save_every
        self.log = TrainingLog(savepath, training.position.steps) if training.world.leads else None

    def after_step(self, reference: Tensor, target: Tensor, losses: dict[str, Tensor], steps_left: int) -> None:
        """Log, then save what is due: what is logged after the last save is dropped when training continues."""
        position = self.training.position
        if self.log:
            self.log.advance(steps_left)
        if position.steps % self.log_every == 0:
            self._write_log(losses, steps_left)
        if self.training.recipe.usemomen and position.steps % STEPS_PER_ITER_CHECKPOINT == 0:
            self.save_weights(f"checkpoint_iter_{position.steps}.pt")
        if position.step == 0:
            self.save_weights(f"checkpoint_epoch_{position.epoch}.pt")
            self._draw(reference[0], target[0], losses)
        if position.step == 0 or position.steps % self.save_every == 0:
            self.save_last()

    def _write_log(self, losses: dict[str, Tensor], steps_left: int) -> None:
        parts = {name: losses[name].detach() for name in LOSSES if name in losses}
        means = self.training.world.mean(torch.stack(list(parts.values()))).tolist()
        position, recipe = self.training.position, self.training.recipe
        values = {"epoch": position.epoch, **dict(zip(parts, means, strict=True))}
        values["learning_rate"] = self.training.optimizer.param_groups[0]["lr"]
        if self.log:
            self.log.write(position.steps, values, batch=recipe.bsize, steps_left=steps_left)

    def _draw(self, reference: Tensor, target: Tensor, losses: dict[str, Tensor]) -> None:
        if self.log:
            parts = reference, target, losses["reconstruction"][0].detach()
            picture = reconstruction_picture(*(part.float().cpu() for part in parts), int(losses["channel"]))
            write_picture(self.savepath / "pictures" / f"epoch_{self.training.position.epoch}.png", picture)

    def finish(self) -> None:
        """At the end: everything, and the weights if the end is within an epoch."""
        position = self.training.position
        if position.step:
            self.save_weights(f"checkpoint_iter_{position.steps}.pt")
        self.save_last()

    def last_good(self) -> str:
        """What was saved last, for an error."""
        path = self.savepath / LAST
        return f"the last good checkpoint is {path} of step {steps_taken(path)}" if path.exists() else "none was saved"

    def close(self) -> None:
        """Whatever ended the training."""
        if self.log:
            self.log.close()

    def save_weights(self, name: str) -> None:
        """A checkpoint for --pretrain and for evaluation."""
        position = self.training.position
        if self.training.world.leads:
            weights = {"state_dict": self.training.model.state_dict(), "epoch": position.epoch, "iter": position.steps}
            save(self.savepath / name, weights)

    def save_last(self) -> None:
        """Everything, for an exact resume."""
        if self.training.world.leads:
            save(self.savepath / LAST, self.training.state_dict())

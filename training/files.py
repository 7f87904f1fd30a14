"""The files of a training in --savepath: checkpoints, log and pictures; reading its saved state."""

from pathlib import Path

import torch
from torch import Tensor

from functional.color import reconstruction_picture
from training.batches import Batch
from training.log import TrainingLog
from training.step import Training
from utils.checkpoint import read_content, save, weights_in
from utils.errors import UserError
from utils.visualize import write_picture

LAST = "last.pt"
OUTPUTS = (LAST, "checkpoint_*.pt", "*.pt.part", "log.jsonl", "tensorboard", "pictures")
LOSSES = ("total", "pixel", "region", "compactness")
STEPS_PER_ITER_CHECKPOINT = 1000  # in stage 2
STATE = {"state_dict", "optimizer", "queue", "position", "recipe"}  # keys of `Training.state_dict`


class TrainingFiles:
    """Writes the files of a training: only the main process writes, but all processes must call the methods."""

    def __init__(self, savepath: Path, training: Training, log_every: int, save_every: int) -> None:
        self.savepath = savepath
        self.training = training
        self.log_every = log_every
        self.save_every = save_every
        self.log = TrainingLog(savepath, training.progress.steps) if training.world.leads else None

    def after_step(self, batch: Batch, losses: dict[str, Tensor], steps_left: int) -> None:
        """Write the log, then the checkpoints that are due; on resume, log entries after the last save are dropped."""
        progress = self.training.progress
        if self.log:
            self.log.advance(steps_left)
        if progress.steps % self.log_every == 0:
            self._write_log(losses, steps_left)
        if self.training.recipe.usemomen and progress.steps % STEPS_PER_ITER_CHECKPOINT == 0:
            self.save_weights(f"checkpoint_iter_{progress.steps}.pt")
        if progress.step == 0:
            self.save_weights(f"checkpoint_epoch_{progress.epoch}.pt")
            self._draw(batch.reference[0], batch.target[0], losses)
        if progress.step == 0 or progress.steps % self.save_every == 0:
            self.save_last()

    def _write_log(self, losses: dict[str, Tensor], steps_left: int) -> None:
        parts = {name: losses[name].detach() for name in LOSSES if name in losses}
        means = self.training.world.mean(torch.stack(list(parts.values()))).tolist()
        progress, recipe = self.training.progress, self.training.recipe
        values = {"epoch": progress.epoch, **dict(zip(parts, means, strict=True))}
        values["learning_rate"] = self.training.optimizer.param_groups[0]["lr"]
        if self.log:
            self.log.write(progress.steps, values, batch=recipe.bsize, steps_left=steps_left)

    def _draw(self, reference: Tensor, target: Tensor, losses: dict[str, Tensor]) -> None:
        if self.log:
            reconstruction = losses["reconstruction"][0].detach().float().cpu()
            picture = reconstruction_picture(reference.cpu(), target.cpu(), reconstruction, int(losses["channel"]))
            write_picture(self.savepath / "pictures" / f"epoch_{self.training.progress.epoch}.png", picture)

    def finish(self) -> None:
        """At the end of training, save the whole state, and also the weights if the end is within an epoch."""
        if self.training.progress.step:
            self.save_weights(self._last_weights())
        self.save_last()

    def weights_missing(self) -> bool:
        """Whether a training that has ended was stopped before it saved its last weights; the same in all processes."""
        world, progress = self.training.world, self.training.progress
        return world.any(world.leads and progress.step > 0 and not (self.savepath / self._last_weights()).exists())

    def _last_weights(self) -> str:
        return f"checkpoint_iter_{self.training.progress.steps}.pt"

    def last_good(self) -> str:
        """Describe the last saved state, for an error message."""
        path = self.savepath / LAST
        return f"the last good checkpoint is {path} of step {steps_taken(path)}" if path.exists() else "none was saved"

    def close(self) -> None:
        """Close the log."""
        if self.log:
            self.log.close()

    def save_weights(self, name: str) -> None:
        """Save a checkpoint of the weights, for --pretrain and for evaluation."""
        progress = self.training.progress
        if self.training.world.leads:
            weights = {"state_dict": self.training.model.state_dict(), "epoch": progress.epoch, "iter": progress.steps}
            save(self.savepath / name, weights)

    def save_last(self) -> None:
        """Save the whole training state, for an exact resume."""
        if self.training.world.leads:
            save(self.savepath / LAST, self.training.state_dict())


def read_training_state(path: Path) -> dict:
    """Read the training state that `save_last` wrote; UserError if the file contains anything else."""
    content = read_content(path)
    if not isinstance(content, dict) or not content.keys() >= STATE:
        way_out = "resume a last.pt file, or pass --pretrain instead to start from the weights"
        raise UserError(f"checkpoint {path}: cannot be resumed, it has no training state; {way_out}")
    return content | {"state_dict": weights_in(path, content)}


def steps_taken(path: Path) -> int | None:
    """Return after how many training steps a checkpoint was saved; None if it does not contain the number."""
    content = read_content(path)
    if not isinstance(content, dict):
        return None
    progress = content.get("position", {"steps": content.get("iter")})
    steps = progress.get("steps") if isinstance(progress, dict) else None
    return steps if isinstance(steps, int) else None

"""The files of a training in --savepath: checkpoints, log and pictures; reading its saved state."""

from pathlib import Path

from torch import Tensor

from functional.color import reconstruction_picture
from training.batches import Batch
from training.log import TrainingLog
from training.means import Means
from training.picture import add_captions
from training.step import Training
from utils.checkpoint import read_content, save, weights_in
from utils.errors import UserError
from utils.visualize import write_picture

LAST = "last.pt"
OUTPUTS = (LAST, "checkpoint_*.pt", "*.pt.part", "log.jsonl", "tensorboard", "pictures")
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
        self.steps_left = 0
        self.means = Means()  # over the steps since the last log entry

    def after_step(self, batch: Batch, losses: dict[str, Tensor], steps_left: int) -> None:
        """Write the log, then the checkpoints that are due; on resume, log entries after the last save are dropped."""
        progress = self.training.progress
        self.steps_left = steps_left
        self.means.add(losses, batch.waited)
        if self.log:
            self.log.advance(steps_left)
        if progress.steps % self.log_every == 0:
            self.write_log()
        if self.training.recipe.usemomen and progress.steps % STEPS_PER_ITER_CHECKPOINT == 0:
            self.save_weights(f"checkpoint_iter_{progress.steps}.pt")
        if progress.step == 0:
            self.save_weights(f"checkpoint_epoch_{progress.epoch}.pt")
            self._draw(batch.reference[0], batch.target[0], losses)
        if progress.step == 0 or progress.steps % self.save_every == 0:
            self.save_last()

    def write_log(self) -> None:
        """Log the means over the steps since the last entry, if there were any."""
        if not self.means.steps:
            return
        progress, recipe = self.training.progress, self.training.recipe
        values = {"epoch": progress.epoch, **self.means.read(self.training.world)}
        values["learning_rate"] = self.training.optimizer.param_groups[0]["lr"]
        if self.log:
            self.log.write(progress.steps, values, batch=recipe.bsize, steps_left=self.steps_left)
        self.means = Means()

    def _draw(self, reference: Tensor, target: Tensor, losses: dict[str, Tensor]) -> None:
        if self.log:
            reconstruction = losses["reconstruction"][0].detach().float().cpu()
            picture = reconstruction_picture(reference.cpu(), target.cpu(), reconstruction, int(losses["channel"]))
            picture = add_captions(picture)
            write_picture(self.savepath / "pictures" / f"epoch_{self.training.progress.epoch}.png", picture)
            self.log.show(self.training.progress.steps, picture)

    def finish(self) -> None:
        """At the end of training, save the whole state, and also the weights if the end is within an epoch; log."""
        if self.training.progress.step:
            self.save_weights(self._last_weights())
        self.save_last()
        self.write_log()

    def incomplete(self) -> bool:
        """Whether a training that has ended lacks its last state or weights; the same in all processes."""
        world, names = self.training.world, [LAST, *([self._last_weights()] if self.training.progress.step else [])]
        return world.any(world.leads and not all((self.savepath / name).exists() for name in names))

    def _last_weights(self) -> str:
        progress = self.training.progress
        return f"checkpoint_iter_{progress.steps}.pt" if progress.step else f"checkpoint_epoch_{progress.epoch}.pt"

    def saved(self) -> str:
        """Name the files of the end of training, for a message."""
        paths = [self.savepath / name for name in (self._last_weights(), LAST)]
        return " and ".join(str(path) for path in paths if path.exists())

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

"""Train LIIR on unlabelled video: stage 1 (plain, --semantic, --compact) and stage 2 (--usemomen --pretrain)."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dataloaders.youtube_vos import Pair, PairFrames, draw_pairs, load_batches, read_index, require_folders
from evaluation import require_backend
from functional.color import normalised_lab, reconstruction_picture
from functional.correlation import BACKENDS
from training import Position, Recipe, Training
from utils.checkpoint import read_training_state, save, sha256
from utils.device import select_device
from utils.distributed import join_world
from utils.errors import UserError, run, warn
from utils.log import TrainingLog
from utils.options import ArgumentParser, add_savepath_options, at_least, json_values
from utils.savepath import open_savepath
from utils.seed import PAIRS, generator
from utils.signals import Stop, stop_signals
from utils.visualize import write_picture

LAST = "last.pt"
OUTPUTS = (LAST, "checkpoint_*.pt", "log.jsonl", "tensorboard", "pictures")
# Options that do not change what a step computes.
NOT_IDENTITY = ("savepath", "overwrite", "resume", "validpath", "epochs", "steps", "worker", "local_rank")
NOT_IDENTITY += ("save_every", "log_every")
DrawPairs = Callable[[np.random.Generator], list[Pair]]
LOSSES = ("total", "pixel", "region", "compactness")
STEPS_PER_ITER_CHECKPOINT = 1000  # in stage 2


def parse_arguments() -> argparse.Namespace:
    """The command line; the reference implementation's options keep their names and defaults."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--datapath", type=Path, default=Path("data/train_all_frames/JPEGImages"), help="frame folders")
    parser.add_argument("--csvpath", type=Path, default=Path("data/ytvos.csv"), help="index of the videos")
    parser.add_argument("--validpath", type=Path, help="accepted and not used: evaluate_davis.py evaluates")
    add_savepath_options(parser, default="results/test")
    parser.add_argument("--resume", type=Path, help="start where this last.pt was")
    parser.add_argument("--pretrain", type=Path, help="start from the weights of this checkpoint")
    parser.add_argument("--epochs", type=at_least(1), default=30, help="passes over the videos")
    parser.add_argument("--steps", type=at_least(1), help="stop after so many steps, whatever --epochs says")
    parser.add_argument("--lr", type=at_least(0, float), default=1e-4, help="initial learning rate")
    parser.add_argument("--bsize", type=at_least(1), default=12, help="pairs in a step, of all processes together")
    parser.add_argument("--factor", type=at_least(1), default=80, help="batches in the queue of negatives")
    parser.add_argument("--semantic", action="store_true", help="region reconstruction")
    parser.add_argument("--usemomen", action="store_true", help="inter-video reconstruction (stage 2)")
    parser.add_argument("--enc_mo", type=at_least(0, float), default=0.999, help="momentum of the key head")
    parser.add_argument("--compact", action="store_true", help="compactness loss")
    parser.add_argument("--freeze_bn", action="store_true", help="use and keep BatchNorm's running statistics")
    parser.add_argument("--pe_shuffle", action="store_true", help="meet other videos under a shuffled position")
    parser.add_argument("--worker", type=at_least(0), default=12, help="processes that read frames")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of all randomness")
    parser.add_argument("--device", help="where to train; CUDA where there is one")
    parser.add_argument("--backend", choices=BACKENDS, default="native", help="how windows are correlated")
    parser.add_argument("--amp", action="store_true", help="run the encoder in bfloat16")
    parser.add_argument("--save_every", type=at_least(1), default=500, help="steps between saves of last.pt")
    parser.add_argument("--log_every", type=at_least(1), default=20, help="steps between lines of the log")
    parser.add_argument("--local_rank", "--local-rank", type=int, help="set by torch.distributed.launch")
    arguments = parser.parse_args()
    if arguments.pe_shuffle and not arguments.usemomen:
        parser.error("--pe_shuffle changes how other videos are met; it needs --usemomen")
    return arguments


def main() -> None:
    """Parse, join the other processes, build, loop."""
    arguments = parse_arguments()
    require_backend(arguments.backend)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    with join_world(select_device(arguments.device), arguments.local_rank) as world:
        if recipe.bsize % world.size:
            raise UserError(f"--bsize {recipe.bsize} is not divisible by {world.size} processes; use a multiple of it")
        videos = read_index(arguments.csvpath)
        require_folders(videos, arguments.datapath)
        training = Training(recipe, world, arguments.pretrain)
        held = open_savepath(
            arguments.savepath, describe(vars(arguments)), outputs=OUTPUTS, overwrite=arguments.overwrite
        )
        with world.led(held), stop_signals() as stop:
            last = arguments.savepath / LAST
            if resume := last if last.exists() else arguments.resume:
                training.load_state_dict(read_training_state(resume), resume)
            draw = partial(draw_pairs, videos, arguments.datapath)
            every = {"log_every": arguments.log_every, "save_every": arguments.save_every}
            with closing(Output(arguments.savepath, training, **every)) as output:
                end, workers = End(arguments.epochs, arguments.steps), min(arguments.worker, os.cpu_count() or 1)
                loop(training, draw, output, end, stop, workers=workers)


def loop(training: Training, draw: DrawPairs, output: "Output", end: "End", stop: Stop, *, workers: int) -> None:
    """Step after step, epoch after epoch, until the end, or until asked to stop."""
    position = training.position
    while not end.reached(position):
        pairs = draw(generator(training.recipe.seed, PAIRS, position.epoch))
        steps = len(pairs) // training.recipe.bsize
        if not steps:
            raise UserError(f"--bsize {training.recipe.bsize}: an epoch of these videos has only {len(pairs)} pairs")
        for batch in load_epoch(training, pairs, workers):
            try:
                losses = training.step(batch.reference, batch.target, batch.videos, batch.all_videos)
            except FloatingPointError as error:
                raise UserError(f"step {position.steps}: {error}, on {batch.names()}; {LAST} is kept") from error
            if position.step == steps:
                position.epoch, position.step = position.epoch + 1, 0
            output.after_step(batch, losses, end.steps_left(position, steps))
            if training.world.any(bool(stop.signal)):
                output.save_last()
                warn(f"stopped at step {position.steps}; the same command continues")
                raise SystemExit(128 + stop.signal)
            if end.reached(position):
                break
    output.finish()


class Batch(NamedTuple):
    """This process's part of a global batch, and whose parts the others are."""

    reference: Tensor  # [B, 3, 256, 256]
    target: Tensor
    videos: Tensor  # [B]
    all_videos: Tensor  # [bsize]
    pairs: list[Pair]  # of the global batch

    def names(self) -> str:
        """The frames, for an error."""
        return ", ".join(f"{pair.reference} and {pair.target.name}" for pair in self.pairs)


def load_epoch(training: Training, pairs: list[Pair], workers: int) -> Iterator[Batch]:
    """The rest of an epoch: the k-th global batch is a slice of `pairs`, of which rank r takes the r-th part."""
    world, size = training.world, training.recipe.bsize
    share = size // world.size
    starts = range(training.position.step * size, len(pairs) - size + 1, size)
    parts = [range(start + world.rank * share, start + (world.rank + 1) * share) for start in starts]
    loaded = load_batches(PairFrames(pairs, normalised_lab), parts, workers)
    for start, tensors in zip(starts, loaded, strict=True):
        mine = pairs[start : start + size]
        everyone = torch.tensor([pair.video for pair in mine], device=world.device)
        yield Batch(*(part.to(world.device, non_blocking=True) for part in tensors), everyone, mine)


class End(NamedTuple):
    """Where training ends: after so many epochs, or steps."""

    epochs: int
    steps: int | None

    def reached(self, position: Position) -> bool:
        return position.epoch >= self.epochs or (self.steps is not None and position.steps >= self.steps)

    def steps_left(self, position: Position, steps_per_epoch: int) -> int:
        """Nearly: epochs differ in length."""
        left = (self.epochs - position.epoch) * steps_per_epoch - position.step
        return left if self.steps is None else min(left, self.steps - position.steps)


class Output:
    """What the leading process writes while training; the others pass by."""

    def __init__(self, savepath: Path, training: Training, *, log_every: int, save_every: int) -> None:
        self.savepath = savepath
        self.training = training
        self.log_every = log_every
        self.save_every = save_every
        self.log = TrainingLog(savepath, training.position.steps) if training.world.leads else None

    def after_step(self, batch: "Batch", losses: dict[str, Tensor], steps_left: int) -> None:
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
            self._draw(batch, losses)
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

    def _draw(self, batch: "Batch", losses: dict[str, Tensor]) -> None:
        if self.log:
            parts = batch.reference[0], batch.target[0], losses["reconstruction"][0].detach()
            picture = reconstruction_picture(*(part.float().cpu() for part in parts), int(losses["channel"]))
            write_picture(self.savepath / "pictures" / f"epoch_{self.training.position.epoch}.png", picture)

    def finish(self) -> None:
        """At the end: everything, and the weights if the end is within an epoch."""
        position = self.training.position
        if position.step:
            self.save_weights(f"checkpoint_iter_{position.steps}.pt")
        self.save_last()

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


def describe(arguments: dict[str, Any]) -> dict[str, Any]:
    """What makes two trainings the same one."""
    description = json_values(arguments, without=NOT_IDENTITY)
    if arguments["pretrain"]:
        description["pretrain_sha256"] = sha256(arguments["pretrain"])
    return description


if __name__ == "__main__":
    run(main)

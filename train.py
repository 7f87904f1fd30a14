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

from dataloaders.youtube_vos import Pair, draw_pairs, load_batches, read_index, require_folders
from encoders import require_backend
from functional.color import normalised_lab
from functional.correlation import BACKENDS
from training import Position, Recipe, Training
from training_files import LAST, OUTPUTS, TrainingFiles
from utils.checkpoint import read_training_state, sha256
from utils.device import select_device
from utils.distributed import join_world
from utils.errors import UserError, run, warn
from utils.options import ArgumentParser, add_precision_options, add_savepath_options, at_least, json_values
from utils.savepath import open_savepath
from utils.seed import PAIRS, generator
from utils.signals import Stop, stop_signals

# Options that do not change what a step computes.
NOT_IDENTITY = ("savepath", "overwrite", "resume", "validpath", "epochs", "steps", "worker", "local_rank")
NOT_IDENTITY += ("save_every", "log_every")
DrawPairs = Callable[[np.random.Generator], list[Pair]]


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
    parser.add_argument("--cosine", type=at_least(0), default=0, help="so many steps, --lr falling along a cosine")
    parser.add_argument("--worker", type=at_least(0), default=12, help="threads that read frames")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of all randomness")
    parser.add_argument("--device", help="where to train; CUDA where there is one")
    parser.add_argument("--backend", choices=BACKENDS, default="native", help="how windows are correlated")
    add_precision_options(parser)
    parser.add_argument("--save_every", type=at_least(1), default=500, help="steps between saves of last.pt")
    parser.add_argument("--log_every", type=at_least(1), default=20, help="steps between lines of the log")
    parser.add_argument("--local_rank", "--local-rank", type=int, help="set by torch.distributed.launch")
    arguments = parser.parse_args()
    if arguments.pe_shuffle and not arguments.usemomen:
        parser.error("--pe_shuffle changes how other videos are met; it needs --usemomen")
    if arguments.cosine:
        arguments.steps = min(arguments.steps or arguments.cosine, arguments.cosine)
    return arguments


def main() -> None:
    """Parse, join the other processes, build, loop."""
    arguments = parse_arguments()
    device = select_device(arguments.device, tf32=arguments.tf32)
    require_backend(arguments.backend, device)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    with join_world(device, arguments.local_rank) as world:
        with world.agreed():
            if recipe.bsize % world.size:
                raise UserError(f"--bsize {recipe.bsize}: cannot be divided among {world.size} processes")
            videos = read_index(arguments.csvpath)
            require_folders(videos, arguments.datapath)
        training = Training(recipe, world, arguments.pretrain)
        held = open_savepath(
            arguments.savepath, describe(vars(arguments)), outputs=OUTPUTS, overwrite=arguments.overwrite
        )
        with world.led(held), stop_signals() as stop:
            last = arguments.savepath / LAST
            if resume := last if world.any(last.exists()) else arguments.resume:
                with world.agreed():
                    training.load_state_dict(read_training_state(resume), resume)
            draw = partial(draw_pairs, videos, arguments.datapath)
            every = {"log_every": arguments.log_every, "save_every": arguments.save_every}
            with closing(TrainingFiles(arguments.savepath, training, **every)) as files:
                end, workers = End(arguments.epochs, arguments.steps), min(arguments.worker, os.cpu_count() or 1)
                loop(training, draw, files, end, stop, workers=workers)


def loop(training: Training, draw: DrawPairs, files: TrainingFiles, end: "End", stop: Stop, *, workers: int) -> None:
    """Step after step, epoch after epoch, until the end, or until asked to stop."""
    position, world = training.position, training.world
    steps_before = position.steps
    while not end.reached(position):
        pairs = draw(generator(training.recipe.seed, PAIRS, position.epoch))
        steps = len(pairs) // training.recipe.bsize
        if position.step >= steps:
            only = f"an epoch of these videos has {len(pairs)} pairs, {steps} steps"
            raise UserError(f"--bsize {training.recipe.bsize}: {only}, and step {position.step + 1} would be next")
        for batch in load_epoch(training, pairs, workers):
            with world.agreed():
                losses = take_step(training, batch, files)
                if position.step == steps:
                    position.epoch, position.step = position.epoch + 1, 0
                files.after_step(batch.reference, batch.target, losses, end.steps_left(position, steps))
            if world.any(bool(stop.signal)):
                with world.agreed():
                    files.save_last()
                if world.leads:
                    warn(f"stopped at step {position.steps}; the same command continues")
                raise SystemExit(128 + stop.signal)
            if end.reached(position):
                break
    if position.steps > steps_before:  # a training that was at its end keeps its files, and their hashes
        with world.agreed():
            files.finish()


def take_step(training: Training, batch: "Batch", files: TrainingFiles) -> dict[str, Tensor]:
    """The step's losses; UserError if they are not finite, with nothing learned from them."""
    try:
        return training.step(batch.reference, batch.target, batch.videos, batch.all_videos)
    except FloatingPointError as error:
        step = training.position.steps + 1
        raise UserError(f"step {step}: {error}, on {batch.names()}; {files.last_good()}; try a lower --lr") from error


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
    loaded = load_batches(pairs, parts, normalised_lab, workers)
    for start in starts:
        with world.agreed():
            tensors = next(loaded)
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


def describe(arguments: dict[str, Any]) -> dict[str, Any]:
    """What makes two trainings the same one."""
    contents = {name: sha256(arguments[name]) for name in ("csvpath", "pretrain") if arguments[name]}
    return {**json_values(arguments, without=NOT_IDENTITY), "sha256": contents}


if __name__ == "__main__":
    run(main)

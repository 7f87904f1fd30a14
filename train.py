"""Train LIIR on unlabelled video: stage 1 (plain, --semantic, --compact) and stage 2 (--usemomen --pretrain)."""

import argparse
import os
from contextlib import AbstractContextManager, closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataloaders.training_pairs import PAIRS_PER_EPOCH, read_index, require_folders, require_pairs
from functional.correlation import BACKENDS, require_backend
from training.batches import Batch, End, batches_until
from training.files import LAST, OUTPUTS, TrainingFiles, read_training_state
from training.precision import warn_if_amp_is_slower
from training.step import Recipe, Training
from utils.checkpoint import sha256
from utils.device import select_device
from utils.distributed import join_world, local_rank
from utils.errors import UserError, run_main, warn
from utils.options import (
    ArgumentParser,
    add_local_rank_option,
    add_precision_options,
    add_savepath_options,
    at_least,
    json_values,
)
from utils.savepath import WAY_OUT, open_savepath
from utils.signals import Stop, stop_signals

# An interrupted training is continued only if these options are unchanged; the others may change.
SAME_TRAINING = ("datapath", "csvpath", "pretrain", "device", "tf32", *(field.name for field in fields(Recipe)))
EPOCHS_HELP = f"number of epochs; one ends after {PAIRS_PER_EPOCH:,} pairs of frames, or with the last video"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; options of the reference implementation keep their names and defaults."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--datapath", type=Path, default=Path("data/train_all_frames/JPEGImages"), help="video folders")
    parser.add_argument("--csvpath", type=Path, default=Path("data/ytvos.csv"), help="CSV index of the videos")
    parser.add_argument("--validpath", type=Path, help="ignored; evaluate with evaluate_davis.py")
    add_savepath_options(parser, default="results/test")
    parser.add_argument("--resume", type=Path, help="continue the training saved in this last.pt")
    parser.add_argument("--pretrain", type=Path, help="initialise the weights from this checkpoint")
    parser.add_argument("--epochs", type=at_least(1), default=30, help=EPOCHS_HELP)
    parser.add_argument("--steps", type=at_least(1), help="stop after this many steps, if not earlier")
    parser.add_argument(
        "--lr", type=at_least(0, float), default=1e-4, help="base learning rate, which the schedule multiplies"
    )
    parser.add_argument("--bsize", type=at_least(1), default=12, help="batch size of all processes together")
    parser.add_argument("--factor", type=at_least(1), default=80, help="size of the queue of negatives, in batches")
    parser.add_argument("--semantic", action="store_true", help="region reconstruction")
    parser.add_argument("--usemomen", action="store_true", help="inter-video reconstruction (stage 2)")
    parser.add_argument("--enc_mo", type=at_least(0, float), default=0.999, help="momentum of the key head")
    parser.add_argument("--compact", action="store_true", help="compactness loss")
    parser.add_argument("--freeze_bn", action="store_true", help="freeze BatchNorm's running statistics")
    parser.add_argument(
        "--pe_shuffle",
        action="store_true",
        help="encode queries for negatives with a shuffled embedding",
    )
    parser.add_argument("--cosine", type=at_least(0), default=0, help="train this many steps, cosine learning rate")
    parser.add_argument("--worker", type=at_least(0), default=12, help="frame-loading threads of each process")
    parser.add_argument("--seed", type=at_least(0), default=0, help="random seed")
    parser.add_argument("--device", help="default: CUDA if available, else the CPU")
    parser.add_argument("--backend", choices=BACKENDS, default="native", help="implementation of local correlation")
    add_precision_options(parser)
    parser.add_argument("--save_every", type=at_least(1), default=500, help="steps between saves of last.pt")
    parser.add_argument("--log_every", type=at_least(1), default=20, help="steps that a log entry averages")
    add_local_rank_option(parser)
    arguments = parser.parse_args()
    if arguments.pe_shuffle and not arguments.usemomen:
        parser.error("--pe_shuffle only affects the inter-video negatives; it needs --usemomen")
    if arguments.overwrite and arguments.resume and arguments.resume.resolve().parent == arguments.savepath.resolve():
        parser.error("--overwrite deletes the file of --resume; choose another --savepath")
    if arguments.cosine:
        arguments.steps = min(arguments.steps or arguments.cosine, arguments.cosine)
    return arguments


def main() -> None:
    """Train until --epochs or --steps is reached."""
    arguments = parse_arguments()
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    end, workers = End(arguments.epochs, arguments.steps), min(arguments.worker, os.cpu_count() or 1)
    with join_world(open_device(arguments)) as world:
        with world.agreed():
            if recipe.bsize % world.size:
                raise UserError(f"--bsize {recipe.bsize}: must be a multiple of the number of processes, {world.size}")
            videos = read_index(arguments.csvpath)
            require_folders(videos, arguments.datapath)
            require_pairs(videos, recipe.bsize)
        training = Training(recipe, world, arguments.pretrain, videos)
        with world.led(open_results(arguments)), stop_signals() as stop:
            resume(training, arguments.savepath / LAST, arguments.resume)
            started, every = training.progress.steps, (arguments.log_every, arguments.save_every)
            with world.agreed():
                files = TrainingFiles(arguments.savepath, training, *every)
            with closing(files):
                if not end.reached(training.progress):
                    warn_if_amp_is_slower(training)
                for batch in batches_until(end, training, videos, arguments.datapath, workers=workers):
                    with world.agreed():
                        losses = take_step(training, batch, files)
                        training.progress.end_epoch_if_complete(batch.steps)
                        files.after_step(batch, losses, end.steps_left(training.progress, batch.steps))
                    end_if_asked(stop, training, files)
                if training.progress.steps > started or files.incomplete():  # else leave the files unchanged
                    with world.agreed():
                        files.finish()
            if world.leads:
                ended = "ended" if training.progress.steps > started else "had ended"
                print(f"the training {ended} at step {training.progress.steps}; saved in {files.saved()}")


def open_device(arguments: argparse.Namespace) -> torch.device:
    """Return the device to train on; UserError if it or the backend cannot be used."""
    device = select_device(arguments.device, tf32=arguments.tf32, local_rank=local_rank())
    try:
        require_backend(arguments.backend, device)
    except ValueError as error:
        raise UserError(f"--backend {error}") from error
    return device


def open_results(arguments: argparse.Namespace) -> AbstractContextManager[Path]:
    """Return the context of --savepath, whose error names how to continue its training with other videos."""
    last, way_out = arguments.savepath / LAST, WAY_OUT
    if last.exists():
        way_out += f"; --resume {last} --savepath NEW continues it with other videos or on another device"
    settings = {"outputs": OUTPUTS, "overwrite": arguments.overwrite, "way_out": way_out}
    return open_savepath(arguments.savepath, identity(arguments), **settings)


def resume(training: Training, last: Path, chosen: Path | None) -> None:
    """Restore the training from SAVEPATH/last.pt if it exists, else from the file of --resume, if any."""
    path = last if training.world.any(last.exists()) else chosen
    if path is not None:
        with training.world.agreed():
            training.load_state_dict(read_training_state(path), path)


def take_step(training: Training, batch: Batch, files: TrainingFiles) -> dict[str, Tensor]:
    """Take one step and return its losses; UserError, with the weights unchanged, if they are not finite."""
    try:
        return training.step(batch.reference, batch.target, batch.videos, batch.all_videos)
    except FloatingPointError as error:
        step = training.progress.steps + 1
        raise UserError(f"step {step}: {error}, on {batch.names()}; {files.last_good()}; try a lower --lr") from error


def end_if_asked(stop: Stop, training: Training, files: TrainingFiles) -> None:
    """If any process received SIGTERM or Ctrl-C, save last.pt and exit with code 128 + signal number."""
    world = training.world
    if world.any(bool(stop.signal)):
        with world.agreed():
            files.save_last()
            files.write_log()
        files.close()  # the progress bar's line, before the last one
        if world.leads:
            last = files.savepath / LAST
            warn(f"stopped at step {training.progress.steps}, saved in {last}; the same command continues")
        raise SystemExit(128 + stop.signal)


def identity(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what identifies a training: the options of `SAME_TRAINING`, and the SHA-256 of index and checkpoint."""
    options = {name: getattr(arguments, name) for name in SAME_TRAINING}
    contents = {name: sha256(options[name]) for name in ("csvpath", "pretrain") if options[name]}
    return {**json_values(options), "sha256": contents}


if __name__ == "__main__":
    run_main(main)

"""Training batches, epoch after epoch; each process loads its part of every global batch (docs/method.md §6)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dataloaders.training_pairs import Pair, Video, draw_pairs, load_batches
from functional.color import normalised_lab
from training.seed import PAIRS, generator
from training.step import Progress, Training


class Batch(NamedTuple):
    """This process's part of a global batch."""

    reference: Tensor  # Lab [B, 3, 256, 256]
    target: Tensor
    videos: Tensor  # index row of each pair's video, [B]
    all_videos: Tensor  # the same for the global batch, [bsize]
    pairs: list[Pair]  # all pairs of the global batch
    steps: int  # number of steps in this epoch
    waited: float = 0.0  # seconds, for this process's frames

    def names(self) -> str:
        """Return the paths of all frames of the global batch, for an error message."""
        return ", ".join(f"{pair.reference} and {pair.target.name}" for pair in self.pairs)


class End(NamedTuple):
    """The stopping criterion: a number of epochs or of steps, whichever is reached first."""

    epochs: int
    steps: int | None

    def reached(self, progress: Progress) -> bool:
        """Return whether training has ended."""
        return progress.epoch >= self.epochs or (self.steps is not None and progress.steps >= self.steps)

    def steps_left(self, progress: Progress, steps_per_epoch: int) -> int:
        """Estimate the number of steps left; epochs differ slightly in length."""
        left = (self.epochs - progress.epoch) * steps_per_epoch - progress.step
        return left if self.steps is None else min(left, self.steps - progress.steps)


def batches_until(end: End, training: Training, videos: list[Video], root: Path, *, workers: int) -> Iterator[Batch]:
    """Yield the batches from the current step to the end; the caller must take a step with each before the next.

    root: folder of the videos, which `require_pairs` accepted; workers: number of loading threads.
    """
    progress = training.progress
    while not end.reached(progress):
        pairs = _draw_epoch(training, videos, root)
        for batch in _rest_of_epoch(training, pairs, workers):
            yield batch
            if end.reached(progress):
                return
        # if there was no rest: resumed on fewer videos, in an epoch that is over with these
        progress.end_epoch_if_complete(len(pairs) // training.recipe.bsize)


def _draw_epoch(training: Training, videos: list[Video], root: Path) -> list[Pair]:
    """Draw the pairs of the current epoch, again and again until they fill a batch."""
    random = generator(training.recipe.seed, PAIRS, training.progress.epoch)
    pairs: list[Pair] = []
    while len(pairs) < training.recipe.bsize:
        pairs += draw_pairs(videos, root, random)
    return pairs


def _rest_of_epoch(training: Training, pairs: list[Pair], workers: int) -> Iterator[Batch]:
    """Yield the rest of an epoch: global batch k is the k-th slice of `pairs`, rank r loads the r-th part of it."""
    world, size = training.world, training.recipe.bsize
    local_size = size // world.size
    starts = range(training.progress.step * size, len(pairs) - size + 1, size)
    parts = [range(start + world.rank * local_size, start + (world.rank + 1) * local_size) for start in starts]
    loaded = load_batches(pairs, parts, normalised_lab, workers)
    for start in starts:
        with world.agreed():
            began = time.perf_counter()
            frames = next(loaded)
            waited = time.perf_counter() - began
        reference, target, videos = (part.to(world.device, non_blocking=True) for part in frames)
        global_pairs = pairs[start : start + size]
        all_videos = torch.tensor([pair.video for pair in global_pairs], device=world.device)
        yield Batch(reference, target, videos, all_videos, global_pairs, len(pairs) // size, waited)

"""Training pairs from YouTube-VOS, or from any folder of frame folders with an index (docs/method.md §6)."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dataloaders.video import read_frame
from utils.errors import UserError

GAPS, GAP_PROBABILITIES = (2, 5, 8), (0.4, 0.4, 0.2)  # frames between the frames of a pair
PAIRS_PER_EPOCH = 69_600
FRAME_SIZE = 256
MAX_FRAMES = 10_000_000  # of one video; more is a slip of the pen


@dataclass(frozen=True)
class Video:
    """A row of the index: frames `first` … `first + count - 1` in ROOT/name/%05d.jpg."""

    name: str
    first: int
    count: int


@dataclass(frozen=True)
class Pair:
    """Two frames of one video, which is known by its row in the index."""

    reference: Path
    target: Path
    video: int


def read_index(path: Path) -> list[Video]:
    """The videos of an index file, rows of `video,first frame,number of frames` without a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(reader.line_num, row) for reader in [csv.reader(file)] for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--csvpath {path}: cannot be read ({error}); scripts/index_videos.py writes one") from error
    videos = [_parse_row(f"{path}:{line}", row) for line, row in rows]
    if not videos:
        raise UserError(f"--csvpath {path}: lists no videos; scripts/index_videos.py writes one")
    return videos


def require_folders(videos: list[Video], root: Path) -> None:
    """UserError unless every video has its folder."""
    for video in videos:
        if not os.path.isdir(root / video.name):
            raise UserError(f"{root / video.name}: no such folder, but --csvpath lists it; check --datapath")


def _parse_row(where: str, row: list[str]) -> Video:
    rule = "a row is video,first frame,number of frames"
    if len(row) != 3:
        raise UserError(f"{where}: has {len(row)} columns; {rule}")
    name = row[0].strip()
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{where}: {row[0]!r} is not a folder below --datapath; {rule}")
    try:
        first, count = int(row[1]), int(row[2])
    except ValueError as error:
        raise UserError(f"{where}: {row[1]!r}, {row[2]!r} are not whole numbers; {rule}") from error
    if first < 0 or not 1 <= count <= MAX_FRAMES:
        raise UserError(f"{where}: first frame {first}, {count} frames; neither can be negative, nor {count} so large")
    return Video(name, first, count)


def draw_pairs(videos: list[Video], root: Path, random: np.random.Generator) -> list[Pair]:
    """One epoch's pairs, shuffled.

    Videos in random order; in each a random gap, every gap-th frame, cut into pairs that share no frame.
    """
    pairs = []
    for row in random.permutation(len(videos)):
        video = videos[row]
        gap = random.choice(GAPS, p=GAP_PROBABILITIES)
        frames = [root / video.name / f"{video.first + i:05d}.jpg" for i in range(0, video.count, gap)]
        pairs += [Pair(frames[i], frames[i + 1], int(row)) for i in range(0, len(frames) - 1, 2)]
        if len(pairs) >= PAIRS_PER_EPOCH:
            break
    pairs = pairs[:PAIRS_PER_EPOCH]
    return [pairs[i] for i in random.permutation(len(pairs))]


class PairFrames(Dataset):
    """The frames of pairs, squeezed to 256×256, and their videos' numbers."""

    def __init__(self, pairs: list[Pair], transform: Callable[[np.ndarray], Tensor]) -> None:
        """transform: BGR float32 in 0 … 1, [256, 256, 3] -> [3, 256, 256]."""
        self.pairs = pairs
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int] | UserError:
        """reference, target [3, 256, 256], video; or why they cannot be read, for `load_batches` to raise."""
        pair = self.pairs[index]
        try:
            return self._read(pair.reference), self._read(pair.target), pair.video
        except UserError as error:  # raised in a worker it would arrive as that worker's traceback
            return error

    def _read(self, path: Path) -> Tensor:
        frame = read_frame(path).astype(np.float32) / 255
        return self.transform(cv2.resize(frame, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_LINEAR))


def load_batches(frames: PairFrames, batches: list[range], workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The given batches of pairs, in order: references, targets [B, 3, 256, 256], videos [B]."""
    loader = DataLoader(
        frames,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_prepare_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield tuple(batch)


def _collate(samples: list) -> list | UserError:
    errors = [sample for sample in samples if isinstance(sample, UserError)]
    return errors[0] if errors else default_collate(samples)


def _prepare_worker(_: int) -> None:
    cv2.setNumThreads(0)
    for number in (signal.SIGTERM, signal.SIGINT):  # a terminal and torchrun send them to the training's workers too;
        signal.signal(number, signal.SIG_IGN)  # it is for the training to end them, once the step under way is saved

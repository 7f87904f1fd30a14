"""Training pairs from YouTube-VOS, or from any folder of videos with an index (docs/method.md §6)."""

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dataloaders.files import read_text
from dataloaders.frames import read_frame
from utils.errors import UserError

GAPS, GAP_PROBABILITIES = (2, 5, 8), (0.4, 0.4, 0.2)  # distance of the frames of a pair
PAIRS_PER_EPOCH = 69_600
FRAME_SIZE = 256
BATCHES_AHEAD = 2  # batches loaded ahead by each worker
MAX_FRAMES = 1_000_000  # of one video; larger numbers in an index are typing errors


@dataclass(frozen=True)
class Video:
    """A row of the index: frames `first` … `first + count - 1` in ROOT/name/%05d.jpg."""

    name: str
    first: int
    count: int


@dataclass(frozen=True)
class Pair:
    """Two frames of a video; video: its row in the index, from 0."""

    reference: Path
    target: Path
    video: int


def read_index(path: Path) -> list[Video]:
    """Read the videos of an index file with rows `video,first frame,number of frames`, without header or duplicates."""
    reader = csv.reader(io.StringIO(read_text(path, way_out="scripts/index_videos.py writes one"), newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f"--csvpath {path}: cannot be read ({error}); scripts/index_videos.py writes one") from error
    videos = list(dict.fromkeys(_parse_row(f"{path}:{line}", row) for line, row in rows))
    if not videos:
        raise UserError(f"--csvpath {path}: lists no videos; scripts/index_videos.py writes one")
    return videos


def require_folders(videos: list[Video], root: Path) -> None:
    """Raise UserError unless every video has a folder in `root`."""
    for video in videos:
        if not os.path.isdir(root / video.name):
            raise UserError(f"{root / video.name}: no such folder, but --csvpath lists it; check --datapath")


def require_pairs(videos: list[Video], bsize: int) -> None:
    """Raise UserError if no draw of an epoch's pairs can have a batch, even with the smallest gap in every video."""
    smallest = min(GAPS)
    most = min(PAIRS_PER_EPOCH, sum(_count_pairs(video, smallest) for video in videos))
    if not most:
        raise UserError(f"--csvpath: no video has {smallest + 1} frames, which the closest pair needs; use longer ones")
    if most < bsize:
        raise UserError(f"--bsize {bsize}: an epoch of these videos has at most {most} pairs; reduce it or use more")


def _count_pairs(video: Video, gap: int) -> int:
    return len(range(0, video.count, gap)) // 2


def _parse_row(where: str, row: list[str]) -> Video:
    rule = "a row is video,first frame,number of frames"
    if len(row) != 3:
        raise UserError(f"{where}: has {len(row)} columns; {rule}")
    name = row[0].strip()
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{where}: {row[0]!r} is not a folder below --datapath; {rule}")
    try:
        first, count = map(_whole, row[1:])
    except ValueError as error:
        raise UserError(f"{where}: {row[1]!r}, {row[2]!r} are not whole numbers; {rule}") from error
    if first < 0 or not 1 <= count <= MAX_FRAMES:
        raise UserError(f"{where}: first frame {first}, {count} frames; negative or more than {MAX_FRAMES}")
    return Video(name, first, count)


def _whole(text: str) -> int:
    """Parse an integer in plain ASCII; int() also accepts 1_0 and the digits of other scripts."""
    if not text.isascii() or "_" in text:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def draw_pairs(videos: list[Video], root: Path, random: np.random.Generator) -> list[Pair]:
    """Draw one epoch's pairs, in random order.

    Videos are visited in random order; every gap-th frame of a video, with a random gap, is used in one pair.
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


def load_batches(
    pairs: list[Pair], batches: Iterable[range], transform: Callable[[np.ndarray], Tensor], workers: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the given batches of pairs, in order: references, targets [B, 3, 256, 256], videos [B].

    transform: BGR float32 in 0 … 1, [256, 256, 3] -> float32 [3, 256, 256]; workers: number of threads that load
    ahead; threads, since OpenCV and NumPy release the GIL and no data is copied between processes.
    """
    selected = ([pairs[i] for i in batch] for batch in batches)
    if not workers:
        yield from (load_batch(batch, transform) for batch in selected)
        return
    cv2.setNumThreads(0)  # one thread for each frame
    pool = ThreadPoolExecutor(workers)
    ahead: deque[Future[tuple[Tensor, Tensor, Tensor]]] = deque()
    try:
        for batch in selected:
            ahead.append(pool.submit(load_batch, batch, transform))
            if len(ahead) > BATCHES_AHEAD * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def load_batch(pairs: list[Pair], transform: Callable[[np.ndarray], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Load one batch: references, targets [B, 3, 256, 256], videos [B]; UserError if a frame cannot be read."""
    frames = [[transform(_read(path)).numpy() for path in (pair.reference, pair.target)] for pair in pairs]
    references, targets = (torch.from_numpy(np.stack(images)) for images in zip(*frames, strict=True))
    videos = torch.tensor([pair.video for pair in pairs])
    if torch.cuda.is_available():
        return references.pin_memory(), targets.pin_memory(), videos
    return references, targets, videos


def _read(path: Path) -> np.ndarray:
    """Read a frame and resize it to 256×256, BGR float32 in 0 … 1."""
    frame = np.divide(read_frame(path), np.float32(255), dtype=np.float32)
    return cv2.resize(frame, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_LINEAR)

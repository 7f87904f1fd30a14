"""Time and memory of a training step relative to its encoder, and of stage 2 relative to stage 1; the loader's speed.

Batches of 256×256 frames; a queue of 960 negatives. "The encoder's share" is forward and backward through the network
on the same frames, with the sum of the features as the loss. The loader is compared with reading the frames alone.
"""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.measure import Work, medians, memory_of, parser, show, write
from dataloaders.training_pairs import FRAME_SIZE, Pair, load_batches
from functional.color import normalised_lab
from training.step import Recipe, Training
from utils.distributed import World
from utils.errors import run_main

NEGATIVES = 960
PLAIN = "stage 1"
REGIONS = "stage 1, --semantic --compact"
INTER = "stage 2, --usemomen --compact"
SHARE = ": the encoder's share"  # ends the name of a row
STAGES = {
    PLAIN: Recipe(),
    REGIONS: Recipe(semantic=True, compact=True),
    INTER: Recipe(usemomen=True, compact=True),
}


def main() -> None:
    """Measure and print the tables."""
    options = parser(__doc__)
    options.add_argument("--bsize", type=int, default=2, help="pairs per step")
    options.add_argument("--amp", action="store_true", help="run the encoder in bfloat16")
    arguments = options.parse_args()
    device = torch.device(arguments.device)
    rows = medians(steps(arguments.bsize, device, amp=arguments.amp), arguments.runs, device)
    show(f"One step of {arguments.bsize} pairs", rows, "s", limit=PLAIN + SHARE)
    for name in STAGES:
        print(f"  {name} / its encoder's share: {rows[name] / rows[name + SHARE]:.2f}")
    print(f"  stage 2 / stage 1 with regions: {rows[INTER] / rows[REGIONS]:.2f}")
    results = {"bsize": arguments.bsize, "amp": arguments.amp, "seconds": rows}
    if device.type == "cpu":
        results |= {"memory": memory(arguments.bsize), "loader": loader(arguments.runs)}
    write(arguments.json, results, device)


def steps(bsize: int, device: torch.device, *, amp: bool) -> Work:
    """A step of each stage, and the encoder's share of it."""
    work: Work = {}
    for name in STAGES:
        training, batch = start(name, bsize, device, amp=amp)
        work[name] = partial(training.step, *batch)
        work[name + SHARE] = partial(encode, training, batch)
    return work


def start(name: str, bsize: int, device: torch.device, *, amp: bool = False) -> tuple[Training, tuple]:
    """A training whose queue is full, and a batch of noise from other videos."""
    recipe = replace(STAGES[name], bsize=bsize, factor=NEGATIVES // bsize, amp=amp)
    training = Training(recipe, World(0, 1, device))
    if training.queue is not None:
        training.queue.keys.normal_()
        training.queue.written = training.queue.factor + 1
    reference, target = torch.randn(2, bsize, 3, FRAME_SIZE, FRAME_SIZE, device=device) / 2
    videos = torch.arange(bsize, device=device)
    return training, (reference, target, videos, videos)


def encode(training: Training, batch: tuple) -> None:
    """Forward and backward through the network alone."""
    features = training._features(*batch[:2])
    sums = [maps.sum() for maps in features if maps is not None and maps.requires_grad]
    torch.stack(sums).sum().backward()
    training.optimizer.zero_grad(set_to_none=True)


def memory(bsize: int) -> dict[str, float]:
    """Peak memory in MiB of training, and how much stage 2 adds to stage 1 beyond the queue."""
    grown = {name: memory_of(take_steps, name, bsize) / 2**20 for name in (REGIONS, INTER)}
    queue = NEGATIVES * 128 * 32 * 32 * 4 / 2**20
    added = grown[INTER] - grown[REGIONS] - queue
    rows = {"the queue": queue, **grown, "added by stage 2 beyond the queue": added}
    show("Peak memory above the imports", rows, "MiB", limit="the queue")
    return rows


def take_steps(name: str, bsize: int) -> None:
    """Train for two steps."""
    training, batch = start(name, bsize, torch.device("cpu"))
    for _ in range(2):
        training.step(*batch)


def loader(runs: int, workers: int = 2, count: int = 800) -> dict[str, float]:
    """Pairs per second of the loader, and of as many processes that only read, resize and convert frames."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_frames(Path(folder), count)
        cpu = torch.device("cpu")
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(read_pairs, [pairs[:1]] * workers))  # start the processes
            parts = [pairs[i::workers] for i in range(workers)]
            batches = [range(i, i + 8) for i in range(0, count, 8)]
            work: Work = {
                "reading, resizing, converting": lambda: list(pool.map(read_pairs, parts)),
                "the loader": lambda: [None for _ in load_batches(pairs, batches, normalised_lab, workers)],
            }
            rows = {name: count / value for name, value in medians(work, runs, cpu).items()}
    show(f"Pairs a second, {workers} processes", rows, "pairs/s", limit="reading, resizing, converting")
    return rows


def write_frames(folder: Path, count: int) -> list[Pair]:
    """Write blurred noise as JPEG files of 256×454 pixels, two for each pair."""
    random = np.random.default_rng(0)
    paths = []
    for i in range(2 * count):
        paths.append(folder / f"{i:05d}.jpg")
        noise = random.integers(0, 255, (32, 57, 3), np.uint8)
        cv2.imwrite(str(paths[-1]), cv2.resize(noise, (454, 256), interpolation=cv2.INTER_CUBIC))
    return [Pair(paths[2 * i], paths[2 * i + 1], i) for i in range(count)]


def read_pairs(pairs: list[Pair]) -> None:
    """Read, resize and convert the frames of pairs."""
    cv2.setNumThreads(0)
    for pair in pairs:
        for path in (pair.reference, pair.target):
            frame = cv2.imread(str(path))
            assert frame is not None  # `write_frames` wrote it
            frame = np.divide(frame, np.float32(255), dtype=np.float32)
            normalised_lab(cv2.resize(frame, (FRAME_SIZE, FRAME_SIZE)))


if __name__ == "__main__":
    run_main(main)

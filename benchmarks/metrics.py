"""Time to score a frame by J and F, relative to a simple implementation that dilates whole masks; one thread.

Masks of 480×854: each object of the sample clip against itself some frames later, or the same of real sequences.
"""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.measure import Work, medians, parser, show, write
from benchmarks.propagation import sample_clip
from dataloaders.davis import load_sequences
from functional.metrics import BOUNDARY_TOLERANCE, boundary, boundary_f, jaccard
from utils.errors import run_main

WHOLE = "J and F by dilating whole masks"
LATER = 3  # frames between the two masks that are compared
CPU = torch.device("cpu")
Pair = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Measure and print one table."""
    options = parser(__doc__)
    options.add_argument("--datapath", type=Path, help="DAVIS folder: measure on its 2016 val set instead")
    arguments = options.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pairs = list(sample_pairs() if arguments.datapath is None else pairs_of(arguments.datapath))
    if score_all(pairs, scores) != score_all(pairs, whole_masks):
        raise AssertionError("the two implementations disagree")
    work: Work = {
        WHOLE: lambda: score_all(pairs, whole_masks),
        "J and F": lambda: score_all(pairs, scores),
    }
    rows = {name: 1000 * seconds / len(pairs) for name, seconds in medians(work, arguments.runs, CPU).items()}
    show(f"One object in one frame of 480×854, mean of {len(pairs)}", rows, "ms", limit=WHOLE)
    write(arguments.json, {"milliseconds": rows}, CPU)


def score_all(
    pairs: list[Pair], score: Callable[[np.ndarray, np.ndarray], tuple[float, float]]
) -> list[tuple[float, float]]:
    """The scores of all pairs."""
    return [score(*pair) for pair in pairs]


def scores(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """J and F as the evaluation computes them."""
    return jaccard(predicted, truth), boundary_f(predicted, truth)


def whole_masks(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """J and F by their definition (docs/method.md §9)."""
    union = np.count_nonzero(predicted | truth)
    overlap = np.count_nonzero(predicted & truth) / union if union else 1.0
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*truth.shape))
    steps = np.arange(-radius, radius + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    ours, theirs = boundary(predicted).astype(np.uint8), boundary(truth).astype(np.uint8)
    precision = np.count_nonzero(np.bitwise_and(ours, cv2.dilate(theirs, disk))) / np.count_nonzero(ours)
    recall = np.count_nonzero(np.bitwise_and(theirs, cv2.dilate(ours, disk))) / np.count_nonzero(theirs)
    return overlap, 2 * precision * recall / (precision + recall)


def sample_pairs() -> Iterator[Pair]:
    """Each object of the sample clip, its masks `LATER` frames apart."""
    masks = [mask.numpy() for mask in sample_clip()[1]]
    for first, later in zip(masks, masks[LATER:], strict=False):
        for number in np.unique(first)[1:]:
            yield first == number, later == number


def pairs_of(datapath: Path) -> Iterator[Pair]:
    """The same of each sequence of a DAVIS folder, at every tenth frame."""
    for sequence in load_sequences(datapath, 2016, "val"):
        for index in range(0, len(sequence.masks) - LATER, 10):
            pair = sequence.read_mask(index) > 0, sequence.read_mask(index + LATER) > 0
            if all(mask.any() for mask in pair):
                yield pair


if __name__ == "__main__":
    run_main(main)

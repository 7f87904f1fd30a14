"""What scoring a frame costs, beside the same scores by dilating whole masks with a disk; one thread.

Masks of 480×854: those of the sample clip's objects against themselves some frames later, or of real sequences.
"""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.measure import medians, parser, show, write
from benchmarks.propagation import sample_clip
from dataloaders.davis import load_sequences
from functional.metrics import BOUNDARY_TOLERANCE, boundary, boundary_f, jaccard
from utils.errors import run

WHOLE = "J and F by dilating whole masks"
LATER = 3  # frames between the two masks that are compared
Pair = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Measure and print one table."""
    options = parser(__doc__)
    options.add_argument("--datapath", type=Path, help="DAVIS folder, to measure on its 2016 val set")
    arguments = options.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pairs = list(sample_pairs() if arguments.datapath is None else pairs_of(arguments.datapath))
    for predicted, truth in pairs:
        if (jaccard(predicted, truth), boundary_f(predicted, truth)) != whole_masks(predicted, truth):
            raise AssertionError("the two ways of scoring disagree")

    def score_all(score: Callable[[np.ndarray, np.ndarray], object]) -> None:
        for pair in pairs:
            score(*pair)

    work = {
        WHOLE: lambda: score_all(whole_masks),
        "J and F": lambda: score_all(lambda *pair: (jaccard(*pair), boundary_f(*pair))),
    }
    rows = {name: 1000 * seconds / len(pairs) for name, seconds in medians(work, arguments.runs, CPU).items()}
    show(
        f"One object in one frame of 480×854, mean of {len(pairs)}", rows, "ms", limit="J and F by dilating whole masks"
    )
    write(arguments.json, {"milliseconds": rows}, CPU)


CPU = torch.device("cpu")


def whole_masks(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """J and F written simply (docs/method.md §9)."""
    union = np.count_nonzero(predicted | truth)
    overlap = np.count_nonzero(predicted & truth) / union if union else 1.0
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*truth.shape))
    steps = np.arange(-radius, radius + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    ours, theirs = boundary(predicted).astype(np.uint8), boundary(truth).astype(np.uint8)
    precision = np.count_nonzero(ours & cv2.dilate(theirs, disk)) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & cv2.dilate(ours, disk)) / np.count_nonzero(theirs)
    return overlap, 2 * precision * recall / (precision + recall)


def sample_pairs() -> Iterator[Pair]:
    """The masks of each object of the sample clip, some frames apart."""
    masks = [mask.numpy() for mask in sample_clip()[1]]
    for first, later in zip(masks, masks[LATER:], strict=False):
        for number in np.unique(first)[1:]:
            yield first == number, later == number


def pairs_of(datapath: Path) -> Iterator[Pair]:
    """The same of every sequence of a DAVIS folder, every tenth frame."""
    for sequence in load_sequences(datapath, 2016, "val"):
        for index in range(0, len(sequence.masks) - LATER, 10):
            pair = sequence.read_mask(index) > 0, sequence.read_mask(index + LATER) > 0
            if all(mask.any() for mask in pair):
                yield pair


if __name__ == "__main__":
    run(main)

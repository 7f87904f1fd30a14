"""A user's own video with its masks, and propagate.py run on it."""

from pathlib import Path

import cv2
import numpy as np

import propagate
from tests.support.commands import Outcome, run_script
from tests.support.features import KINDS_OPTIONS, paint
from tests.support.images import read_pixels
from utils.visualize import write_mask

SIZE, FRAMES = (48, 64), 8


def kinds(index: int) -> np.ndarray:
    """An object that moves, and one that appears in frame 5."""
    scene = np.zeros(SIZE, np.uint8)
    scene[8:24, 4 * index : 4 * index + 16] = 1
    if index >= 5:
        scene[28:44, 24:40] = 3
    return scene


def write_set(folder: Path) -> Path:
    """Frames, and masks of the first and the sixth frame."""
    (folder / "frames").mkdir()
    for index in range(FRAMES):
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), paint(kinds(index)))
    write_mask(folder / "first.png", np.where(kinds(0), 9, 0).astype(np.uint8))
    write_mask(folder / "sixth.png", np.where(kinds(5) == 3, 20, 0).astype(np.uint8))
    return folder


def run(folder, video: str, *arguments: object) -> Outcome:
    where = folder / video, "--savepath", folder / "results"
    return run_script(propagate, *where, *KINDS_OPTIONS, *arguments)


def masks(folder) -> list[np.ndarray]:
    return [read_pixels(path) for path in sorted((folder / "results" / "masks").iterdir())]

"""A miniature VIP set, and evaluate_vip.py run on it."""

from pathlib import Path

import cv2
import numpy as np

import evaluate_vip
from tests.support.commands import Outcome, run_script
from tests.support.features import KINDS_OPTIONS, paint
from utils.visualize import write_mask

SIZE = (36, 60)
SQUARE = 24  # side of the squares that frames are resized to
KINDS = {3: 19, 1: 4}  # kind of object -> class


def kinds(index: int, video: str) -> np.ndarray:
    """Two objects, of which one moves; the other disappears in video b."""
    scene = np.zeros(SIZE, np.uint8)
    scene[6:18, 10 + 10 * (index % 3) : 30 + 10 * (index % 3)] = 3
    if index < 2 or video == "a":
        scene[24:36, 20:40] = 1
    return scene


def classes(scene: np.ndarray) -> np.ndarray:
    return np.vectorize({0: 0, **KINDS}.get)(scene).astype(np.uint8)


def write_set(folder: Path) -> Path:
    """Two videos in the list, and one that is not."""
    for video in ("a", "b", "unlisted"):
        for index in range(4):
            frame = folder / "Images" / video / f"{index:012d}.png"
            mask = folder / "Annotations" / "Category_ids" / video / f"{index:012d}.png"
            for path in (frame, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(frame), paint(kinds(index, video)))
            write_mask(mask, classes(kinds(index, video)))
    (folder / "lists").mkdir()
    (folder / "lists" / "val_videos.txt").write_text("a\nb\n")
    return folder


FEATURES = *KINDS_OPTIONS, "--size", SQUARE


def evaluate(root, *arguments: object) -> Outcome:
    where = "--datapath", root, "--savepath", root / "results"
    return run_script(evaluate_vip, *FEATURES, *where, *arguments)

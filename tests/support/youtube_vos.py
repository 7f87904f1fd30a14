"""A miniature YouTube-VOS set, and evaluate_youtube_vos.py run on it."""

import json
from pathlib import Path

import cv2
import numpy as np

import evaluate_youtube_vos
from tests.support.commands import Outcome, run_script
from tests.support.features import KINDS_OPTIONS, paint
from utils.visualize import write_mask

SIZE = (32, 48)
OBJECTS = {  # of each video: id -> category, first and last index of its wanted frames
    "early": {1: ("dog", 0, 4), 7: ("zebra", 2, 4)},
    "late": {3: ("dog", 1, 3)},
}
STEP = 5  # frames between the wanted ones


def ids(name: str, index: int) -> np.ndarray:
    """The objects in a frame; they move down by 4 pixels every two wanted frames."""
    mask = np.zeros(SIZE, np.uint8)
    for place, (number, (_, first, last)) in enumerate(OBJECTS[name].items()):
        if first <= index / STEP <= last:
            top, left = 4 + 4 * (index // (2 * STEP)), 8 + 20 * place
            mask[top : top + 8, left : left + 12] = number
    return mask


def write_set(folder: Path) -> Path:
    """Two videos, with masks of all wanted frames, as in the training set."""
    meta = {"videos": {}}
    for name, objects in OBJECTS.items():
        wanted = {}
        for number, (category, first, last) in objects.items():
            frames = [f"{STEP * i:05d}" for i in range(first, last + 1)]
            wanted[str(number)] = {"category": category, "frames": frames}
        meta["videos"][name] = {"objects": wanted}
        for index in range(4 * STEP + 1):
            mask, frame = ids(name, index), f"{index:05d}"
            for subset in ("valid", "valid_all_frames")[index % STEP != 0 :]:
                path = folder / subset / "JPEGImages" / name / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), paint(mask))
            if any(frame in one["frames"] for one in wanted.values()):
                path = folder / "valid" / "Annotations" / name / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(path, mask)
    (folder / "valid" / "meta.json").write_text(json.dumps(meta))
    train = {"videos": {"x": {"objects": {"1": {"category": "dog", "frames": ["00000"]}}}}}
    (folder / "train").mkdir()
    (folder / "train" / "meta.json").write_text(json.dumps(train))
    return folder


def evaluate(root, *arguments: object) -> Outcome:
    where = "--datapath", root, "--savepath", root / "results"
    return run_script(evaluate_youtube_vos, *KINDS_OPTIONS, *where, *arguments)

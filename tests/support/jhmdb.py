"""Miniature JHMDB and BADJA sets, and evaluate_jhmdb.py run on them."""

import json
from pathlib import Path

import cv2
import numpy as np
import scipy.io

import evaluate_jhmdb
from tests.support.commands import Outcome, run_script
from tests.support.features import KINDS_OPTIONS, paint
from tests.support.images import frame_pixels, write_frame

SIZE = (80, 160)  # of frames, which are resized to squares of side SQUARE
SQUARE = 80
FRAMES = 4


def places(index: int) -> np.ndarray:
    """The joints (x, y) in a frame [15, 2]: a column of 8 and a column of 7, which move to the right."""
    left, right = ([(24 + 8 * index, 4 + 8 * j) for j in range(8)], [(104 + 8 * index, 8 + 8 * j) for j in range(7)])
    return np.array(left + right, float)


def scene(index: int) -> np.ndarray:
    """Each joint is a cell of the feature grid, of its own kind."""
    kinds = np.zeros(SIZE, np.uint8)
    for j, (x, y) in enumerate(places(index).astype(int)):
        kinds[y : y + 4, x : x + 8] = 1 + j
    return kinds


def write_set(folder: Path) -> Path:
    """A test video in each of two classes."""
    for name in ("wave", "push"):
        (folder / "splits").mkdir(exist_ok=True)
        (folder / "splits" / f"{name}_test_split1.txt").write_text(f"{name}_train.avi 1\n{name}_test.avi 2\n")
        frames = folder / "Rename_Images" / name / f"{name}_test"
        frames.mkdir(parents=True)
        for index in range(FRAMES + 1):  # one frame without joints
            cv2.imwrite(str(frames / f"{index + 1:05d}.png"), paint(scene(min(index, FRAMES - 1))))
        joints = np.stack([places(index) for index in range(FRAMES)], -1).transpose(1, 0, 2)  # [2, 15, T]
        path = folder / "joint_positions" / name / f"{name}_test" / "joint_positions.mat"
        path.parent.mkdir(parents=True)
        scipy.io.savemat(path, {"pos_img": joints + 1})
    return folder


def write_badja(folder: Path) -> Path:
    """Three frames of an animal with two joints, annotated in the first and the last."""
    frames = folder / "JPEGImages" / "480p" / "bear"
    for index in range(3):
        write_frame(frames / f"{index:05d}.jpg", frame_pixels(index))
    joints = {"visibility": [1, 1], "joints_yx_480p": [[4, 4], [20, 28]]}
    content = {"bear": {"frame_source": "x", "annotations": [{"frame": index, **joints} for index in (0, 2)]}}
    (folder / "joints_480p.json").write_text(json.dumps(content))
    return folder


FEATURES = *KINDS_OPTIONS, "--size", SQUARE


def evaluate(root, *arguments: object) -> Outcome:
    where = "--datapath", root, "--savepath", root / "results"
    return run_script(evaluate_jhmdb, *FEATURES, *where, *arguments)

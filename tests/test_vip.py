"""VIP as evaluated: classes squeezed to a square and back, one histogram over all pixels, and the switch."""

import csv
import json
import sys
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

import evaluate_vip
from dataloaders.vip import CLASSES
from functional.metrics import class_ious, confusion
from tests.builders import Outcome, read_pixels, require_refusal, require_same_when_sharded, require_success, run_here
from tests.features import KINDS_OPTIONS, paint
from utils.visualize import write_mask

SIZE = (36, 60)
SQUARE = 24  # frames are squeezed to this
KINDS = {3: 19, 1: 4}  # kind of thing -> class


def kinds(index: int, video: str) -> np.ndarray:
    """Two things, of which one moves and the other disappears."""
    scene = np.zeros(SIZE, np.uint8)
    scene[6:18, 10 + 10 * (index % 3) : 30 + 10 * (index % 3)] = 3
    if index < 2 or video == "a":
        scene[24:36, 20:40] = 1
    return scene


def classes(scene: np.ndarray) -> np.ndarray:
    return np.vectorize({0: 0, **KINDS}.get)(scene).astype(np.uint8)


def write_set(folder: Path) -> Path:
    """Two videos, and one that is not listed."""
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


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


FEATURES = *KINDS_OPTIONS, "--size", SQUARE


def evaluate(root, *arguments: object) -> Outcome:
    where = "--datapath", root, "--savepath", root / "results"
    return run_here(evaluate_vip.main, evaluate_vip.__file__, *FEATURES, *where, *arguments)


@pytest.mark.parametrize("without_first", [False, True])
def test_the_score_is_that_of_all_pixels(without_first, root):
    out = require_success(evaluate(root, *(["--without_first"] if without_first else []), "--report"))
    both, union = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    for video in ("a", "b"):
        for index in range(without_first, 4):
            truth = classes(kinds(index, video))
            mask = read_pixels(root / "results" / "masks" / video / f"{index:012d}.png")
            assert mask.shape == SIZE
            for number in range(len(CLASSES)):
                both[number] += ((mask == number) & (truth == number)).sum()
                union[number] += ((mask == number) | (truth == number)).sum()
    ious = {name: both[i] / union[i] for i, name in enumerate(CLASSES) if union[i]}
    assert len(ious) == 3
    results = json.loads((root / "results" / "results.json").read_text())
    assert results["mIoU"] == pytest.approx(np.mean(list(ious.values())))
    assert 0.6 < results["mIoU"] < 1
    assert results["first_frame_counts"] is not without_first
    assert f"mIoU {100 * results['mIoU']:.1f}, with{'out' if without_first else ''} the first frames" in out
    with (root / "results" / "classes.csv").open() as file:
        rows = {row["Class"]: float(row["IoU"]) for row in csv.DictReader(file)}
    assert rows == pytest.approx(ious)
    assert (root / "results" / "report.html").read_text().count("<img") == 2 * 3


def test_the_switch_needs_no_new_run(root):
    require_success(evaluate(root))
    record = root / "results" / "sequences" / "a.json"
    before = record.stat().st_mtime_ns
    require_success(evaluate(root, "--without_first"))
    assert record.stat().st_mtime_ns == before


def test_pixels_of_no_class_do_not_count(root):
    """As 255 in the first frame, and in a later one."""
    require_success(evaluate(root))
    before = json.loads((root / "results" / "sequences" / "b.json").read_text())
    for index in (0, 2):
        path = root / "Annotations" / "Category_ids" / "b" / f"{index:012d}.png"
        mask = classes(kinds(index, "b"))
        mask[:6, :10] = 255  # background else
        write_mask(path, mask)
    require_success(evaluate(root, "--overwrite", "--report"))
    after = json.loads((root / "results" / "sequences" / "b.json").read_text())
    for part in ("first", "later"):
        assert np.sum(before[part]) - np.sum(after[part]) == 60
        assert before[part][0][0] - after[part][0][0] == 60


def test_the_side_of_the_squares_is_the_fields():
    with patch.object(sys, "argv", ["evaluate_vip.py"]):
        assert evaluate_vip.parse_arguments().size == 560


def test_ious_by_hand():
    truth, predicted = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])
    counts = confusion(predicted, truth, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0] * 4, [0] * 4]
    np.testing.assert_allclose(class_ious(counts), [1 / 2, 2 / 3, np.nan, np.nan])


@pytest.mark.soak
def test_two_processes_write_what_one_writes(root):
    require_same_when_sharded(evaluate_vip.__file__, root, "--datapath", root, "--report", *FEATURES)


def test_bad_data(root):
    require_refusal(evaluate(root, "--videos", "none"), "--videos none")
    mask = root / "Annotations" / "Category_ids" / "b" / "000000000002.png"
    mask.unlink()
    require_refusal(evaluate(root), mask, "no such file")
    (root / "lists" / "val_videos.txt").unlink()
    require_refusal(evaluate(root), "val_videos.txt")

"""VIP: frames resized to a square and classes back, one confusion matrix of all pixels, and --without_first."""

import csv
import json
import sys
from unittest.mock import patch

import numpy as np
import pytest

import evaluate_vip
from dataloaders.vip import CLASSES, load_videos
from evaluation.report_pictures import MISSED, SPILLED
from evaluation.vip import resize_nearest, write_vip_report
from tests.support.commands import require_refusal, require_same_when_sharded, require_success, require_warning
from tests.support.files import touch
from tests.support.images import read_pixels
from tests.support.vip import FEATURES, SIZE, classes, evaluate, kinds, write_set
from utils.visualize import write_mask


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


def test_a_finished_video_of_other_files_is_refused(root):
    require_success(evaluate(root))
    (mask, *_) = sorted((root / "Annotations" / "Category_ids" / "a").iterdir())
    touch(mask)
    require_refusal(evaluate(root), "a is finished", f"{mask} was modified")


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
    assert (root / "results" / "report.html").read_text().count("<figure>") == 2 * 3


def test_the_switch_needs_no_new_run(root):
    require_success(evaluate(root))
    record = root / "results" / "sequences" / "a.json"
    before = record.stat().st_mtime_ns
    require_success(evaluate(root, "--without_first"))
    assert record.stat().st_mtime_ns == before


def test_pixels_of_no_class_do_not_count(root):
    """Pixels of value 255, in the first frame and in a later one."""
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


def test_video_without_a_frame_to_score(root):
    """A video of one frame, which is given, is left out with a warning if that frame does not count."""
    for index in (1, 2, 3):
        (root / "Images" / "b" / f"{index:012d}.png").unlink()
    require_success(evaluate(root, "--report"))
    require_warning(evaluate(root, "--without_first"), "b: no pixel is scored")
    assert '"mIoU": []' in (root / "results" / "sequences" / "b.json").read_text()


def test_frame_without_a_pixel_to_score(root):
    """It has no mean IoU."""
    write_mask(root / "Annotations" / "Category_ids" / "b" / f"{2:012d}.png", np.full(SIZE, 255, np.uint8))
    require_success(evaluate(root, "--report"))
    scores = json.loads((root / "results" / "sequences" / "b.json").read_text())["mIoU"]
    assert [score is None for score in scores] == [False, True, False]


def test_pixels_that_do_not_count_are_no_errors(root):
    """In the report: a frame whose true mask is wrong where it counts, and ignored elsewhere."""
    require_success(evaluate(root))
    (video,) = load_videos(root, ["a"])
    truth = np.full(SIZE, 255, np.uint8)
    truth[:6] = 1
    write_mask(video.masks[2], truth)
    record = {"mIoU": [None, 0.5, None]}
    with patch("evaluation.vip.write_report") as write_report:
        write_vip_report(root / "results", {"predictions": "masks"}, [video], {"a": record}, [])
    *_, (section,), _ = write_report.call_args.args
    (picture,) = section.pictures
    missed = (picture.errors == MISSED).all(2)
    assert missed[:6].all()
    assert not missed[6:].any()
    assert not (picture.errors == SPILLED).all(2).any()


def test_true_mask_of_another_size(root):
    path = root / "Annotations" / "Category_ids" / "b" / f"{2:012d}.png"
    write_mask(path, np.zeros((5, 6), np.uint8))
    require_refusal(evaluate(root), path, "6x5", f"{SIZE[1]}x{SIZE[0]}")


@pytest.mark.parametrize("size", [(240, 432), (241, 433), (480, 540)])
def test_a_true_mask_survives_the_way_to_a_square_and_back(size):
    """Resized by the pixels' centres; labels of one pixel cannot survive, so each block of labels has 8×8."""
    blocks = np.random.default_rng(0).integers(0, 20, (size[0] // 8 + 1, size[1] // 8 + 1), np.uint8)
    mask = blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    back = resize_nearest(resize_nearest(mask, (560, 560)), size)
    shift = [(back[:, 1:] == mask[:, :-1]).mean(), (back[1:] == mask[:-1]).mean()]
    assert (back == mask).mean() > max(0.94, *shift)
    if size == (240, 432):
        assert np.array_equal(back, mask)


def test_the_given_mask_is_scored_as_it_is_given(root):
    require_success(evaluate(root))
    for video in ("a", "b"):
        given = read_pixels(root / "results" / "masks" / video / f"{0:012d}.png")
        assert np.array_equal(given, classes(kinds(0, video)))


def test_default_size():
    with patch.object(sys, "argv", ["evaluate_vip.py"]):
        assert evaluate_vip.parse_arguments().size == 560


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

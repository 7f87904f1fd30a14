"""Joints: heat maps and back, PCK by hand, JHMDB in its layout, and the animals of BADJA."""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import scipy.io
import torch

import evaluate_jhmdb
from dataloaders.jhmdb import JHMDB_JOINTS, load_badja, load_jhmdb
from functional.keypoints import correct_share, heat_maps, joint_positions, normalised_distances
from tests.builders import Outcome, require_refusal, require_same_when_sharded, require_success, run_here
from tests.features import KINDS_OPTIONS, paint

SIZE = (80, 160)  # of frames; squeezed to squares, 2 pixels across are 1
SQUARE = 80
FRAMES = 4


def test_joints_survive_the_way_into_maps_and_back():
    joints = torch.tensor([[3.0, 4.0], [10.3, 2.8], [0, 0], [19, 9], [torch.nan, torch.nan], [40, 5]])
    maps = heat_maps(joints, 10, 20)
    assert maps.shape == (7, 10, 20)
    assert torch.equal(maps[0] == 1, maps[1:].sum(0) == 0)
    assert maps[1, 4, 3] == 1
    assert float(maps[1, 4, 4]) == pytest.approx(np.exp(-1 / (2 * 0.5**2)))
    found = joint_positions(maps[1:])
    assert (found[:4] - joints[:4]).abs().max() < 0.35
    torch.testing.assert_close(found[0], joints[0])
    assert found[4:].isnan().all()


def test_a_joint_is_the_mean_of_the_five_strongest_cells():
    map_of_joint = torch.zeros(1, 3, 9)
    map_of_joint[0, 1] = torch.tensor([0.1, 0, 0, 0.8, 1, 0.8, 0.6, 0.4, 0.3])
    expected = (3 * 0.8 + 4 * 1 + 5 * 0.8 + 6 * 0.6 + 7 * 0.4) / 3.6
    torch.testing.assert_close(joint_positions(map_of_joint), torch.tensor([[expected, 1]]))


def test_pck_by_hand():
    joints = np.array([[[0, 0], [30, 40], [10, 10]]], float)  # the box's diagonal is 50, a unit is 30
    found = joints + np.array([[3, 0], [0, 6.01], [0, 0]])
    np.testing.assert_allclose(normalised_distances(found, joints), [[0.1, 6.01 / 30, 0]])
    np.testing.assert_allclose(correct_share(normalised_distances(found, joints), 0.1), [1, 0, 1])
    found[0, 2] = np.nan  # lost, which is nothing to the others
    np.testing.assert_allclose(normalised_distances(found, joints), [[0.1, 6.01 / 30, np.inf]])
    joints[0, 1] = np.nan  # not annotated, so not in the box
    np.testing.assert_allclose(normalised_distances(found, joints)[0], [3 / (0.6 * 200**0.5), np.nan, np.inf])
    np.testing.assert_allclose(correct_share(np.array([[0.1, np.nan], [np.inf, np.nan]]), 0.2), [0.5, np.nan])


def places(index: int) -> np.ndarray:
    """The joints (x, y) in a frame [15, 2]: a column of 8, a column of 7, which drift to the right."""
    left, right = ([(24 + 8 * index, 4 + 8 * j) for j in range(8)], [(104 + 8 * index, 8 + 8 * j) for j in range(7)])
    return np.array(left + right, float)


def scene(index: int) -> np.ndarray:
    """Each joint's cell of the feature grid is of a kind of its own."""
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
        for index in range(FRAMES + 1):  # one frame more than there are joints for
            cv2.imwrite(str(frames / f"{index + 1:05d}.png"), paint(scene(min(index, FRAMES - 1))))
        joints = np.stack([places(index) for index in range(FRAMES)], -1).transpose(1, 0, 2)  # [2, 15, T]
        path = folder / "joint_positions" / name / f"{name}_test" / "joint_positions.mat"
        path.parent.mkdir(parents=True)
        scipy.io.savemat(path, {"pos_img": joints + 1})
    return folder


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


FEATURES = *KINDS_OPTIONS, "--size", SQUARE


def evaluate(root, *arguments: object) -> Outcome:
    where = "--datapath", root, "--savepath", root / "results"
    return run_here(evaluate_jhmdb.main, evaluate_jhmdb.__file__, *FEATURES, *where, *arguments)


def test_what_is_read(root):
    """MATLAB counts from 1; frames beyond the joints are left out; the side of the squares is the field's."""
    for video in load_jhmdb(root, None):
        np.testing.assert_array_equal(video.joints, np.stack([places(index) for index in range(FRAMES)]))
        assert len(video.frames) == FRAMES
    with patch.object(sys, "argv", ["evaluate_jhmdb.py"]):
        assert evaluate_jhmdb.parse_arguments().size == 320


def test_joints_are_followed(root):
    """Found where they are, in the pixels of the frames; by hand, all are within a tenth."""
    out = require_success(evaluate(root, "--report"))
    results = json.loads((root / "results" / "results.json").read_text())
    assert set(results["sequences"]) == {"wave/wave_test", "push/push_test"}
    for record in results["sequences"].values():
        found = np.array(record["joints"], float)
        assert found.shape == (FRAMES, len(JHMDB_JOINTS), 2)
        for index in range(FRAMES):
            assert np.abs(found[index] - places(index)).max() < 8  # a cell is 8 pixels across, 4 high
    assert results["scores"] == {"PCK@0.1": 1, "PCK@0.2": 1}
    assert [row["Joint"] for row in results["joints"]] == list(JHMDB_JOINTS)
    assert "mean            PCK@0.1 100.0  PCK@0.2 100.0" in out
    assert "first frames not counted; joints that are lost do not count" in out
    assert (root / "results" / "report.html").read_text().count("<img") == 2 * 3


def test_switches_change_what_counts_and_need_no_new_run(root):
    """A joint that is lost from some frame on: does not count, or counts as wrong."""
    require_success(evaluate(root))
    record = root / "results" / "sequences" / "push" / "push_test.json"
    content = json.loads(record.read_text())
    for index in (2, 3):
        content["joints"][index][0] = [None, None]
    record.write_text(json.dumps(content))
    for options, expected in (([], 1), (["--all_joints"], 4 / 6), (["--all_joints", "--with_first"], 6 / 8)):
        require_success(evaluate(root, *options))
        joints = json.loads((root / "results" / "results.json").read_text())["joints"]
        assert joints[0]["PCK@0.1"] == pytest.approx(expected)
        assert joints[1]["PCK@0.1"] == 1


@pytest.mark.soak
def test_two_processes_write_what_one_writes(root):
    require_same_when_sharded(evaluate_jhmdb.__file__, root, "--datapath", root, "--report", *FEATURES)


def test_bad_data(root):
    require_refusal(evaluate(root, "--videos", "none"), "--videos none")
    lost = root / "joint_positions" / "push" / "push_test" / "joint_positions.mat"
    kept = lost.read_bytes()
    scipy.io.savemat(lost, {"pos_img": np.full((2, 15, FRAMES), np.nan)})
    require_refusal(evaluate(root, "--videos", "push/push_test"), "no joint counts")
    lost.unlink()
    require_refusal(evaluate(root), lost, "no such file")
    lost.write_bytes(kept)
    path = root / "joint_positions" / "wave" / "wave_test" / "joint_positions.mat"
    scipy.io.savemat(path, {"pos_img": np.zeros((2, 14, 3))})
    require_refusal(evaluate(root), path, "[2, 14, 3]")
    path.write_bytes(b"junk")
    require_refusal(evaluate(root), path)
    (root / "splits" / "wave_test_split1.txt").write_text("wave_test.avi\n")
    require_refusal(evaluate(root), "wave_test_split1.txt")
    for listed in (root / "splits").iterdir():
        listed.unlink()
    require_refusal(evaluate(root), "splits")


def test_animals(shared):
    """The clips that are at hand: joints start in the first annotated frame, and lie in the frames."""
    videos = load_badja(shared / "eval" / "badja_keypoints", None)
    assert [video.name for video in videos] == ["bear", "dog", "dog-agility", "horsejump-low"]
    for video in videos:
        assert len(video.frames) == len(video.joints)
        assert not np.isnan(video.joints[0]).all()
        height, width = video.frame_size
        known = video.joints[~np.isnan(video.joints).any(2)]
        assert ((known >= 0) & (known <= [width, height])).all()


def test_animals_are_followed(shared, tmp_path):
    """By the features and in the configuration of the checkpoint that comes with the repository."""
    where = "--datapath", shared / "eval" / "badja_keypoints", "--savepath", tmp_path / "results"
    how = "--layout", "badja", "--videos", "horsejump-low", "--size", 160, "--device", "cpu", "--usemomen", "--compact"
    require_success(run_here(evaluate_jhmdb.main, evaluate_jhmdb.__file__, *how, *where))
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert 0.3 < results["scores"]["PCK@0.2"] < 0.9

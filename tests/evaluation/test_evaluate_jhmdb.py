"""JHMDB and BADJA: joints are followed, scored by PCK, and bad data is refused."""

import json
import sys
from unittest.mock import patch

import numpy as np
import pytest
import scipy.io

import evaluate_jhmdb
from dataloaders.badja import BADJA
from dataloaders.jhmdb import JHMDB_JOINTS, load_jhmdb
from tests.support.commands import (
    require_refusal,
    require_same_when_sharded,
    require_success,
    require_warning,
    run_script,
)
from tests.support.files import touch
from tests.support.jhmdb import FEATURES, FRAMES, evaluate, places, write_badja, write_set


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


def test_what_is_read(root):
    """MATLAB counts from 1; frames without joints and other splits are not read; the default size is 320."""
    (root / "splits" / "wave_test_split2.txt").write_text("wave_train.avi 2\n")
    videos = load_jhmdb(root, None)
    assert [video.name for video in videos] == ["push/push_test", "wave/wave_test"]
    for video in videos:
        np.testing.assert_array_equal(video.joints, np.stack([places(index) for index in range(FRAMES)]))
        assert len(video.frames) == FRAMES
    with patch.object(sys, "argv", ["evaluate_jhmdb.py"]):
        assert evaluate_jhmdb.parse_arguments().size == 320


def test_joints_are_followed(root):
    """Positions are in pixels of the frames; all joints are within PCK@0.1."""
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
    assert (root / "results" / "report.html").read_text().count("<figure>") == 2 * 3


def test_a_finished_video_of_other_files_is_refused(root):
    require_success(evaluate(root))
    touch(root / "joint_positions" / "push" / "push_test" / "joint_positions.mat")
    require_refusal(evaluate(root), "push/push_test is finished", "joint_positions.mat was modified")


def test_switches_change_what_counts_and_need_no_new_run(root):
    """A lost joint does not count, or counts as wrong with --all_joints."""
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


def test_animals_with_different_numbers_of_joints(tmp_path):
    """Joints of the same number are scored together; the others alone."""
    path = write_badja(tmp_path) / BADJA
    bear = json.loads(path.read_text())["bear"]
    cow = json.loads(path.read_text())["bear"]
    for annotation in cow["annotations"]:
        annotation |= {"visibility": [1, 1, 1], "joints_yx_480p": [[4, 4], [20, 28], [12, 12]]}
    (tmp_path / "JPEGImages/480p/cow").symlink_to("bear")
    path.write_text(json.dumps({"bear": bear, "cow": cow}))
    require_success(evaluate(tmp_path, "--layout", "badja", "--report"))
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert [row["Joint"] for row in results["joints"]] == ["joint 0", "joint 1", "joint 2"]


def test_video_without_a_frame_to_score(root):
    """A video of one frame, which is given, is left out with a warning, unless --with_first."""
    path = root / "joint_positions/push/push_test/joint_positions.mat"
    scipy.io.savemat(path, {"pos_img": scipy.io.loadmat(path)["pos_img"][..., :1]})
    out = require_warning(evaluate(root, "--report"), "push/push_test: no joint counts")
    assert "mean            PCK@0.1 100.0" in out
    require_success(evaluate(root, "--with_first"))


def test_animals_are_followed(shared, tmp_path):
    """With the default checkpoint and its settings."""
    where = "--datapath", shared / "eval" / "badja_keypoints", "--savepath", tmp_path / "results"
    how = "--layout", "badja", "--videos", "horsejump-low", "--size", 160, "--device", "cpu", "--usemomen", "--compact"
    require_success(run_script(evaluate_jhmdb, *how, *where))
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert 0.3 < results["scores"]["PCK@0.2"] < 0.9

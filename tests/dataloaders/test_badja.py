"""Reading BADJA."""

import json

import numpy as np
import pytest

from dataloaders.badja import BADJA, load_badja
from utils.errors import UserError


def test_animals(shared):
    """Of the clips in the shared folder; joints start in the first annotated frame and lie within the frames."""
    videos = load_badja(shared / "eval" / "badja_keypoints", None)
    assert [video.name for video in videos] == ["bear", "dog", "dog-agility", "horsejump-low"]
    for video in videos:
        assert len(video.frames) == len(video.joints)
        assert not np.isnan(video.joints[0]).all()
        height, width = video.frame_size
        known = video.joints[~np.isnan(video.joints).any(2)]
        assert ((known >= 0) & (known <= [width, height])).all()


def test_joints_by_hand(tmp_path):
    """Frame 1 is the first annotated one; joints are (row, column) in the file."""
    annotations = [
        {"frame": 3, "visibility": [1, 1], "joints_yx_480p": [[1, 2], [3, 4]]},
        {"frame": 1, "visibility": [1, 0], "joints_yx_480p": [[5, 6], [7, 8]]},
    ]
    for name in ("dog", "bear"):
        (tmp_path / "JPEGImages" / "480p" / name).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "JPEGImages" / "480p" / name / f"{index:05d}.jpg").touch()
    (tmp_path / BADJA).write_text(json.dumps({name: {"annotations": annotations} for name in ("dog", "bear")}))
    videos = load_badja(tmp_path, None)
    assert [video.name for video in videos] == ["bear", "dog"]
    unknown = [np.nan, np.nan]
    for video in videos:
        assert [frame.stem for frame in video.frames] == ["00001", "00002", "00003"]
        np.testing.assert_array_equal(video.joints, [[[6, 5], unknown], [unknown, unknown], [[2, 1], [4, 3]]])


def test_a_file_without_animals_is_refused(tmp_path):
    (tmp_path / BADJA).write_text("{}")
    with pytest.raises(UserError, match=BADJA):
        load_badja(tmp_path, None)

"""Reading BADJA."""

import numpy as np

from dataloaders.badja import load_badja


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

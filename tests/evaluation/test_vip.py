"""Confusion matrices of a video, and its scores by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from evaluation.vip import empty_counts, score_frame, score_video


def test_pixels_of_large_frames_are_counted():
    """More than 16 bits hold, and in their own frame."""
    truth = np.zeros((200, 300), np.uint8)
    video = SimpleNamespace(frames=[Path()] * 2, masks=[Path()] * 2, truth=lambda _: truth)
    counts = empty_counts(video)
    score_frame(counts, video, 1, truth + 4)
    assert counts.shape == (2, 20, 20)
    assert counts[1, 0, 4] == counts.sum() == 60_000


def test_scores_by_hand():
    """Of two later frames: class 0 has 2 of 4 pixels and class 1 none of 2; class 1 has all 3."""
    counts = np.zeros((3, 20, 20), np.int64)
    counts[0, 0, 0] = 4
    counts[1, 0, :2] = 2
    counts[2, 1, 1] = 3
    scores = score_video(counts)
    assert scores["mIoU"] == [0.25, 1]
    assert np.array_equal(scores["first"], counts[0])
    assert np.array_equal(scores["later"], counts[1] + counts[2])

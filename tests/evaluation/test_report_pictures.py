"""The report's pictures: which frames are shown, and where a mask is wrong."""

import numpy as np
import pytest

from evaluation.report_pictures import MISSED, PICTURES, SPILLED, error_map, to_show


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.1, 0.5], [(2, "frame 2: 10.0"), (3, "frame 3: 50.0"), (1, "frame 1: 90.0")]),
        ([0.9, np.nan, 0.5], [(3, "frame 3: 50.0"), (1, "frame 1: 90.0")]),
        ([], [(i, f"frame {i}") for i in range(4)]),
        ([0.9, None, 0.5], [(3, "frame 3: 50.0"), (1, "frame 1: 90.0")]),
        ([np.nan] * 3, [(i, f"frame {i}") for i in range(4)]),
        ([0.5] * 9, [(i, f"frame {i}: 50.0") for i in range(1, 7)]),
    ],
)
def test_the_worst_frames_come_first(scores, expected):
    assert to_show(4, scores) == expected


@pytest.mark.parametrize("frames", [12, 20, 69, 400])
def test_the_worst_frames_of_a_long_video_lie_apart(frames):
    """A bad quarter of the video does not fill all places; the very worst frame is there."""
    scores = np.full(frames, 0.9)
    start = frames // 2
    scores[start : start + frames // 4] = np.linspace(0.2, 0.1, frames // 4)
    shown = [index for index, _ in to_show(frames, scores, first=0)]
    assert shown[0] == start + frames // 4 - 1
    assert PICTURES - 2 <= len(shown) <= PICTURES
    assert np.diff(sorted(shown)).min() >= max(2, frames // (2 * PICTURES))


def test_error_map():
    """Another object's label is a miss; where the mask is right, the frame is grey."""
    frame = np.zeros((1, 5, 3), np.uint8)
    frame[..., 2] = 200
    truth, mask = np.array([[0, 0, 1, 1, 1]], np.uint8), np.array([[0, 2, 0, 2, 1]], np.uint8)
    right, spilled, missed, other, also_right = error_map(frame, mask, truth)[0].tolist()
    assert (tuple(spilled), tuple(missed), tuple(other)) == (SPILLED, MISSED, MISSED)
    assert right == also_right == [right[0]] * 3

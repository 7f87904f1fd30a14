"""Reading video files."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from dataloaders.video import read_video


@pytest.mark.parametrize(
    ("said", "rate"),
    [(0, 24), (float("nan"), 24), (1e-6, 24), (1001, 24), (1000, 1000), (12.5, Fraction(25, 2))],
)
@pytest.mark.parametrize(("count", "frames"), [(-1, None), (0, None), (3, 3)])
def test_rate_and_count_that_a_video_file_states(said, rate, count, frames, tmp_path, monkeypatch):
    class Capture:
        def __init__(self, _: str):
            self.frames = [np.zeros((2, 4, 3), np.uint8)] * 3

        def read(self):
            return (True, self.frames.pop()) if self.frames else (False, None)

        def get(self, name: int) -> float:
            return {cv2.CAP_PROP_FRAME_COUNT: count, cv2.CAP_PROP_FPS: said}[name]

        def release(self):
            pass

    (tmp_path / "video.mp4").touch()
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    found, *stated = read_video(tmp_path / "video.mp4")
    assert len(list(found)) == 3
    assert stated == [(2, 4), frames, rate]

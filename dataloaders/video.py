"""Video files; UserError for one that cannot be decoded."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from utils.errors import UserError

MAX_RATE, USUAL_RATE = 1000, 24  # frames per second; the latter if a video has no valid rate


def read_video(path: Path) -> tuple[Iterator[np.ndarray], tuple[int, int], int | None, Fraction]:
    """Open a video file: frames, BGR uint8 [H, W, 3]; (height, width); their number according to the file; frame rate.

    UserError if OpenCV cannot decode a frame of it.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video file or folder of frames")
    capture = cv2.VideoCapture(str(path))
    success, first = capture.read()
    if not success:
        raise UserError(f"{path}: OpenCV decodes no frame of it; convert it, or pass a folder of its frames")
    count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[np.ndarray]:
        yield first
        while (result := capture.read())[0]:
            yield result[1]
        capture.release()

    rate = Fraction(fps).limit_denominator(1001) if 0 < fps <= MAX_RATE else Fraction(0)  # also 0 if almost 0
    return frames(), first.shape[:2], int(count) if count > 0 else None, rate or Fraction(USUAL_RATE)

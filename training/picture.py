"""Captions of the picture that shows a reconstruction."""

import cv2
import numpy as np

CAPTIONS = ("reference", "target", "reconstruction", "error")  # the panels of `reconstruction_picture`
STRIP = 24  # pixels


def add_captions(picture: np.ndarray) -> np.ndarray:
    """Add a strip with `CAPTIONS` above the panels, RGB uint8 [H, 4 W, 3] -> [24 + H, 4 W, 3]."""
    strip = np.full((STRIP, picture.shape[1], 3), 255, np.uint8)
    width = picture.shape[1] // len(CAPTIONS)
    for i, caption in enumerate(CAPTIONS):
        place = i * width + 4, STRIP - 7
        cv2.putText(strip, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, picture])

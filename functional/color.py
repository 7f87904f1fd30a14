"""Frames as the network sees them: normalised Lab (docs/method.md §2)."""

import cv2
import numpy as np
import torch
from torch import Tensor

LAB_MEAN = np.array([50, 0, 0], np.float32)
LAB_SCALE = np.array([50, 127, 127], np.float32)


def normalised_lab(frame: np.ndarray) -> Tensor:
    """A BGR frame, uint8 or float32 in 0 … 1, [H, W, 3] -> ((L-50)/50, a/127, b/127), float32 [3, H, W]."""
    if frame.dtype == np.uint8:
        frame = frame.astype(np.float32) / 255
    lab = (cv2.cvtColor(frame, cv2.COLOR_BGR2Lab) - LAB_MEAN) / LAB_SCALE
    return torch.from_numpy(np.ascontiguousarray(lab.transpose(2, 0, 1)))

"""Colour conversion: normalised Lab, the input of the network (docs/method.md §2)."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LAB_MEAN = np.array([50, 0, 0], np.float32)
LAB_SCALE = np.array([50, 127, 127], np.float32)


def normalised_lab(frame: np.ndarray) -> Tensor:
    """Convert BGR, uint8 or float32 in 0 … 1, [H, W, 3] to ((L-50)/50, a/127, b/127), float32 [3, H, W]."""
    if frame.dtype == np.uint8:
        frame = np.divide(frame, np.float32(255), dtype=np.float32)
    lab = cv2.cvtColor(frame, cv2.COLOR_BGR2Lab)
    planes = np.empty((3, *lab.shape[:2]), np.float32)
    for channel, plane in enumerate(planes):  # by channel and in place, which is several times faster
        np.subtract(lab[..., channel], LAB_MEAN[channel], out=plane)
        plane /= LAB_SCALE[channel]
    return torch.from_numpy(planes)


def to_rgb(lab: Tensor) -> np.ndarray:
    """Invert `normalised_lab` for display: float32 [3, H, W] -> RGB uint8 [H, W, 3]."""
    values = lab.numpy().transpose(1, 2, 0) * LAB_SCALE + LAB_MEAN
    return (cv2.cvtColor(values, cv2.COLOR_Lab2RGB).clip(0, 1) * 255).round().astype(np.uint8)


def reconstruction_picture(reference: Tensor, target: Tensor, reconstruction: Tensor, channel: int) -> np.ndarray:
    """Draw reference, target, target with one channel reconstructed, and error side by side, RGB uint8 [H, 4 W, 3].

    reference, target: normalised Lab [3, H, W]; reconstruction: that channel [1, h, w].
    """
    size = tuple(target.shape[-2:])
    upsampled = F.interpolate(reconstruction[None], size, mode="bilinear", align_corners=False)[0, 0]
    reconstructed = target.clone()
    reconstructed[channel] = upsampled
    error = ((upsampled - target[channel]).abs() * 255).clamp(0, 255).to(torch.uint8).numpy()
    panels = [to_rgb(reference), to_rgb(target), to_rgb(reconstructed), np.repeat(error[..., None], 3, axis=2)]
    return np.hstack(panels)

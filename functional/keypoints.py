"""Joints as heat maps on the feature grid, and the share of those found that are correct (docs/method.md §9)."""

import math

import numpy as np
import torch
from torch import Tensor

SIGMA = 0.5  # of a joint's Gaussian, in cells
REACH = 3 * SIGMA  # where it is cut off
STRONGEST = 5  # cells whose mean is a joint's place
BOX_SHARE = 0.6  # of the diagonal of the joints' box: what distances are measured in


def heat_maps(joints: Tensor, height: int, width: int) -> Tensor:
    """Gaussians at joints (x, y) in cells [J, 2], and the background, 1 where they are 0: [1 + J, height, width].

    The map of a joint that is NaN, or not in the frame, is 0.
    """
    y, x = (torch.arange(size, dtype=joints.dtype) for size in (height, width))
    squares = (x - joints[:, 0, None, None]).square() + (y[:, None] - joints[:, 1, None, None]).square()
    maps = torch.where(squares <= REACH**2, torch.exp(-squares / (2 * SIGMA**2)), 0)
    return torch.cat(((maps.sum(0) == 0).to(maps)[None], maps))


def joint_positions(maps: Tensor) -> Tensor:
    """The mean of the strongest cells of each joint, weighted by them, (x, y) in cells: [J, h, w] -> [J, 2].

    NaN where a map is 0: the joint is lost.
    """
    strengths, cells = maps.flatten(1).topk(min(STRONGEST, maps[0].numel()), 1)
    places = torch.stack((cells % maps.shape[2], cells // maps.shape[2]), -1)
    total = strengths.sum(1)
    mean = (strengths[..., None] * places).sum(1) / total[:, None]
    return torch.where(total[:, None] > 0, mean, math.nan)


def normalised_distances(found: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Distances between found and true joints [T, J, 2] in units of 0.6 times the diagonal of each frame's true joints.

    [T, J]; NaN where a true joint is; a lost one is infinitely far.
    """
    distances = np.full(joints.shape[:2], np.nan)
    for frame in np.flatnonzero(~np.isnan(joints).any(2).all(1)):
        box = np.nanmax(joints[frame], 0) - np.nanmin(joints[frame], 0)
        apart = np.linalg.norm(found[frame] - joints[frame], axis=-1)
        apart = np.where(np.isnan(found[frame]).any(1), np.inf, apart)
        with np.errstate(divide="ignore", invalid="ignore"):
            distances[frame] = np.where(apart == 0, 0, apart / (BOX_SHARE * np.linalg.norm(box)))
    return np.where(np.isnan(joints).any(2), np.nan, distances)


def correct_share(distances: np.ndarray, threshold: float) -> np.ndarray:
    """PCK: of each joint's distances [N, J] that are numbers, the share up to the threshold, [J]; NaN if none is."""
    count = (~np.isnan(distances)).sum(0)
    return np.where(count > 0, (distances <= threshold).sum(0) / np.maximum(count, 1), np.nan)

"""Joints as heat maps on the feature grid, and the percentage of correct keypoints, PCK (docs/method.md §9)."""

import math

import numpy as np
import torch
from torch import Tensor

SIGMA = 0.5  # standard deviation of a joint's Gaussian, in cells
REACH = 3 * SIGMA  # radius at which it is truncated, in cells
STRONGEST = 5  # number of cells that are averaged to locate a joint
BOX_SHARE = 0.6  # distances are divided by this share of the diagonal of the joints' bounding box


def heat_maps(joints: Tensor, height: int, width: int) -> Tensor:
    """Return [1 + J, height, width]: the background, 1 where all other maps are 0, then a Gaussian at each joint.

    joints: (x, y) in cells [J, 2]. The map of a joint that is NaN or outside the frame is 0.
    """
    y, x = (torch.arange(size, dtype=joints.dtype) for size in (height, width))
    squares = (x - joints[:, 0, None, None]).square() + (y[:, None] - joints[:, 1, None, None]).square()
    maps = torch.where(squares <= REACH**2, torch.exp(-squares / (2 * SIGMA**2)), 0)
    return torch.cat(((maps.sum(0) == 0).to(maps)[None], maps))


def joint_positions(maps: Tensor) -> Tensor:
    """Locate each joint at the weighted mean (x, y) of its map's five largest cells: [J, h, w] -> [J, 2] in cells.

    NaN (a lost joint) where a map is 0.
    """
    strengths, cells = maps.flatten(1).topk(min(STRONGEST, maps[0].numel()), 1)
    places = torch.stack((cells % maps.shape[2], cells // maps.shape[2]), -1)
    total = strengths.sum(1)
    mean = (strengths[..., None] * places).sum(1) / total[:, None]
    return torch.where(total[:, None] > 0, mean, math.nan)


def normalised_distances(found: np.ndarray, joints: np.ndarray, *, box_of_all: bool = False) -> np.ndarray:
    """Return the distances [T, J] between found and true joints [T, J, 2]; NaN where a true joint is NaN.

    They are divided by 0.6 of the diagonal of the box around the frame's true joints whose prediction is not lost
    (box_of_all: around all true joints), and infinite for lost joints.
    """
    annotated, lost = ~np.isnan(joints).any(2), np.isnan(found).any(2)
    distances = np.where(annotated, np.inf, np.nan)
    boxed = annotated if box_of_all else annotated & ~lost
    for frame in np.flatnonzero(boxed.any(1)):
        box = np.ptp(joints[frame, boxed[frame]], 0)
        scored = annotated[frame] & ~lost[frame]
        pixels = np.linalg.norm(found[frame, scored] - joints[frame, scored], axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            distances[frame, scored] = np.where(pixels == 0, 0, pixels / (BOX_SHARE * np.linalg.norm(box)))
    return distances


def correct_share(distances: np.ndarray, threshold: float) -> np.ndarray:
    """Return each joint's PCK [J]: of its distances [N, J] that are not NaN, the share up to the threshold."""
    count = (~np.isnan(distances)).sum(0)
    return np.where(count > 0, (distances <= threshold).sum(0) / np.maximum(count, 1), np.nan)

"""The DAVIS measures: region similarity J, boundary accuracy F, and their summaries (docs/method.md §9)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np

BOUNDARY_TOLERANCE = 0.008  # of the frame's diagonal
RECALL_THRESHOLD = 0.5
DECAY_BINS = 4
MEASURES = ("J", "F")

ObjectScores = Mapping[str, Sequence[float]]  # "J" and "F" of frames 1 … T-1


def jaccard(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two masks, bool [H, W]; 1 if both are empty."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour, bool [H, W] -> bool [H, W].

    The last row and column are compared along themselves only, and the corner is never a boundary.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def boundary_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F of the boundaries of two masks, bool [H, W], that may lie 0.8 % of the diagonal apart."""
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*truth.shape))
    box = _bounding_box(predicted | truth)  # beyond it there is no boundary
    ours, theirs = boundary(predicted[box]).view(np.uint8), boundary(truth[box]).view(np.uint8)
    count_ours, count_theirs = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not count_ours or not count_theirs:
        precision, recall = float(not count_ours), float(not count_theirs)
    else:
        precision = np.count_nonzero(ours & _dilate(theirs, radius)) / count_ours
        recall = np.count_nonzero(theirs & _dilate(ours, radius)) / count_theirs
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """That of a mask, bool [H, W], and one more pixel on every side that is not the frame's."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    steps = np.arange(-radius, radius + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(mask, disk)


def frame_scores(predicted: np.ndarray, truth: np.ndarray, objects: Iterable[int]) -> dict[int, dict[str, float]]:
    """J and F of each object in one frame; predicted, truth: ids [H, W]."""
    return {
        number: {
            "J": jaccard(predicted == number, truth == number),
            "F": boundary_f(predicted == number, truth == number),
        }
        for number in objects
    }


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Mean, recall (share above 0.5) and decay (first quarter minus last) of one object's scores over time."""
    scores = np.asarray(values, np.float64)
    ends = np.round(np.linspace(1, len(scores), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    quarters = [scores[first : last + 1] for first, last in pairwise(ends)]
    return {
        "Mean": float(scores.mean()),
        "Recall": float((scores > RECALL_THRESHOLD).mean()),
        "Decay": float(quarters[0].mean() - quarters[-1].mean()),
    }


def object_summary(scores: ObjectScores) -> dict[str, float]:
    """One object's official summary: the last frame, like the first, is not scored."""
    return {
        f"{measure}-{name}": value for measure in MEASURES for name, value in statistics(scores[measure][:-1]).items()
    }


def davis_measure(objects: Sequence[ObjectScores]) -> dict[str, float]:
    """The official measure: the mean over objects of their summaries; J&F is the mean of both means.

    Reference: reports `legacy_measure` alone.
    """
    summaries = [object_summary(scores) for scores in objects]
    means = {name: float(np.mean([summary[name] for summary in summaries])) for name in summaries[0]}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def legacy_measure(objects: Sequence[ObjectScores]) -> dict[str, float]:
    """The reference's own measure: the mean over all pairs of frame and object, the last frame included."""
    means = {f"{m}-Mean": float(np.concatenate([scores[m] for scores in objects]).mean()) for m in MEASURES}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def confusion(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by true and predicted class, [classes, classes]; predicted, truth: classes of pixels [H, W].

    Pixels whose true class is none of them do not count.
    """
    counted = truth < classes
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_ious(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class of a confusion matrix; NaN for one that is neither true nor predicted."""
    both, union = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)

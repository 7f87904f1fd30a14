"""The DAVIS measures: region similarity J, boundary accuracy F, and their summaries (docs/method.md §9)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np

BOUNDARY_TOLERANCE = 0.008  # share of the frame's diagonal
RECALL_THRESHOLD = 0.5
DECAY_BINS = 4
MEASURES = ("J", "F")

ObjectScores = Mapping[str, Sequence[float | None]]  # "J", "F": values of frames 1 … T-1; None: no mask of the last


def jaccard(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Compute the intersection over union of two masks, bool [H, W]; 1 if both are empty."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Mark pixels that differ from their right, lower or lower-right neighbour, bool [H, W] -> bool [H, W].

    The last row has only right neighbours, the last column only lower ones; the lower right corner is never marked.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def boundary_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Compute F of the boundaries of two masks, bool [H, W], with a tolerance of 0.8 % of the diagonal."""
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*truth.shape))
    box = _bounding_box(predicted | truth)  # no boundary outside it
    predicted_edge, true_edge = boundary(predicted[box]).view(np.uint8), boundary(truth[box]).view(np.uint8)
    predicted_count, true_count = np.count_nonzero(predicted_edge), np.count_nonzero(true_edge)
    if not predicted_count or not true_count:
        precision, recall = float(not predicted_count), float(not true_count)
    else:
        precision = np.count_nonzero(predicted_edge & _dilate(true_edge, radius)) / predicted_count
        recall = np.count_nonzero(true_edge & _dilate(predicted_edge, radius)) / true_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the bounding box of a mask, bool [H, W], one pixel larger on each side but within the frame."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    steps = np.arange(-radius, radius + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(mask, disk)


def present_ids(mask: np.ndarray) -> list[int]:
    """List the ids of the objects in a mask, uint8 [H, W]."""
    return [int(number) for number in np.flatnonzero(np.bincount(mask.ravel())) if number]


def frame_scores(predicted: np.ndarray, truth: np.ndarray, objects: Iterable[int]) -> dict[int, dict[str, float]]:
    """Compute J and F of each object in one frame; predicted, truth: ids [H, W]."""
    return {
        number: {
            "J": jaccard(predicted == number, truth == number),
            "F": boundary_f(predicted == number, truth == number),
        }
        for number in objects
    }


def statistics(values: Sequence[float | None]) -> dict[str, float]:
    """Compute mean, recall (share above 0.5) and decay (first quarter minus last) of one object's scores."""
    scores = np.asarray(values, np.float64)
    ends = np.round(np.linspace(1, len(scores), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    quarters = [scores[first : last + 1] for first, last in pairwise(ends)]
    return {
        "Mean": float(scores.mean()),
        "Recall": float((scores > RECALL_THRESHOLD).mean()),
        "Decay": float(quarters[0].mean() - quarters[-1].mean()),
    }


def object_summary(scores: ObjectScores) -> dict[str, float]:
    """Compute one object's official summary, for which the last frame, like the first, is not scored."""
    return {
        f"{measure}-{name}": value for measure in MEASURES for name, value in statistics(scores[measure][:-1]).items()
    }


def davis_measure(objects: Sequence[ObjectScores]) -> dict[str, float]:
    """Compute the official measure: the mean of all objects' summaries; J&F is the mean of J-Mean and F-Mean.

    The reference implementation reports only `legacy_measure`.
    """
    summaries = [object_summary(scores) for scores in objects]
    means = {name: float(np.mean([summary[name] for summary in summaries])) for name in summaries[0]}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def legacy_measure(objects: Sequence[ObjectScores]) -> dict[str, float]:
    """Compute the reference implementation's measure: mean over all pairs of frame and object, with the last frame."""
    pooled = {m: np.concatenate([np.array(scores[m], np.float64) for scores in objects]) for m in MEASURES}
    means = {f"{m}-Mean": float(np.nanmean(values)) for m, values in pooled.items()}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def confusion(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true and predicted class, [classes, classes]; predicted, truth: class indices [H, W].

    Pixels whose true class is not one of the `classes` are ignored.
    """
    counted = truth < classes
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_ious(counts: np.ndarray) -> np.ndarray:
    """Compute the IoU of each class of a confusion matrix; NaN for classes neither true nor predicted."""
    both, union = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)

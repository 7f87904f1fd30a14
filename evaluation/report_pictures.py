"""Pictures of frames: which ones to show, where a mask is wrong, and their embedding in a page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

PICTURES = 6  # of a video
WIDTH = 420
JPEG_QUALITY = 80
MISSED, SPILLED = (213, 94, 0), (0, 114, 178)  # RGB; they differ for the colour-blind too


@dataclass(frozen=True)
class Picture:
    """RGB uint8 [H, W, 3], with a caption and for masks the map of their errors, of the same kind."""

    caption: str
    pixels: np.ndarray
    errors: np.ndarray | None = None


def to_show(frames: int, scores: Sequence[float | None] | np.ndarray = (), first: int = 1) -> list[tuple[int, str]]:
    """Frames of a video to show, with captions: those with the lowest scores, or without scores evenly spaced ones.

    scores: of frames `first`, `first` + 1, …; None or NaN where a frame has none. In a long video, neighbours of a
    frame that is shown are not.
    """
    values = np.array(scores, np.float64)
    lowest = [int(i) for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    if not lowest:
        return [(int(i), f"frame {i}") for i in np.unique(np.linspace(0, frames - 1, PICTURES).round().astype(int))]
    distance, shown = 1 + len(lowest) // (2 * PICTURES), list[int]()
    for i in lowest:
        if len(shown) < PICTURES and all(abs(i - other) >= distance for other in shown):
            shown.append(i)
    return [(i + first, f"frame {i + first}: {100 * values[i]:.1f}") for i in shown]


def error_map(frame: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mark the errors of a mask on a pale grey frame: BGR uint8 [H, W, 3], ids [H, W] -> RGB uint8 [H, W, 3].

    Missed: pixels of a true object that are predicted as anything else; spilled: background predicted as an object.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) // 2 + 128
    picture = np.repeat(grey[..., None], 3, 2)
    picture[(truth > 0) & (mask != truth)] = MISSED
    picture[(truth == 0) & (mask > 0)] = SPILLED
    return picture


def data_url(picture: np.ndarray) -> str:
    """Return a picture, RGB uint8 [H, W, 3], as the URL of a JPEG of `WIDTH` pixels' width."""
    height, width = picture.shape[:2]
    size = WIDTH, max(1, round(height * WIDTH / width))
    small = cv2.resize(picture[..., ::-1], size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"

"""VIP: mean IoU of part labels from one confusion matrix, result files and report (docs/method.md §9)."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dataloaders.frames import read_frame, require_size
from dataloaders.masks import read_mask
from dataloaders.vip import CLASSES, Video
from evaluation.report import REPORT, Section, write_report
from evaluation.report_facts import run_facts
from evaluation.report_pictures import Picture, error_map, to_show
from evaluation.run import Records
from functional.metrics import class_ious, confusion
from utils.errors import UserError, warn
from utils.savepath import write_csv, write_json
from utils.visualize import overlay

RECORD_KEYS = ("first", "later", "mIoU")  # required in the record of a video, besides "frames"


def mask_path(savepath: Path, video: Video, index: int) -> Path:
    """Return the output path of a frame's mask."""
    return savepath / "masks" / video.name / f"{video.frames[index].stem}.png"


def empty_counts(video: Video) -> np.ndarray:
    """Return a zero confusion matrix for each frame, int64 [T, 20, 20]."""
    return np.zeros((len(video.frames), len(CLASSES), len(CLASSES)), np.int64)


def score_frame(counts: np.ndarray, video: Video, index: int, mask: np.ndarray) -> None:
    """Write a frame's confusion matrix to `counts`; mask: predicted classes [H, W]; UserError if sizes differ."""
    truth = video.truth(index)
    require_size(video.masks[index], truth, mask.shape)
    counts[index] = confusion(mask, truth, len(CLASSES))


def resize_nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask [H, W] to (height, width) by nearest neighbour."""
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def score_video(counts: np.ndarray) -> dict[str, Any]:
    """Return the confusion matrices of the first and of all later frames, and the mean IoU of each later frame.

    It is None for a frame of which no pixel is scored.
    """
    over_time = [float(np.nanmean(class_ious(frame))) if frame.any() else None for frame in counts[1:]]
    return {"first": counts[0].tolist(), "later": counts[1:].sum(0).tolist(), "mIoU": over_time}


def write_results(
    savepath: Path, description: dict[str, Any], records: Records, *, without_first: bool
) -> list[list[dict[str, Any]]]:
    """Print and write the IoU of each class that occurs, over all videos, and the mean; return the report's tables."""
    counted = ("later",) if without_first else ("first", "later")
    counts = np.sum([record[part] for record in records.values() for part in counted], 0)
    ious = class_ious(counts)
    rows = [{"Class": name, "IoU": iou} for name, iou in zip(CLASSES, ious.tolist(), strict=True) if not np.isnan(iou)]
    if not rows:
        raise UserError("--datapath: no pixel of these videos is scored; see --without_first")
    if unscored := [name for name, record in records.items() if not np.any([record[part] for part in counted])]:
        warn(f"{', '.join(unscored)}: no pixel is scored (see --without_first); left out of the mean")
    mean = float(np.nanmean(ious))
    for row in rows:
        print(f"{row['Class']:<14} {100 * row['IoU']:5.1f}")
    print(f"mIoU {100 * mean:.1f}, {'without' if without_first else 'with'} the first frames")
    write_csv(savepath / "classes.csv", rows)
    results = {"arguments": description, "mIoU": mean, "first_frame_counts": not without_first, "classes": rows}
    write_json(savepath / "results.json", results | {"sequences": records})
    return [[{"mIoU": mean}], rows]


def write_vip_report(
    savepath: Path,
    description: dict[str, Any],
    videos: list[Video],
    records: Records,
    tables: list[list[dict[str, Any]]],
) -> None:
    """Write SAVEPATH/report.html."""
    sections = (_section(video, savepath, records[video.name]) for video in videos)
    write_report(
        savepath / REPORT,
        "VIP: parts propagated from the first frame",
        tables,
        sections,
        run_facts(description, records),
    )


def _section(video: Video, savepath: Path, record: dict[str, Any]) -> Section:
    """Return one video's report section: mean IoU over time, and worst frames with the errors of their masks."""
    pictures, known = [], [value for value in record["mIoU"] if value is not None]
    for i, caption in to_show(len(video.frames), record["mIoU"]):
        frame, mask, truth = read_frame(video.frames[i]), read_mask(mask_path(savepath, video, i)), video.truth(i)
        errors = error_map(frame, mask, np.where(truth < len(CLASSES), truth, mask))
        pictures.append(Picture(caption, overlay(frame, mask), errors))
    scores = {"mean of the frames' mIoU": float(np.mean(known))} if known else {}
    return Section(video.name, {"mIoU": record["mIoU"]}, first=1, pictures=pictures, scores=scores)

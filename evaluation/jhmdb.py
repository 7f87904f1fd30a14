"""JHMDB and BADJA: PCK of propagated joints, result files and report (docs/method.md §9)."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from dataloaders.frames import read_frame
from dataloaders.jhmdb import Video
from evaluation.report import REPORT, Section, write_report
from evaluation.report_facts import run_facts
from evaluation.report_pictures import Picture, to_show
from evaluation.run import Records
from functional.keypoints import correct_share, normalised_distances
from utils.errors import UserError, warn
from utils.palette import davis_palette
from utils.savepath import write_csv, write_json

RECORD_KEYS = ("joints",)  # required in the record of a video, besides "frames"
THRESHOLDS = (0.1, 0.2)


class Counted(NamedTuple):
    """Which frames and joints are scored; published evaluations differ in this."""

    with_first: bool  # count the first frame, whose joints are given
    all_joints: bool  # count lost joints as wrong
    box: str  # of which true joints: "found", those whose prediction is not lost, or "annotated", all

    def in_words(self) -> str:
        """Describe the settings for the line below the scores."""
        first = "counted" if self.with_first else "not counted"
        lost = "count as wrong" if self.all_joints else "do not count"
        box = "the box of a frame's true joints" + (" whose prediction is not lost" if self.box == "found" else "")
        return f"first frames {first}; joints that are lost {lost}; distances by 0.6 of the diagonal of {box}"


def distances_of(video: Video, found: np.ndarray, counted: Counted) -> np.ndarray:
    """Compute one video's normalised distances, [T, J] or without the first frame [T - 1, J], NaN where not scored.

    found: predicted (x, y) in pixels [T, J, 2]. A joint is scored if it is annotated in this frame and in frame 0; a
    lost joint only with `all_joints`.
    """
    scored = ~np.isnan(video.joints).any(2) & ~np.isnan(video.joints[0]).any(1)
    if not counted.all_joints:
        scored &= ~np.isnan(found).any(2)
    distances = normalised_distances(found, video.joints, box_of_all=counted.box == "annotated")
    distances = np.where(scored, distances, np.nan)
    return distances[0 if counted.with_first else 1 :]


def pool_distances(videos: list[Video], records: Records, counted: Counted) -> tuple[list[str], np.ndarray]:
    """Return the names of all joints, and the distances of all videos, [N, J], NaN where not scored.

    Animals of BADJA may have different numbers of joints. Warns of videos in which no joint is scored.
    """
    names = list(dict.fromkeys(name for video in videos for name in video.names))
    pooled, unscored = [], []
    for video in videos:
        distances = distances_of(video, np.array(records[video.name]["joints"], np.float64), counted)
        rows = np.full((len(distances), len(names)), np.nan)
        rows[:, [names.index(name) for name in video.names]] = distances
        pooled.append(rows)
        if np.isnan(rows).all():
            unscored.append(video.name)
    if 0 < len(unscored) < len(videos):
        warn(f"{', '.join(unscored)}: no joint counts (see --with_first and --all_joints); left out of the mean")
    return names, np.concatenate(pooled)


def write_results(
    savepath: Path, description: dict[str, Any], videos: list[Video], records: Records, counted: Counted
) -> list[list[dict[str, Any]]]:
    """Print and write PCK of each joint over all videos, and the mean over joints; return the report's tables."""
    names, distances = pool_distances(videos, records, counted)
    shares = {f"PCK@{threshold}": correct_share(distances, threshold) for threshold in THRESHOLDS}
    rows: list[dict[str, Any]] = [
        {"Joint": name} | {measure: float(share[j]) for measure, share in shares.items()}
        for j, name in enumerate(names)
        if not np.isnan(distances[:, j]).all()
    ]
    if not rows:
        raise UserError("--datapath: no joint counts in these videos; see --with_first and --all_joints")
    means = {measure: float(np.nanmean(share)) for measure, share in shares.items()}
    for row in [*rows, {"Joint": "mean", **means}]:
        print(f"{row['Joint']:<15} " + "  ".join(f"{measure} {100 * row[measure]:5.1f}" for measure in shares))
    print(counted.in_words())
    write_csv(savepath / "joints.csv", rows)
    results = {"arguments": description, "counted": counted._asdict(), "scores": means, "joints": rows}
    write_json(savepath / "results.json", results | {"sequences": records})
    return [[means], rows]


def write_joints_report(
    savepath: Path,
    description: dict[str, Any],
    videos: list[Video],
    records: Records,
    counted: Counted,
    tables: list[list[dict[str, Any]]],
) -> None:
    """Write SAVEPATH/report.html."""
    sections = (_section(video, np.array(records[video.name]["joints"], np.float64), counted) for video in videos)
    facts = run_facts(description, records) | {"PCK": counted.in_words()}
    write_report(savepath / REPORT, "Joints propagated from the first frame", tables, sections, facts)


def _section(video: Video, predicted: np.ndarray, counted: Counted) -> Section:
    """Return one video's section: PCK over time, worst frames with predicted (o) and true (+) joints."""
    distances, measure = distances_of(video, predicted, counted), f"PCK@{THRESHOLDS[-1]}"
    shares, first = correct_share(distances.T, THRESHOLDS[-1]), len(video.frames) - len(distances)
    pictures = [
        Picture(caption, draw_joints(read_frame(video.frames[i]), predicted[i], video.joints[i]))
        for i, caption in to_show(len(video.frames), shares, first)
    ]
    values = [None if np.isnan(share) else float(share) for share in shares]
    of_joints = correct_share(distances, THRESHOLDS[-1])
    scores = {} if np.isnan(of_joints).all() else {measure: float(np.nanmean(of_joints))}
    return Section(video.name, {measure: values}, first=first, pictures=pictures, scores=scores)


def draw_joints(frame: np.ndarray, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Draw circles at the predicted joints and crosses at the true ones, [J, 2]: BGR [H, W, 3] -> RGB uint8."""
    picture = np.ascontiguousarray(frame[..., ::-1])
    for joint, (predicted_xy, true_xy) in enumerate(zip(found, true, strict=True)):
        colour = davis_palette()[joint + 1].tolist()
        if not np.isnan(true_xy).any():
            cv2.drawMarker(picture, true_xy.round().astype(int).tolist(), colour, cv2.MARKER_CROSS, 11, 2)
        if not np.isnan(predicted_xy).any():
            cv2.circle(picture, predicted_xy.round().astype(int).tolist(), 5, colour, 2)
    return picture

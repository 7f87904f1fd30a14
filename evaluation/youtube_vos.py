"""YouTube-VOS: the submission, scores if ground truth exists, and the report (docs/method.md §9)."""

from pathlib import Path
from typing import Any

import numpy as np

from dataloaders.frames import read_frame, require_size
from dataloaders.masks import read_mask
from dataloaders.names import some
from dataloaders.youtube_vos import Video, read_meta
from evaluation.davis import Scores, add_scores
from evaluation.report import REPORT, Section, write_report
from evaluation.report_facts import run_facts
from evaluation.report_pictures import Picture, error_map, to_show
from evaluation.run import Records, print_vanished
from evaluation.submission import pack, validate
from functional.metrics import MEASURES
from utils.errors import UserError, warn
from utils.savepath import write_json
from utils.visualize import overlay

RECORD_KEYS = ("objects",)  # required in the record of a video, besides "frames"
GROUPS = 4  # J and F of seen and unseen categories
SHOWN = 10  # objects that are named where some were never followed


def mask_path(savepath: Path, video: Video, frame: str) -> Path:
    """Return the output path of a frame's mask."""
    return savepath / "Annotations" / video.name / f"{frame}.png"


def empty_scores(video: Video) -> Scores:
    """Return empty lists of J and F for each object of a video."""
    return {obj.number: {measure: [] for measure in MEASURES} for obj in video.objects}


def score_frame(scores: Scores, video: Video, frame: str, mask: np.ndarray) -> None:
    """Append J and F of the objects that are scored in a frame: expected but not given; mask: ids [H, W]."""
    truth = video.truth(frame)
    require_size(video.masks / f"{frame}.png", truth, mask.shape)
    add_scores(scores, mask, truth, [obj.number for obj in video.objects if frame in obj.frames[1:]])


def write_results(
    savepath: Path, description: dict[str, Any], videos: list[Video], records: Records, seen: Path, *, named: bool
) -> dict[str, float]:
    """Write and check submission.zip; write results.json; print and return the scores, {} without ground truth.

    seen: meta.json of the training set, whose categories count as seen; named: whether the user passed --seen.
    """
    archive = pack(savepath, videos)
    validate(archive, videos)
    print(f"{archive}: {_state(videos)}; upload it to the evaluation server")
    results, scores = {"arguments": description, "sequences": records}, {}
    if scored := scored_videos(videos):
        if not all(records[video.name]["objects"] for video in scored):
            raise UserError(f"{savepath}: was propagated without these true masks; pass --overwrite")
        results["scores"] = scores = youtube_vos_measure(scored, records, seen_categories(seen, named=named))
        for name, value in scores.items():
            print(f"{name:<9} {100 * value:.1f}")
    print_vanished(records)
    write_json(savepath / "results.json", results)
    return scores


def _state(videos: list[Video]) -> str:
    """Describe the submission: whether all objects were followed, or which ones were not."""
    lost = [f"{video.name} {number}" for video in videos for absent in video.absent().values() for number in absent]
    if not lost:
        return "complete"
    named, total = some(lost, SHOWN), sum(len(video.objects) for video in videos)
    return (
        f"has all masks, but {len(lost)} of {total} objects are not followed, as their first masks lack them: {named}"
    )


def scored_videos(videos: list[Video]) -> list[Video]:
    """Return the videos with all true masks; warn of the other ones, if any, and of objects that are not scored."""
    scored = [video for video in videos if video.scored and any(obj.frames[1:] for obj in video.objects)]
    if scored and (unscored := [video.name for video in videos if video not in scored]):
        warn(f"{', '.join(unscored)}: without a true mask of each frame that meta.json lists; left out of the mean")
    if given := [f"{video.name}_{obj.number}" for video in scored for obj in video.objects if not obj.frames[1:]]:
        warn(f"{', '.join(given)}: listed in the frame of the given mask only; left out of the mean")
    return scored


def write_youtube_vos_report(
    savepath: Path, description: dict[str, Any], videos: list[Video], records: Records, scores: dict[str, float]
) -> None:
    """Write SAVEPATH/report.html."""
    sections = (_section(video, savepath, records[video.name]) for video in videos)
    tables = [[scores]] if scores else []
    write_report(
        savepath / REPORT, "YouTube-VOS: objects propagated", tables, sections, run_facts(description, records)
    )


def _section(video: Video, savepath: Path, record: dict[str, Any]) -> Section:
    """Return one video's report section: scores over the expected frames, and worst frames if there are scores."""
    wanted = [frame for frame in video.frames if frame.stem in video.wanted]
    curves = _score_curves(video, record, [frame.stem for frame in wanted])
    means = np.ma.masked_invalid(np.array(list(curves.values()), np.float64)).mean(0).filled(np.nan) if curves else ()
    pictures = [
        _picture(video, wanted[i], mask_path(savepath, video, wanted[i].stem), caption)
        for i, caption in to_show(len(wanted), means, first=0)
    ]
    scores = youtube_vos_measure([video], {video.name: record}, None) if curves else {}
    if scores:
        scores = {"J&F": sum(scores.values()) / len(scores), **scores}
    return Section(video.name, curves, pictures=pictures, scores=scores)


def _picture(video: Video, path: Path, mask_file: Path, caption: str) -> Picture:
    frame, mask = read_frame(path), read_mask(mask_file)
    if not video.scored:
        return Picture(caption, overlay(frame, mask))
    truth, objects = video.truth(path.stem), [obj.number for obj in video.objects]
    return Picture(caption, overlay(frame, mask), error_map(frame, mask, np.where(np.isin(truth, objects), truth, 0)))


def _score_curves(video: Video, record: dict[str, Any], wanted: list[str]) -> dict[str, list[float | None]]:
    """Return the curves of J and F of each object over the expected frames, None where it is not scored."""
    curves = {}
    for obj in video.objects:
        for measure, values in record["objects"].get(str(obj.number), {}).items():
            scores = dict(zip(obj.frames[1:], values, strict=True))
            if scores:
                curves[f"{measure} of {obj.number}"] = [scores.get(frame) for frame in wanted]
    return curves


def seen_categories(meta: Path, *, named: bool) -> set[str] | None:
    """Read the categories of the training set; None, with a warning, if the default meta.json does not exist."""
    if not named and not meta.exists():
        warn(f"{meta}: no such file: seen and unseen categories are not distinguished; pass --seen")
        return None
    return {obj.category for objects in read_meta(meta).values() for obj in objects}


def youtube_vos_measure(videos: list[Video], records: Records, seen: set[str] | None) -> dict[str, float]:
    """Compute J and F of seen and unseen categories, means over objects of means over frames, and G, their mean."""
    means: dict[str, list[float]] = {}
    for video in videos:
        for obj in video.objects:
            kind = "" if seen is None else " seen" if obj.category in seen else " unseen"
            for measure, values in records[video.name]["objects"][str(obj.number)].items():
                if values:
                    means.setdefault(measure + kind, []).append(float(np.mean(values)))
    scores = {name: float(np.mean(values)) for name, values in sorted(means.items())}
    return {"G": float(np.mean(list(scores.values()))), **scores} if len(scores) == GROUPS else scores

"""DAVIS: scores of propagated or existing masks, result files and report (docs/method.md §9)."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataloaders.davis import Sequence, list_predictions, read_ids
from dataloaders.frames import read_frame, require_size
from evaluation.report import REPORT, Section, write_report
from evaluation.report_facts import run_facts
from evaluation.report_pictures import Picture, error_map, to_show
from evaluation.run import Records, print_vanished
from functional.metrics import (
    MEASURES,
    ObjectScores,
    davis_measure,
    frame_scores,
    legacy_measure,
    object_summary,
    present_ids,
)
from utils.device import versions
from utils.errors import UserError, warn
from utils.savepath import write_csv, write_json
from utils.visualize import overlay

RECORD_KEYS = ("objects",)  # required in the record of a sequence, besides "frames"

Scores = dict[int, dict[str, list[float | None]]]  # object -> `ObjectScores`


def warn_of_unscored(sequences: list[Sequence]) -> None:
    """Warn of the sequences that cannot be scored, if others can be."""
    if any(sequence.scored for sequence in sequences):
        for sequence in sequences:
            if sequence.unscored:
                warn(f"{sequence.name}: {sequence.unscored}; it is left out of the mean")


def find_predictions(sequences: list[Sequence], folder: Path) -> list[list[Path]]:
    """List the predicted masks of each sequence as `list_predictions`; UserError if there is no sequence to score."""
    if not sequences:
        raise UserError("--predictions: none of the sequences has three frames and a true mask of every frame")
    masks = [list_predictions(folder / sequence.name, sequence) for sequence in sequences]
    if same := [sequence.name for sequence in sequences if (folder / sequence.name).samefile(sequence.masks[0].parent)]:
        warn(f"--predictions {folder}: has the true masks of {', '.join(same)} themselves, whose scores are 100")
    pairs = zip(sequences, masks, strict=True)
    if short := [sequence.name for sequence, found in pairs if len(found) < len(sequence.frames)]:
        warn(f"{folder}: no mask of the last frame of {', '.join(short)}, which only the legacy measure scores")
    return masks


def score_all(sequences: list[Sequence], masks: list[list[Path]]) -> Records:
    """Score existing masks (`find_predictions`), sequences in parallel; return the records by sequence name."""
    try:
        pool = ProcessPoolExecutor()
    except (OSError, ImportError, NotImplementedError) as error:  # /dev/shm is missing or cannot be written to
        warn(f"--predictions: scored in one process, since others cannot be started ({error})")
        pool = None
    try:
        with pool or nullcontext():
            scored = (pool.map if pool else map)(score_one, sequences, masks)
            records = list(tqdm(scored, total=len(sequences), unit="sequence"))
    except BrokenProcessPool as error:
        raise UserError("--predictions: a scoring process was killed, probably out of memory; free memory") from error
    return {sequence.name: record for sequence, record in zip(sequences, records, strict=True)}


def score_one(sequence: Sequence, masks: list[Path]) -> dict[str, Any]:
    """Score the existing masks of one sequence, of every frame or of all but the last; return its record."""
    first_mask = sequence.first_mask()
    scorer = Scorer(sequence, first_mask)
    for index, path in enumerate(masks[1:], 1):
        mask = read_ids(path, binary=sequence.binary)
        require_size(path, mask, first_mask.shape)
        scorer.score(index, mask)
    if len(masks) < len(sequence.frames):
        scorer.skip()
    return {"frames": len(sequence.frames), **scorer.record()}


class Scorer:
    """Scores the masks of one sequence, frame after frame."""

    def __init__(self, sequence: Sequence, first_mask: np.ndarray) -> None:
        self._sequence, self._size = sequence, first_mask.shape
        self._scores: Scores = {number: {measure: [] for measure in MEASURES} for number in present_ids(first_mask)}
        self._met: set[int] = set()  # ids in the other masks

    def score(self, index: int, mask: np.ndarray) -> None:
        """Score the mask of a frame, ids [H, W]; UserError if the true one does not have the size of the frames."""
        truth = self._sequence.read_mask(index)
        require_size(self._sequence.masks[index], truth, self._size)
        add_scores(self._scores, mask, truth, self._scores)
        self._met.update(present_ids(mask), present_ids(truth))

    def skip(self) -> None:
        """Leave the last frame without scores."""
        for values in self._scores.values():
            for measure in MEASURES:
                values[measure].append(None)

    def record(self) -> dict[str, Any]:
        """Return J and F of each object, none if the sequence is not scored, and the ids that the first mask lacks."""
        scores = self._scores if self._sequence.scored else {}
        return {"objects": scores, "unknown": sorted(self._met - self._scores.keys())}


def add_scores(scores: Scores, mask: np.ndarray, truth: np.ndarray, objects: Iterable[int]) -> None:
    """Append J and F of these objects in one mask, ids [H, W], to `scores`."""
    for number, values in frame_scores(mask, truth, objects).items():
        for measure, value in values.items():
            scores[number][measure].append(value)


def running_score(records: Records) -> str:
    """Format J&F of the sequences scored so far, for the progress bar."""
    objects = all_objects(records)
    return f"J&F {100 * davis_measure(objects)['J&F-Mean']:.1f}" if objects else ""


def all_objects(records: Records) -> list[ObjectScores]:
    """List the scores of all objects of all sequences."""
    return [scores for record in records.values() for scores in record["objects"].values()]


def write_results(savepath: Path, subset: str, description: dict, records: Records) -> None:
    """Write the official tool's two CSV files and results.json; print the scores."""
    objects = all_objects(records)
    for name, record in records.items():
        if unknown := record.get("unknown"):
            warn(f"{name}: object {', '.join(map(str, unknown))} is not in its first mask and not scored")
    results = {"arguments": description, "versions": versions(), "sequences": records}
    propagated = [record for record in records.values() if "seconds" in record]
    if propagated:
        results["peak_memory"] = max(record["peak_memory"] for record in propagated)
        frames = sum(record["frames"] for record in propagated)
        results["seconds_per_frame"] = sum(record["seconds"] for record in propagated) / frames
    if objects:
        rows, official, legacy = object_rows(records), davis_measure(objects), legacy_measure(objects)
        results |= {"official": official, "legacy": legacy}
        write_csv(savepath / f"global_results-{subset}.csv", [official])
        write_csv(savepath / f"per-sequence_results-{subset}.csv", rows)
        print_scores(rows, official, legacy)
    else:
        print(f"not scored (no ground truth, or fewer than three frames): masks are in {savepath / 'benchmark'}")
    print_vanished(records)
    write_json(savepath / "results.json", results)


def write_davis_report(
    savepath: Path, description: dict, sequences: list[Sequence], masks: list[list[Path]], records: Records
) -> None:
    """Write SAVEPATH/report.html; masks: the predicted ones, one file per frame."""
    objects = all_objects(records)
    summary = [{"DAVIS": "all objects", **davis_measure(objects)}] if objects else []
    sections = (
        davis_section(sequence, paths, records[sequence.name], savepath)
        for sequence, paths in zip(sequences, masks, strict=True)
    )
    tables, facts = (summary, object_rows(records)), run_facts(description, records)
    write_report(savepath / REPORT, "DAVIS: masks propagated from the first frame", tables, sections, facts)


def davis_section(sequence: Sequence, masks: list[Path], record: dict[str, Any], savepath: Path) -> Section:
    """Return one sequence's report section: scores over time, and worst frames with the errors of their masks."""
    objects, video = record["objects"], Path("overlay") / f"{sequence.name}.mp4"
    curves = {f"{m} of {number}": scores[m] for number, scores in objects.items() for m in MEASURES}
    means = np.mean(np.array(list(curves.values()), np.float64), 0) if curves else []
    measure = davis_measure(list(objects.values())) if objects else {}
    return Section(
        sequence.name,
        curves,
        first=1,
        pictures=[
            _picture(sequence, masks[i], i, list(map(int, objects)), caption)
            for i, caption in to_show(len(masks), means)
        ],
        scores={name: measure[f"{name}-Mean"] for name in ("J&F", *MEASURES) if measure},
        video=video.as_posix() if (savepath / video).exists() else "",
    )


def _picture(sequence: Sequence, path: Path, index: int, objects: list[int], caption: str) -> Picture:
    """Return a frame with its mask, and the errors of these objects, if there are any."""
    frame, mask = read_frame(sequence.frames[index]), read_ids(path, binary=sequence.binary)
    if not objects:
        return Picture(caption, overlay(frame, mask))
    predicted, truth = (np.where(np.isin(ids, objects), ids, 0) for ids in (mask, sequence.read_mask(index)))
    return Picture(caption, overlay(frame, mask), error_map(frame, predicted, truth))


def object_rows(records: Records) -> list[dict]:
    """Return one row for each object, as in the official tool's table."""
    return [
        {"Sequence": f"{name}_{number}"} | {f"{m}-Mean": object_summary(scores)[f"{m}-Mean"] for m in MEASURES}
        for name, record in records.items()
        for number, scores in record["objects"].items()
    ]


def print_scores(rows: list[dict], official: dict[str, float], legacy: dict[str, float]) -> None:
    """Print the scores in percent: each object, then both measures."""
    for row in rows:
        print(f"{row['Sequence']:<24} J {100 * row['J-Mean']:5.1f}  F {100 * row['F-Mean']:5.1f}")
    for name, measure in (("DAVIS (official)", official), ("legacy (pooled)", legacy)):
        figures = "  ".join(f"{key.removesuffix('-Mean')} {100 * value:.1f}" for key, value in measure.items())
        print(f"{name:<24} {figures}")

"""Scores of DAVIS masks: those a run has just made, or those of a folder; tables and files of them."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataloaders.davis import Sequence, list_predictions, read_ids
from dataloaders.video import read_frame, require_size
from functional.metrics import MEASURES, ObjectScores, davis_measure, frame_scores, legacy_measure, object_summary
from utils.device import versions
from utils.errors import UserError
from utils.report import REPORT, Picture, Section, to_show, write_report
from utils.savepath import write_csv, write_json
from utils.visualize import overlay

# Of one sequence: "frames", "seconds" of propagation and "seconds_in_all", "peak_memory", "objects": id -> ObjectScores
Record = dict[str, Any]


def find_predictions(sequences: list[Sequence], folder: Path) -> list[list[Path]]:
    """The predicted masks of each sequence, one file per frame; UserError if any is missing or cannot be scored."""
    unscored = [sequence.name for sequence in sequences if not sequence.scored]
    if unscored:
        raise UserError(f"--predictions: {', '.join(unscored)} cannot be scored without a true mask for every frame")
    return [list_predictions(folder / sequence.name, sequence) for sequence in sequences]


def score_all(sequences: list[Sequence], masks: list[list[Path]]) -> dict[str, Record]:
    """Score masks that exist already (`find_predictions`), the sequences in parallel; records by name."""
    try:
        with ProcessPoolExecutor() as pool:
            records = list(tqdm(pool.map(score_one, sequences, masks), total=len(sequences), unit="sequence"))
    except BrokenProcessPool as error:
        raise UserError(
            "--predictions: a process that scores was killed, mostly for lack of memory; free some"
        ) from error
    return {sequence.name: record for sequence, record in zip(sequences, records, strict=True)}


def score_one(sequence: Sequence, masks: list[Path]) -> Record:
    """Score the masks of one sequence, one file per frame."""
    scores = {int(number): {"J": [], "F": []} for number in np.setdiff1d(sequence.first_mask(), 0)}
    for index in range(1, len(masks)):
        mask = read_ids(masks[index], binary=sequence.binary)
        truth = sequence.read_mask(index)
        require_size(masks[index], mask, truth.shape)
        if unknown := np.setdiff1d(mask, [0, *scores]).tolist():
            raise UserError(f"{masks[index]}: holds object {unknown[0]}, which the first mask of {sequence.name} lacks")
        add_scores(scores, mask, truth)
    return {"frames": len(sequence.frames), "objects": scores}


def add_scores(scores: dict[int, dict[str, list[float]]], mask: np.ndarray, truth: np.ndarray) -> None:
    """Append the J and F of one frame's mask [H, W] to those of each object."""
    for number, values in frame_scores(mask, truth, scores).items():
        for measure, value in values.items():
            scores[number][measure].append(value)


def all_objects(records: dict[str, Record]) -> list[ObjectScores]:
    """The scores of all objects of all sequences."""
    return [scores for record in records.values() for scores in record["objects"].values()]


def write_results(savepath: Path, subset: str, description: dict, records: dict[str, Record]) -> None:
    """The official tool's two CSV files, and results.json with everything; prints the scores."""
    objects = all_objects(records)
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
        print(f"no ground truth to score against: masks are in {savepath / 'benchmark'}")
    write_json(savepath / "results.json", results)


def write_davis_report(
    savepath: Path, sequences: list[Sequence], masks: list[list[Path]], records: dict[str, Record]
) -> None:
    """SAVEPATH/report.html; masks: the predicted ones, one file per frame."""
    objects = all_objects(records)
    summary = [{"DAVIS": "all objects", **davis_measure(objects)}] if objects else []
    sections = (davis_section(*one, records[one[0].name]) for one in zip(sequences, masks, strict=True))
    tables = summary, object_rows(records)
    write_report(savepath / REPORT, "DAVIS: masks propagated from the first frame", tables, sections)


def davis_section(sequence: Sequence, masks: list[Path], record: Record) -> Section:
    """One sequence's scores over time, and its worst frames."""
    curves = {f"{m} of {number}": scores[m] for number, scores in record["objects"].items() for m in MEASURES}
    means = np.mean(list(curves.values()), 0) if curves else []
    pictures = [
        Picture(caption, overlay(read_frame(sequence.frames[i]), read_ids(masks[i], binary=sequence.binary)))
        for i, caption in to_show(len(masks), means)
    ]
    return Section(sequence.name, curves, first=1, pictures=pictures)


def object_rows(records: dict[str, Record]) -> list[dict]:
    """One row for each object, as in the official tool's table."""
    return [
        {"Sequence": f"{name}_{number}"} | {f"{m}-Mean": object_summary(scores)[f"{m}-Mean"] for m in MEASURES}
        for name, record in records.items()
        for number, scores in record["objects"].items()
    ]


def print_scores(rows: list[dict], official: dict[str, float], legacy: dict[str, float]) -> None:
    """The scores in percent: objects, then both measures."""
    for row in rows:
        print(f"{row['Sequence']:<24} J {100 * row['J-Mean']:5.1f}  F {100 * row['F-Mean']:5.1f}")
    for name, measure in (("DAVIS (official)", official), ("legacy (pooled)", legacy)):
        figures = "  ".join(f"{key.removesuffix('-Mean')} {100 * value:.1f}" for key, value in measure.items())
        print(f"{name:<24} {figures}")

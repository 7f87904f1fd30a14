"""DAVIS-2016 and DAVIS-2017: propagate first-frame masks through the videos, write the masks and score them."""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dataloaders.davis import Sequence, list_predictions, load_sequences, read_ids, require_size
from evaluation import load_propagator
from functional.color import normalised_lab
from functional.correlation import BACKENDS
from functional.metrics import MEASURES, ObjectScores, davis_measure, frame_scores, legacy_measure, object_summary
from models.propagation import REFERENCE_POLICIES, Propagator
from utils.checkpoint import sha256
from utils.device import describe_device, peak_memory, select_device, versions
from utils.distributed import World, join_world
from utils.errors import UserError, run
from utils.options import ArgumentParser, add_model_options, add_savepath_options, comma_separated, json_values
from utils.savepath import open_savepath, read_json, write_csv, write_json
from utils.visualize import VideoWriter, overlay, write_mask

OUTPUTS = ("benchmark", "sequences", "overlay", "global_results-*.csv", "per-sequence_results-*.csv", "results.json")
# Of one sequence: "frames", "seconds" of propagation and "seconds_in_all", "peak_memory", "objects": id -> ObjectScores
Record = dict[str, Any]


def parse_arguments() -> argparse.Namespace:
    """The command line; those options of the reference that evaluation has keep their names and defaults."""
    parser = ArgumentParser(description=__doc__)
    add_model_options(parser, backends=BACKENDS, policies=REFERENCE_POLICIES)
    parser.add_argument("--datapath", type=Path, default=Path("data/2017/trainval"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list of sequences, ImageSets/YEAR/SET.txt")
    parser.add_argument("--sequences", type=comma_separated, metavar="A,B", help="only these sequences of the list")
    parser.add_argument("--overlay", action="store_true", help="also write a video of each sequence under its masks")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="only score the masks DIR/SEQUENCE/00000.png")
    add_savepath_options(parser, default="results")
    arguments = parser.parse_args()
    if arguments.predictions and arguments.overlay:
        parser.error("--overlay draws what is propagated and does not go with --predictions")
    if arguments.predictions and arguments.predictions.resolve().is_relative_to(arguments.savepath.resolve()):
        parser.error(f"--savepath {arguments.savepath}: holds the --predictions to score; name another folder")
    return arguments


def main() -> None:
    """Propagate (or take the masks of --predictions), score, summarise."""
    arguments = parse_arguments()
    sequences = load_sequences(arguments.datapath, arguments.year, arguments.set, arguments.sequences)
    if arguments.predictions is None:
        with join_world(select_device(arguments.device)) as world:
            propagate(arguments, sequences, world)
    else:
        masks = find_predictions(sequences, arguments.predictions)
        without = {"resume", "compact", "usemomen", "ref", "device", "backend", "overlay", "savepath", "overwrite"}
        description = json_values(vars(arguments), without=without)
        with open_savepath(arguments.savepath, description, outputs=OUTPUTS, overwrite=arguments.overwrite):
            write_results(arguments.savepath, arguments.set, description, score_all(sequences, masks))


def propagate(arguments: argparse.Namespace, sequences: list[Sequence], world: World) -> None:
    """Propagate and score, each process its share of the sequences; the leading one summarises."""
    with world.agreed():
        start = load_propagator(
            arguments.resume,
            world.device,
            usemomen=arguments.usemomen,
            compact=arguments.compact,
            policy=arguments.ref,
            backend=arguments.backend,
        )
    description = json_values(vars(arguments), without={"predictions", "savepath", "overwrite"}) | {
        "checkpoint_sha256": sha256(arguments.resume),
        "device": describe_device(world.device),
    }
    held = open_savepath(arguments.savepath, description, outputs=OUTPUTS, overwrite=arguments.overwrite)
    share = [sequences[i] for i in world.share([len(sequence.frames) for sequence in sequences])]
    with world.led(held):
        with world.agreed():
            how = {"device": world.device, "draw": arguments.overlay, "show": world.leads}
            propagate_share(share, start, arguments.savepath, **how)
        if world.leads:
            records = {sequence.name: read_record(arguments.savepath, sequence) for sequence in sequences}
            write_results(arguments.savepath, arguments.set, description, records)


def propagate_share(
    sequences: list[Sequence],
    start: Callable[[], Propagator],
    savepath: Path,
    *,
    device: torch.device,
    draw: bool,
    show: bool,
) -> None:
    """Propagate those of these sequences that an earlier run has not finished, and record each."""
    records: dict[str, Record] = {}
    with tqdm(total=sum(len(sequence.frames) for sequence in sequences), unit="frame", disable=not show) as bar:
        for sequence in sequences:
            bar.set_description(sequence.name)
            finished = record_path(savepath, sequence)
            if finished.exists():
                bar.update(len(sequence.frames))
            else:
                record = propagate_one(sequence, start(), savepath, device=device, draw=draw, bar=bar)
                finished.parent.mkdir(exist_ok=True)
                write_json(finished, record)
            records[sequence.name] = read_record(savepath, sequence)
            if objects := all_objects(records):
                bar.set_postfix_str(f"J&F {100 * davis_measure(objects)['J&F-Mean']:.1f}")


def record_path(savepath: Path, sequence: Sequence) -> Path:
    """Where a finished sequence's record is."""
    return savepath / "sequences" / f"{sequence.name}.json"


def read_record(savepath: Path, sequence: Sequence) -> Record:
    """A finished sequence's record; UserError if it is damaged."""
    path = record_path(savepath, sequence)
    record = read_json(path)
    if record.keys() != {"frames", "seconds", "seconds_in_all", "peak_memory", "objects"}:
        raise UserError(f"{path}: damaged (not a sequence's record); pass --overwrite to start anew")
    return record


def propagate_one(
    sequence: Sequence, propagator: Propagator, savepath: Path, *, device: torch.device, draw: bool, bar: tqdm
) -> Record:
    """Propagate one sequence; its masks go to SAVEPATH/benchmark, its video, if drawn, to SAVEPATH/overlay."""
    first_mask = sequence.first_mask()
    began = time.perf_counter()
    ids = np.union1d(0, first_mask)  # label channel -> id in the files
    scores, seconds = {int(number): {"J": [], "F": []} for number in ids[1:]}, 0.0
    masks = savepath / "benchmark" / sequence.name
    masks.mkdir(parents=True, exist_ok=True)
    with VideoWriter(savepath / "overlay" / f"{sequence.name}.mp4") if draw else nullcontext() as video:
        for index, frame in enumerate(sequence.read_frames()):
            labels = None if index else torch.from_numpy(np.searchsorted(ids, first_mask))
            started = time.perf_counter()
            prediction = propagator.step(normalised_lab(frame).to(device), labels)
            mask = ids[prediction.mask.cpu().numpy()].astype(np.uint8)
            seconds += time.perf_counter() - started
            write_mask(masks / f"{sequence.frames[index].stem}.png", mask)
            if video:
                video.write(overlay(frame, mask))
            if index and sequence.scored:
                truth = sequence.read_mask(index)
                require_size(sequence.masks[index], truth, mask.shape)
                add_scores(scores, mask, truth)
            bar.update()
    return {
        "frames": len(sequence.frames),
        "seconds": seconds,
        "seconds_in_all": time.perf_counter() - began,
        "peak_memory": peak_memory(device),
        "objects": scores if sequence.scored else {},
    }


def find_predictions(sequences: list[Sequence], folder: Path) -> list[list[Path]]:
    """The predicted masks of each sequence, one file per frame; UserError if any is missing or cannot be scored."""
    unscored = [sequence.name for sequence in sequences if not sequence.scored]
    if unscored:
        raise UserError(f"--predictions: {', '.join(unscored)} cannot be scored without a true mask for every frame")
    return [list_predictions(folder / sequence.name, sequence) for sequence in sequences]


def score_all(sequences: list[Sequence], masks: list[list[Path]]) -> dict[str, Record]:
    """Score masks that exist already (`find_predictions`), the sequences in parallel; records by name."""
    with ProcessPoolExecutor() as pool:
        records = list(tqdm(pool.map(score_one, sequences, masks), total=len(sequences), unit="sequence"))
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


if __name__ == "__main__":
    run(main)

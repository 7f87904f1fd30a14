"""DAVIS-2016 and DAVIS-2017: propagate first-frame masks through the videos, write the masks and score them."""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dataloaders.davis import Sequence, load_sequences, require_size
from evaluation import load_propagator
from functional.color import normalised_lab
from functional.correlation import BACKENDS
from functional.metrics import davis_measure
from models.propagation import Propagator
from models.protocol import REFERENCE_POLICIES
from scoring import Record, add_scores, all_objects, find_predictions, score_all, write_results
from utils.beside import in_background, read_ahead
from utils.checkpoint import sha256
from utils.device import describe_device, peak_memory, select_device
from utils.distributed import World, join_world
from utils.errors import UserError, run
from utils.options import ArgumentParser, add_model_options, add_savepath_options, comma_separated, json_values
from utils.savepath import open_savepath, read_json, write_json
from utils.visualize import VideoWriter, overlay, write_mask

OUTPUTS = ("benchmark", "sequences", "overlay", "global_results-*.csv", "per-sequence_results-*.csv", "results.json")


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
        with join_world(select_device(arguments.device, tf32=arguments.tf32)) as world:
            propagate(arguments, sequences, world)
    else:
        masks = find_predictions(sequences, arguments.predictions)
        without = {"resume", "compact", "usemomen", "ref", "device", "backend", "amp", "tf32", "overlay"}
        without |= {"savepath", "overwrite"}
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
            amp=arguments.amp,
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

        def put_away(index: int, frame: np.ndarray, mask: np.ndarray) -> None:
            write_mask(masks / f"{sequence.frames[index].stem}.png", mask)
            if video:
                video.write(overlay(frame, mask))
            if index and sequence.scored:
                truth = sequence.read_mask(index)
                require_size(sequence.masks[index], truth, mask.shape)
                add_scores(scores, mask, truth)

        with in_background() as beside:
            frames = ((frame, normalised_lab(frame).to(device)) for frame in sequence.read_frames())
            for index, (frame, lab) in enumerate(read_ahead(frames)):
                labels = None if index else torch.from_numpy(np.searchsorted(ids, first_mask))
                started = time.perf_counter()
                mask = ids[propagator.step(lab, labels).mask.cpu().numpy()].astype(np.uint8)
                seconds += time.perf_counter() - started
                beside(put_away, index, frame, mask)
                bar.update()
    return {
        "frames": len(sequence.frames),
        "seconds": seconds,
        "seconds_in_all": time.perf_counter() - began,
        "peak_memory": peak_memory(device),
        "objects": scores if sequence.scored else {},
    }


if __name__ == "__main__":
    run(main)

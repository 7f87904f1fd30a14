"""DAVIS-2016 and DAVIS-2017: propagate first-frame masks through the videos, write the masks and score them."""

import argparse
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataloaders.davis import Sequence, load_sequences
from dataloaders.video import require_size
from encoders import Features
from evaluation import Record, add_evaluation_options, evaluate, masks_of
from functional.metrics import davis_measure
from scoring import add_scores, all_objects, find_predictions, score_all, write_davis_report, write_results
from utils.beside import in_background
from utils.device import peak_memory
from utils.errors import run
from utils.options import ArgumentParser, add_savepath_options, comma_separated, json_values
from utils.report import REPORT
from utils.savepath import open_savepath
from utils.visualize import VideoWriter, overlay, write_mask

OUTPUTS = (
    "benchmark",
    "sequences",
    "overlay",
    "global_results-*.csv",
    "per-sequence_results-*.csv",
    "results.json",
    REPORT,
)


def parse_arguments() -> argparse.Namespace:
    """The command line; those options of the reference that evaluation has keep their names and defaults."""
    parser = ArgumentParser(description=__doc__)
    add_evaluation_options(parser)
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
        one = partial(propagate_one, savepath=arguments.savepath, draw=arguments.overlay)
        finish = partial(summarise, arguments, sequences, benchmark_masks(arguments.savepath, sequences))
        evaluate(
            sequences,
            one,
            finish,
            arguments,
            outputs=OUTPUTS,
            holds=("objects",),
            unlike={"predictions", "report"},
            progress=show_score,
        )
    else:
        masks = find_predictions(sequences, arguments.predictions)
        without = {"resume", "compact", "usemomen", "ref", "device", "backend", "amp", "tf32", "overlay"}
        without |= {"encoder", "protocol", "report", "savepath", "overwrite"}
        description = json_values(vars(arguments), without=without)
        with open_savepath(arguments.savepath, description, outputs=OUTPUTS, overwrite=arguments.overwrite):
            summarise(arguments, sequences, masks, description, score_all(sequences, masks))


def benchmark_masks(savepath: Path, sequences: list[Sequence]) -> list[list[Path]]:
    """Where the masks of each sequence are written."""
    return [
        [savepath / "benchmark" / sequence.name / f"{frame.stem}.png" for frame in sequence.frames]
        for sequence in sequences
    ]


def summarise(
    arguments: argparse.Namespace,
    sequences: list[Sequence],
    masks: list[list[Path]],
    description: dict,
    records: dict[str, Record],
) -> None:
    """Tables, files and, if asked for, the report."""
    write_results(arguments.savepath, arguments.set, description, records)
    if arguments.report:
        write_davis_report(arguments.savepath, sequences, masks, records)


def propagate_one(sequence: Sequence, bar: tqdm, *, features: Features, savepath: Path, draw: bool) -> Record:
    """Propagate one sequence; its masks go to SAVEPATH/benchmark, its video, if drawn, to SAVEPATH/overlay."""
    first_mask = sequence.first_mask()
    began = time.perf_counter()
    scores = {int(number): {"J": [], "F": []} for number in np.setdiff1d(first_mask, 0)}
    masks, objects = savepath / "benchmark" / sequence.name, features.objects()
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
            found = masks_of(objects, sequence.read_frames(), lambda index, _: None if index else first_mask)
            for index, (frame, mask) in enumerate(found):
                beside(put_away, index, frame, mask)
                bar.update()
    return {
        "frames": len(sequence.frames),
        "seconds": objects.seconds,
        "seconds_in_all": time.perf_counter() - began,
        "peak_memory": peak_memory(features.device),
        "objects": scores if sequence.scored else {},
    }


def show_score(records: dict[str, Record]) -> str:
    """For the progress bar."""
    objects = all_objects(records)
    return f"J&F {100 * davis_measure(objects)['J&F-Mean']:.1f}" if objects else ""


if __name__ == "__main__":
    run(main)

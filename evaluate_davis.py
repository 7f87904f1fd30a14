"""DAVIS-2016 and DAVIS-2017: propagate first-frame masks through the videos, write the masks and score them."""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataloaders.davis import Sequence, load_sequences
from evaluation.davis import (
    RECORD_KEYS,
    Scorer,
    find_predictions,
    running_score,
    score_all,
    warn_of_unscored,
    write_davis_report,
    write_results,
)
from evaluation.features import Features, add_feature_options, feature_options
from evaluation.report import REPORT, add_report_option
from evaluation.run import open_run
from utils.background import in_background, read_ahead
from utils.device import peak_memory
from utils.errors import run_main
from utils.options import ArgumentParser, add_savepath_options, comma_separated, json_values
from utils.savepath import delete, open_savepath
from utils.video_writer import VideoWriter
from utils.visualize import write_mask

TABLES = ("global_results-*.csv", "per-sequence_results-*.csv", "results.json", REPORT)
OUTPUTS = ("sequences", "benchmark", "overlay", *TABLES)
SAME_RUN = ("datapath", "year", "set", "sequences", "overlay")  # with FeatureOptions, these identify a run


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; options of the reference implementation keep their names and defaults."""
    parser = ArgumentParser(description=__doc__)
    add_feature_options(parser)
    add_report_option(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/2017/trainval"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of the benchmark")
    parser.add_argument("--set", default="val", help="list of sequences, ImageSets/YEAR/SET.txt")
    parser.add_argument("--sequences", type=comma_separated, metavar="A,B", help="evaluate only these sequences")
    parser.add_argument("--overlay", action="store_true", help="also write a video of each sequence with its masks")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="score existing masks DIR/SEQUENCE/00000.png")
    add_savepath_options(parser, default="results")
    arguments = parser.parse_args()
    if arguments.predictions and arguments.overlay:
        parser.error("--overlay draws propagated masks; it cannot be combined with --predictions")
    if arguments.predictions and arguments.predictions.resolve().is_relative_to(arguments.savepath.resolve()):
        parser.error(f"--savepath {arguments.savepath}: contains the --predictions; choose another folder")
    return arguments


def main() -> None:
    """Propagate the masks or read those of --predictions, score them and write the results."""
    arguments = parse_arguments()
    sequences = load_sequences(arguments.datapath, arguments.year, arguments.set, arguments.sequences)
    same = {name: getattr(arguments, name) for name in SAME_RUN}
    if arguments.predictions:
        score_predictions(arguments, same, sequences)
        return
    options, savepath, overwrite = feature_options(arguments), arguments.savepath, arguments.overwrite
    with open_run(options, savepath, same, OUTPUTS, RECORD_KEYS, overwrite=overwrite) as run:
        for sequence in run.unfinished(sequences):
            run.keep(sequence, propagate_one(sequence, run.features, savepath, run.bar, draw=arguments.overlay))
            run.bar.set_postfix_str(running_score(run.finished))
        if run.is_main:
            warn_of_unscored(sequences)
            records = run.records(sequences)
            write_results(savepath, arguments.set, run.description, records)
            if arguments.report:
                masks = [mask_paths(savepath, sequence) for sequence in sequences]
                write_davis_report(savepath, run.description, sequences, masks, records)


def score_predictions(arguments: argparse.Namespace, same: dict[str, Any], sequences: list[Sequence]) -> None:
    """Score the masks of --predictions and write the results."""
    warn_of_unscored(sequences)
    sequences, savepath = [sequence for sequence in sequences if sequence.scored], arguments.savepath
    masks = find_predictions(sequences, arguments.predictions)
    description = json_values({**same, "predictions": arguments.predictions})
    with open_savepath(savepath, description, outputs=OUTPUTS, overwrite=arguments.overwrite):
        delete(savepath / REPORT)  # of an earlier run
        records = score_all(sequences, masks)
        write_results(savepath, arguments.set, description, records)
        if arguments.report:
            write_davis_report(savepath, description, sequences, masks, records)


def propagate_one(sequence: Sequence, features: Features, savepath: Path, bar: tqdm, *, draw: bool) -> dict[str, Any]:
    """Propagate one sequence; masks are written to SAVEPATH/benchmark, with `draw` a video to SAVEPATH/overlay.

    Returns its record: frames, seconds of propagation and in total, peak memory in bytes, vanished objects, and
    `Scorer.record`.
    """
    began, objects, first_mask = time.perf_counter(), features.objects(), sequence.first_mask()
    scorer, masks = Scorer(sequence, first_mask), mask_paths(savepath, sequence)
    video = VideoWriter(savepath / "overlay" / f"{sequence.name}.mp4") if draw else None
    with video or nullcontext(), in_background() as submit:
        frames = read_ahead((frame, objects.prepare(frame)) for frame in sequence.read_frames())
        for index, (frame, prepared) in enumerate(frames):
            mask = objects.step(prepared, None if index else first_mask)
            submit(write_mask, masks[index], mask)
            if video:
                submit(video.write_overlay, frame, mask)
            if index and sequence.scored:
                submit(scorer.score, index, mask)
            bar.update()
    return {
        "frames": len(sequence.frames),
        "seconds": objects.seconds,
        "seconds_in_all": time.perf_counter() - began,
        "peak_memory": peak_memory(features.device),
        "vanished": {number: sequence.frames[i].stem for number, i in objects.vanished.items()},
        **scorer.record(),
    }


def mask_paths(savepath: Path, sequence: Sequence) -> list[Path]:
    """Return the output paths of a sequence's masks, one for each frame."""
    return [savepath / "benchmark" / sequence.name / f"{frame.stem}.png" for frame in sequence.frames]


if __name__ == "__main__":
    run_main(main)

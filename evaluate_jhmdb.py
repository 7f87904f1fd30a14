"""JHMDB and BADJA: propagate the joints of the first frame as heat maps, and score them by PCK."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dataloaders.badja import load_badja
from dataloaders.frames import read_squeezed
from dataloaders.jhmdb import Video, load_jhmdb
from evaluation.features import Features, add_feature_options, feature_options
from evaluation.jhmdb import RECORD_KEYS, Counted, write_joints_report, write_results
from evaluation.report import REPORT, add_report_option
from evaluation.run import open_run
from functional.keypoints import heat_maps, joint_positions
from utils.background import read_ahead
from utils.errors import run_main
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated

OUTPUTS = ("sequences", "joints.csv", "results.json", REPORT)
SAME_RUN = ("datapath", "layout", "videos", "size")  # with FeatureOptions, these identify a run
LOADERS = {"jhmdb": load_jhmdb, "badja": load_badja}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    add_feature_options(parser)
    add_report_option(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/jhmdb"), help="folder of the data set")
    parser.add_argument("--layout", choices=LOADERS, default="jhmdb", help="data set in --datapath")
    parser.add_argument("--videos", type=comma_separated, metavar="A,B", help="evaluate only these videos")
    parser.add_argument("--size", type=at_least(16), default=320, help="frames are resized to SIZE x SIZE pixels")
    parser.add_argument("--with_first", action="store_true", help="also score the first frame, which is given")
    parser.add_argument("--all_joints", action="store_true", help="count lost joints as wrong instead of ignoring them")
    parser.add_argument(
        "--box",
        choices=("found", "annotated"),
        default="found",
        help="distances are relative to the box of the true joints whose prediction is not lost, or of all true joints",
    )
    add_savepath_options(parser, default="results/jhmdb")
    return parser.parse_args()


def main() -> None:
    """Propagate the joints and score them."""
    arguments = parse_arguments()
    videos = LOADERS[arguments.layout](arguments.datapath, arguments.videos)
    same = {name: getattr(arguments, name) for name in SAME_RUN}
    options, savepath, overwrite = feature_options(arguments), arguments.savepath, arguments.overwrite
    with open_run(options, savepath, same, OUTPUTS, RECORD_KEYS, overwrite=overwrite, soft=True) as run:
        for video in run.unfinished(videos):
            run.keep(video, propagate_one(video, run.features, run.bar, size=arguments.size))
        if run.is_main:
            records, counted = run.records(videos), Counted(arguments.with_first, arguments.all_joints, arguments.box)
            tables = write_results(savepath, run.description, videos, records, counted)
            if arguments.report:
                write_joints_report(savepath, run.description, videos, records, counted, tables)


def propagate_one(video: Video, features: Features, bar: tqdm, *, size: int) -> dict[str, Any]:
    """Propagate the heat maps of one video.

    Returns its record: frames, seconds, predicted joints in pixels [T, J, 2].
    """
    propagator = features.propagator()
    height, width = video.frame_size
    cell_size = np.array([width, height]) / size * features.stride  # in pixels of the original frame
    first = heat_maps(torch.from_numpy((video.joints[0] / cell_size).astype(np.float32)), *features.grid(size))
    predicted, seconds = [], 0.0
    for index, frame in enumerate(read_ahead(map(features.prepare, read_squeezed(video.frames, size)))):
        began = time.perf_counter()
        soft = propagator.step(frame.to(features.device), None if index else first).soft
        predicted.append(joint_positions(soft[1:].float().cpu()).numpy() * cell_size)
        seconds += time.perf_counter() - began
        bar.update()
    joints = np.array(predicted).astype(object)
    joints[np.isnan(predicted)] = None  # lost joints, as JSON null
    return {"frames": len(video.frames), "seconds": seconds, "joints": joints.tolist()}


if __name__ == "__main__":
    run_main(main)

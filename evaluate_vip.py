"""VIP: propagate human part labels from the first frame, and score them by mean IoU over 20 classes."""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataloaders.frames import read_squeezed
from dataloaders.vip import Video, load_videos
from evaluation.features import Features, add_feature_options, feature_options
from evaluation.report import REPORT, add_report_option
from evaluation.run import open_run
from evaluation.vip import (
    RECORD_KEYS,
    empty_counts,
    mask_path,
    resize_nearest,
    score_frame,
    score_video,
    write_results,
    write_vip_report,
)
from utils.background import in_background, read_ahead
from utils.errors import run_main
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated
from utils.visualize import write_mask

OUTPUTS = ("sequences", "masks", "classes.csv", "results.json", REPORT)
SAME_RUN = ("datapath", "videos", "size")  # with FeatureOptions, these identify a run


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    add_feature_options(parser)
    add_report_option(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/vip"), help="folder with Images and Annotations")
    parser.add_argument("--videos", type=comma_separated, metavar="A,B", help="evaluate only these videos")
    parser.add_argument("--size", type=at_least(16), default=560, help="frames are resized to SIZE x SIZE pixels")
    parser.add_argument("--without_first", action="store_true", help="do not score the first frame, which is given")
    add_savepath_options(parser, default="results/vip")
    return parser.parse_args()


def main() -> None:
    """Propagate the part labels and score them."""
    arguments = parse_arguments()
    videos = load_videos(arguments.datapath, arguments.videos)
    same = {name: getattr(arguments, name) for name in SAME_RUN}
    options, savepath, overwrite = feature_options(arguments), arguments.savepath, arguments.overwrite
    with open_run(options, savepath, same, OUTPUTS, RECORD_KEYS, overwrite=overwrite) as run:
        for video in run.unfinished(videos):
            run.keep(video, propagate_one(video, run.features, savepath, run.bar, size=arguments.size))
        if run.is_main:
            records, without_first = run.records(videos), arguments.without_first
            tables = write_results(savepath, run.description, records, without_first=without_first)
            if arguments.report:
                description = run.description | {"without_first": without_first}
                write_vip_report(savepath, description, videos, records, tables)


def propagate_one(video: Video, features: Features, savepath: Path, bar: tqdm, *, size: int) -> dict[str, Any]:
    """Propagate one video; masks are written to SAVEPATH/masks, at the size of the ground truth.

    Returns its record: frames, seconds, confusion matrices, mean IoU of each frame but the first.
    """
    objects, counts, given = features.without_resizing().objects(), empty_counts(video), video.given()
    first = resize_nearest(given, (size, size))
    with in_background() as submit:
        frames = read_ahead(objects.prepare(frame) for frame in read_squeezed(video.frames, size))
        for index, frame in enumerate(frames):
            predicted = objects.step(frame, None if index else first)
            mask = resize_nearest(predicted, given.shape) if index else given
            submit(write_mask, mask_path(savepath, video, index), mask)
            submit(score_frame, counts, video, index, mask)
            bar.update()
    return {"frames": len(video.frames), "seconds": objects.seconds, **score_video(counts)}


if __name__ == "__main__":
    run_main(main)

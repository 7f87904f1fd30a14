"""YouTube-VOS 2018 and 2019: propagate objects as they appear, write submission.zip, score if ground truth exists."""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataloaders.frames import read_frames
from dataloaders.youtube_vos import META, Video, load_videos
from evaluation.features import Features, add_feature_options, feature_options, require_native_frames
from evaluation.report import REPORT, add_report_option
from evaluation.run import open_run
from evaluation.youtube_vos import (
    RECORD_KEYS,
    empty_scores,
    mask_path,
    score_frame,
    write_results,
    write_youtube_vos_report,
)
from models.propagation import unknown_elsewhere
from utils.background import in_background, read_ahead
from utils.errors import run_main
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated
from utils.visualize import write_mask

OUTPUTS = ("sequences", "Annotations", "submission.zip", "results.json", REPORT)
SAME_RUN = ("datapath", "subset", "videos", "all_frames", "max_side")  # with FeatureOptions, these identify a run


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    add_feature_options(parser)
    add_report_option(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/youtube-vos"), help="folder with SUBSET/meta.json")
    parser.add_argument("--subset", default="valid", help="folder of the set in --datapath")
    parser.add_argument("--videos", type=comma_separated, metavar="A,B", help="evaluate only these videos")
    parser.add_argument("--all_frames", action="store_true", help="propagate through the frames of SUBSET_all_frames")
    parser.add_argument("--max_side", type=at_least(16), help="downscale larger frames to this longer side")
    parser.add_argument("--seen", type=Path, help="meta.json of the training set; default: DATAPATH/train/meta.json")
    add_savepath_options(parser, default="results/youtube-vos")
    return parser.parse_args()


def main() -> None:
    """Propagate the objects, write and check the submission, and score it if the ground truth exists."""
    arguments = parse_arguments()
    videos = load_videos(arguments.datapath, arguments.subset, arguments.videos, all_frames=arguments.all_frames)
    same = {name: getattr(arguments, name) for name in SAME_RUN}
    options, savepath, overwrite = feature_options(arguments), arguments.savepath, arguments.overwrite
    require_native_frames(options, arguments.max_side)
    with open_run(options, savepath, same, OUTPUTS, RECORD_KEYS, overwrite=overwrite) as run:
        for video in run.unfinished(videos):
            run.keep(video, propagate_one(video, run.features, savepath, run.bar, max_side=arguments.max_side))
        if run.is_main:
            records, seen = run.records(videos), arguments.seen or arguments.datapath / "train" / META
            scores = write_results(savepath, run.description, videos, records, seen, named=arguments.seen is not None)
            if arguments.report:
                write_youtube_vos_report(savepath, run.description, videos, records, scores)


def propagate_one(
    video: Video, features: Features, savepath: Path, bar: tqdm, *, max_side: int | None
) -> dict[str, Any]:
    """Propagate one video; the expected masks are written to SAVEPATH/Annotations.

    Returns its record: frames, seconds, vanished objects, J and F of each object.
    """
    objects, scores = features.objects(max_side), empty_scores(video)
    with in_background() as submit:
        frames = read_ahead((frame, objects.prepare(frame)) for frame in read_frames(video.frames))
        for index, (frame, prepared) in enumerate(frames):
            given, name = video.given(index, frame), video.frames[index].stem
            mask = objects.step(prepared, unknown_elsewhere(given) if index and given is not None else given)
            if name in video.wanted:
                submit(write_mask, mask_path(savepath, video, name), mask)
                if video.scored:
                    submit(score_frame, scores, video, name, mask)
            bar.update()
    return {
        "frames": len(video.frames),
        "seconds": objects.seconds,
        "vanished": {number: video.frames[i].stem for number, i in objects.vanished.items()},
        "objects": scores if video.scored else {},
    }


if __name__ == "__main__":
    run_main(main)

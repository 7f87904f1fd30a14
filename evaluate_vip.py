"""VIP: propagate the parts of people from the first frame, and score them by mean IoU over 20 classes."""

import argparse
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dataloaders.video import read_frame, read_mask, read_squeezed, require_size
from dataloaders.vip import CLASSES, Video, load_videos
from encoders import Features
from evaluation import Record, add_evaluation_options, evaluate, masks_of
from functional.metrics import class_ious, confusion
from utils.beside import in_background
from utils.errors import run
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated
from utils.report import REPORT, Picture, Section, to_show, write_report
from utils.savepath import write_csv, write_json
from utils.visualize import overlay, write_mask

OUTPUTS = ("masks", "sequences", "classes.csv", "results.json", REPORT)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    add_evaluation_options(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/vip"), help="folder with Images and Annotations")
    parser.add_argument("--videos", type=comma_separated, metavar="A,B", help="only these videos")
    parser.add_argument("--size", type=at_least(16), default=560, help="side of the square that frames are squeezed to")
    parser.add_argument("--without_first", action="store_true", help="do not count the frame whose classes are given")
    add_savepath_options(parser, default="results/vip")
    return parser.parse_args()


def main() -> None:
    """Propagate and score."""
    arguments = parse_arguments()
    videos = load_videos(arguments.datapath, arguments.videos)
    one = partial(propagate_one, savepath=arguments.savepath, size=arguments.size)
    finish = partial(write_results, videos, arguments)
    evaluate(
        videos,
        one,
        finish,
        arguments,
        outputs=OUTPUTS,
        holds=("first", "later", "mIoU"),
        unlike={"without_first", "report"},
    )


def propagate_one(video: Video, bar: tqdm, *, features: Features, savepath: Path, size: int) -> Record:
    """Propagate one video; its masks go to SAVEPATH/masks, in the size of the true ones."""
    given = video.given()
    objects, folder = features.objects(), savepath / "masks" / video.name
    counts = np.zeros((len(video.frames), len(CLASSES), len(CLASSES)), np.int64)

    def put_away(index: int, mask: np.ndarray) -> None:
        truth = video.truth(index)
        require_size(video.masks[index], truth, given.shape)
        mask = resize_nearest(mask, truth.shape)
        write_mask(folder / f"{video.frames[index].stem}.png", mask)
        counts[index] = confusion(mask, truth, len(CLASSES))

    with in_background() as beside:
        frames = read_squeezed(video.frames, size)
        first = resize_nearest(given, (size, size))
        for index, (_, mask) in enumerate(masks_of(objects, frames, lambda index, _: None if index else first)):
            beside(put_away, index, mask)
            bar.update()
    over_time = [float(np.nanmean(class_ious(of_frame))) for of_frame in counts[1:]]
    first, later = counts[0].tolist(), counts[1:].sum(0).tolist()
    return {"frames": len(video.frames), "seconds": objects.seconds, "first": first, "later": later, "mIoU": over_time}


def resize_nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask [H, W] at another size (height, width)."""
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def write_results(
    videos: list[Video], arguments: argparse.Namespace, description: dict, records: dict[str, Record]
) -> None:
    """The IoU of every class that occurs, over all pixels of all frames, and their mean."""
    counts = sum(np.array(record["later"]) for record in records.values())
    savepath, without_first = arguments.savepath, arguments.without_first
    if not without_first:
        counts = counts + sum(np.array(record["first"]) for record in records.values())
    ious = class_ious(counts)
    rows = [{"Class": name, "IoU": iou} for name, iou in zip(CLASSES, ious.tolist(), strict=True) if not np.isnan(iou)]
    mean = float(np.nanmean(ious))
    for row in rows:
        print(f"{row['Class']:<14} {100 * row['IoU']:5.1f}")
    counted = "without" if without_first else "with"
    print(f"mIoU {100 * mean:.1f}, {counted} the first frames")
    write_csv(savepath / "classes.csv", rows)
    results = {"arguments": description, "mIoU": mean, "first_frame_counts": not without_first, "classes": rows}
    write_json(savepath / "results.json", results | {"sequences": records})
    if arguments.report:
        sections = (section(video, savepath / "masks" / video.name, records[video.name]) for video in videos)
        write_report(
            savepath / REPORT, "VIP: parts propagated from the first frame", [[{"mIoU": mean}], rows], sections
        )


def section(video: Video, masks: Path, record: Record) -> Section:
    """One video's mean IoU over time, and its worst frames."""
    pictures = []
    for i, caption in to_show(len(video.frames), record["mIoU"]):
        frame, mask = read_frame(video.frames[i]), read_mask(masks / f"{video.frames[i].stem}.png")
        pictures.append(Picture(caption, overlay(frame, resize_nearest(mask, frame.shape[:2]))))
    return Section(video.name, {"mIoU": record["mIoU"]}, first=1, pictures=pictures)


if __name__ == "__main__":
    run(main)

"""VIP: propagate the parts of people from the first frame, and score them by mean IoU over 20 classes."""

import argparse
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dataloaders.vip import CLASSES, Video, load_videos
from evaluation import Features, Record, add_evaluation_options, evaluate, masks_of
from functional.metrics import class_ious, confusion
from utils.beside import in_background
from utils.errors import run
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated
from utils.savepath import write_csv, write_json
from utils.visualize import write_mask

OUTPUTS = ("masks", "sequences", "classes.csv", "results.json")


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
    finish = partial(write_results, arguments.savepath, without_first=arguments.without_first)
    evaluate(videos, one, finish, arguments, outputs=OUTPUTS, unlike={"without_first"})


def propagate_one(video: Video, bar: tqdm, *, features: Features, savepath: Path, size: int) -> Record:
    """Propagate one video; its masks go to SAVEPATH/masks, in the size of the true ones."""
    objects, folder = features.objects(), savepath / "masks" / video.name
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.zeros((len(video.frames), len(CLASSES), len(CLASSES)), np.int64)

    def put_away(index: int, mask: np.ndarray) -> None:
        truth = video.truth(index)
        mask = resize_nearest(mask, truth.shape)
        write_mask(folder / f"{video.frames[index].stem}.png", mask)
        counts[index] = confusion(mask, truth, len(CLASSES))

    with in_background() as beside:
        frames = (video.read_frame(index, size) for index in range(len(video.frames)))
        first = resize_nearest(video.truth(0), (size, size))
        for index, (_, mask) in enumerate(masks_of(objects, frames, {0: first}.get)):
            beside(put_away, index, mask)
            bar.update()
    first, later = counts[0].tolist(), counts[1:].sum(0).tolist()
    return {"frames": len(video.frames), "seconds": objects.seconds, "first": first, "later": later}


def resize_nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask [H, W] at another size (height, width)."""
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def write_results(savepath: Path, description: dict, records: dict[str, Record], *, without_first: bool) -> None:
    """The IoU of every class over all pixels of all frames, and their mean."""
    counts = sum(np.array(record["later"]) for record in records.values())
    if not without_first:
        counts = counts + sum(np.array(record["first"]) for record in records.values())
    ious = class_ious(counts)
    rows = [{"Class": name, "IoU": iou} for name, iou in zip(CLASSES, ious.tolist(), strict=True)]
    mean = float(np.nanmean(ious))
    for row in rows:
        print(f"{row['Class']:<14} {100 * row['IoU']:5.1f}")
    counted = "without" if without_first else "with"
    print(f"mIoU {100 * mean:.1f}, {counted} the first frames")
    write_csv(savepath / "classes.csv", rows)
    results = {"arguments": description, "mIoU": mean, "first_frame_counts": not without_first, "classes": rows}
    write_json(savepath / "results.json", results | {"sequences": records})


if __name__ == "__main__":
    run(main)

"""Carry the objects of one frame through any video: masks, and a video of them over the frames.

    python propagate.py video.mp4 --mask first.png --savepath results/video
    python propagate.py frames/ --mask first.png 120=later.png --savepath results/frames

A mask is an indexed or 8-bit grey image of the frames' size, 0 the background, 1 … 255 objects. One that is named by a
frame's number (from 0) adds its objects there, or corrects them.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dataloaders.video import (
    MAX_RATE,
    USUAL_RATE,
    list_frames,
    read_frame,
    read_frames,
    read_mask,
    read_video,
    require_size,
)
from encoders import add_features_options, load_features
from evaluation import masks_of
from models.objects import ObjectPropagator
from utils.beside import in_background
from utils.checkpoint import sha256
from utils.device import select_device
from utils.errors import UserError, run, warn
from utils.options import DEFAULT_CHECKPOINT, ArgumentParser, add_savepath_options, at_least, json_values
from utils.savepath import open_savepath
from utils.visualize import VideoWriter, overlay, write_mask

OUTPUTS = ("masks", "overlay.mp4")


class Source(NamedTuple):
    """A video to read."""

    frames: Iterator[np.ndarray]  # BGR uint8 [H, W, 3]
    size: tuple[int, int]  # their height and width
    count: int | None  # where the file says so; it may be wrong
    rate: Fraction  # frames a second


class GivenMask(NamedTuple):
    """A mask file, and the number of the frame it belongs to."""

    frame: int
    path: Path


def given_mask(text: str) -> GivenMask:
    """The type of an option that takes `first.png` or `120=later.png`."""
    number, equals, path = text.partition("=")
    if not equals:
        return GivenMask(0, Path(text))
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not NUMBER=FILE")
    return GivenMask(int(number), Path(path))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, help="a video file, or a folder of frames")
    parser.add_argument(
        "--mask", type=given_mask, nargs="+", required=True, metavar="FILE|N=FILE", help="what to follow"
    )
    parser.add_argument("--max_side", type=at_least(16), help="propagate frames no larger than this: faster, coarser")
    parser.add_argument(
        "--rate",
        type=int,
        choices=range(1, MAX_RATE + 1),
        metavar="N",
        help="frames a second of the overlay; else those of the video",
    )
    add_features_options(parser)
    add_savepath_options(parser, default="results/video")
    arguments = parser.parse_args()
    numbers = [mask.frame for mask in arguments.mask]
    if len(set(numbers)) < len(numbers):
        parser.error("--mask: two masks for one frame")
    if arguments.rate and arguments.rate > MAX_RATE:
        parser.error(f"--rate {arguments.rate}: at most {MAX_RATE}")
    if arguments.encoder is None and arguments.resume.resolve() == DEFAULT_CHECKPOINT:
        arguments.usemomen = arguments.compact = True  # what the checkpoint that comes with the repository is for
    return arguments


def main() -> None:
    """Propagate, write masks and overlay."""
    arguments = parse_arguments()
    masks = {mask.frame: mask.path for mask in arguments.mask}
    source = open_source(arguments.video, list(masks.values()))
    if arguments.video.is_dir():
        require_frames(masks, source.count)
    for path in masks.values():
        mask = read_mask(path)
        require_size(path, mask, source.size)
        if not mask.any():
            raise UserError(f"--mask {path}: has no object")
    features = load_features(arguments, select_device(arguments.device, tf32=arguments.tf32))
    description = json_values(vars(arguments), without={"savepath", "overwrite", "mask"})
    description["mask"] = {str(frame): sha256(path) for frame, path in masks.items()}
    with open_savepath(arguments.savepath, description, outputs=OUTPUTS, overwrite=arguments.overwrite):
        rate = Fraction(arguments.rate) if arguments.rate else source.rate
        count = propagate(source, masks, features.objects(arguments.max_side), arguments.savepath, rate)
    if source.count and count < source.count:
        warn(f"{arguments.video}: says it has {source.count} frames, but OpenCV decodes {count}; it may be cut off")
    require_frames(masks, count)
    print(f"{count} frames: {arguments.savepath / 'masks'}, {arguments.savepath / 'overlay.mp4'}")


def require_frames(masks: dict[int, Path], count: int) -> None:
    """UserError unless every mask's frame is one of the video's."""
    if late := [frame for frame in masks if frame >= count]:
        raise UserError(f"--mask {late[0]}={masks[late[0]]}: the video has {count} frames, numbered from 0")


def open_source(path: Path, masks: list[Path]) -> Source:
    """A video file's frames, or a folder's; masks that lie in the folder are no frames."""
    if path.is_dir():
        frames = list_frames(path, but=masks)
        return Source(read_frames(frames), read_frame(frames[0]).shape[:2], len(frames), Fraction(USUAL_RATE))
    return Source(*read_video(path))


def propagate(source: Source, masks: dict[int, Path], objects: ObjectPropagator, savepath: Path, rate: Fraction) -> int:
    """Write SAVEPATH/masks/00000.png … and SAVEPATH/overlay.mp4; the number of frames."""
    folder, count = savepath / "masks", 0
    with VideoWriter(savepath / "overlay.mp4", rate) as video, in_background() as beside:

        def put_away(index: int, frame: np.ndarray, mask: np.ndarray) -> None:
            write_mask(folder / f"{index:05d}.png", mask)
            video.write(overlay(frame, mask))

        found = masks_of(objects, source.frames, partial(read_given, masks))
        for frame, mask in tqdm(found, total=source.count, unit="frame"):
            beside(put_away, count, frame, mask)
            count += 1
    return count


def read_given(masks: dict[int, Path], index: int, frame: np.ndarray) -> np.ndarray | None:
    """The mask that was named for a frame; none for the others, but an empty one for the first."""
    if index not in masks:
        return None if index else np.zeros(frame.shape[:2], np.uint8)
    return read_mask(masks[index])


if __name__ == "__main__":
    run(main)

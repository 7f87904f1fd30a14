"""Propagate the objects of a mask through any video; write a mask for each frame and an overlay video.

    python propagate.py video.mp4 --mask first.png --savepath results/video
    python propagate.py frames/ --mask first.png 120=later.png --savepath results/frames

A mask is an indexed or 8-bit grey image of the frames' size, 0 the background, 1 … 255 objects. N=FILE gives the mask
of frame N, counted from 0; its objects are added there, or replaced by it.
"""

import argparse
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dataloaders.frames import list_frames, read_frame, read_frames, require_size
from dataloaders.masks import read_mask
from dataloaders.video import MAX_RATE, USUAL_RATE, read_video
from evaluation.features import (
    DEFAULT_CHECKPOINT,
    add_feature_options,
    feature_options,
    load_features,
    require_native_frames,
)
from models.propagation import NonFiniteFeaturesError, ObjectPropagator, unknown_elsewhere
from utils.background import in_background, read_ahead
from utils.checkpoint import sha256
from utils.device import select_device
from utils.distributed import works_alone
from utils.errors import UserError, run_main, warn
from utils.inputs import describe_inputs
from utils.options import ArgumentParser, add_savepath_options, at_least, json_values
from utils.savepath import open_savepath
from utils.visualize import VideoWriter, write_mask

OUTPUTS = ("masks", "overlay.mp4")
SAME_RUN = ("video", "max_side", "rate")  # with FeatureOptions and the masks, these identify a run


class Source(NamedTuple):
    """An opened video."""

    frames: Iterator[np.ndarray]  # BGR uint8 [H, W, 3]
    size: tuple[int, int]  # height and width of the frames
    length: int | None  # number of frames according to the file, which may be wrong
    rate: Fraction  # frames per second
    files: Sequence[Path]


class GivenMask(NamedTuple):
    """A mask file and the number of its frame."""

    frame: int
    path: Path


def given_mask(text: str) -> GivenMask:
    """Parse an argument of the form `first.png` or `120=later.png`."""
    number, equals, path = text.partition("=")
    if not equals:
        return GivenMask(0, Path(text))
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not NUMBER=FILE")
    return GivenMask(int(number), Path(path))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, help="a video file, or a folder of frames")
    parser.add_argument(
        "--mask", type=given_mask, nargs="+", required=True, metavar="FILE|N=FILE", help="objects to propagate"
    )
    parser.add_argument("--max_side", type=at_least(16), help="downscale larger frames to this longer side")
    parser.add_argument("--rate", type=at_least(1), help="frames per second of the overlay; default: as the video")
    add_feature_options(parser)
    add_savepath_options(parser, default="results/video")
    arguments = parser.parse_args()
    numbers = [mask.frame for mask in arguments.mask]
    if len(set(numbers)) < len(numbers):
        parser.error("--mask: two masks are given for one frame; pass one mask per frame")
    if arguments.rate and arguments.rate > MAX_RATE:
        parser.error(f"--rate {arguments.rate}: must be at most {MAX_RATE} frames per second")
    if arguments.encoder is None and arguments.resume.resolve() == DEFAULT_CHECKPOINT:
        arguments.usemomen = True  # as the default checkpoint was trained
        arguments.compact = arguments.protocol in (None, "liir")
    return arguments


def main() -> None:
    """Propagate the masks, and write masks and overlay."""
    arguments = parse_arguments()
    if not works_alone("propagate.py"):
        return
    masks, options = {mask.frame: mask.path for mask in arguments.mask}, feature_options(arguments)
    require_native_frames(options, arguments.max_side)
    source = open_source(arguments.video, masks)
    require_masks(masks, source.size)
    features = load_features(options, select_device(options.device, tf32=options.tf32))
    same = json_values({**vars(options), **{name: getattr(arguments, name) for name in SAME_RUN}})
    same |= {**features.identity, "mask": {str(frame): sha256(path) for frame, path in masks.items()}}
    savepath, rate = arguments.savepath, Fraction(arguments.rate) if arguments.rate else source.rate
    inputs, overwrite = describe_inputs(source.files), arguments.overwrite
    with open_savepath(savepath, same, outputs=OUTPUTS, overwrite=overwrite, inputs=inputs):
        try:
            count = propagate(source, masks, features.objects(arguments.max_side), savepath, rate)
        except NonFiniteFeaturesError as error:
            raise UserError(f"{error}; the checkpoint or the encoder is broken") from error
    if source.length and count < source.length:
        warn(f"{arguments.video}: says it has {source.length} frames, but OpenCV decodes {count}; it may be truncated")
    require_frames(masks, count)
    print(f"{count} frames: {savepath / 'masks'}, {savepath / 'overlay.mp4'}")


def require_masks(masks: dict[int, Path], size: tuple[int, int]) -> None:
    """Raise UserError unless every mask has the frames' size (height, width) and contains an object."""
    for path in masks.values():
        mask = read_mask(path, among=masks.values())
        require_size(path, mask, size)
        if not mask.any():
            raise UserError(f"--mask {path}: contains no object; objects have the values 1 … 255")


def require_frames(masks: dict[int, Path], count: int) -> None:
    """Raise UserError unless the video has a frame for every mask."""
    if late := [frame for frame in masks if frame >= count]:
        raise UserError(f"--mask {late[0]}={masks[late[0]]}: the video has {count} frames, numbered from 0")


def open_source(path: Path, masks: dict[int, Path]) -> Source:
    """Open a video file, or a folder of frames, which may also contain the masks; masks: paths by frame number."""
    if not path.is_dir():
        return Source(*read_video(path), [path])
    frames = list_frames(path, but=masks.values())
    require_frames(masks, len(frames))
    return Source(read_frames(frames), read_frame(frames[0]).shape[:2], len(frames), Fraction(USUAL_RATE), frames)


def propagate(source: Source, masks: dict[int, Path], objects: ObjectPropagator, savepath: Path, rate: Fraction) -> int:
    """Write SAVEPATH/masks/00000.png … and SAVEPATH/overlay.mp4; return the number of frames."""
    count = 0
    with VideoWriter(savepath / "overlay.mp4", rate) as video, in_background() as submit:
        frames = read_ahead((frame, objects.prepare(frame)) for frame in source.frames)
        for frame, prepared in tqdm(frames, total=source.length, unit="frame"):
            mask = objects.step(prepared, given_labels(masks, count, frame))
            submit(write_mask, savepath / "masks" / f"{count:05d}.png", mask)
            submit(video.write_overlay, frame, mask)
            count += 1
    return count


def given_labels(masks: dict[int, Path], index: int, frame: np.ndarray) -> np.ndarray | None:
    """Return the ids given for a frame [H, W], else None; an empty mask if none is given for frame 0.

    A later mask adds its objects or replaces them; what it has no object for is predicted.
    """
    if index not in masks:
        return None if index else np.zeros(frame.shape[:2], np.uint8)
    mask = read_mask(masks[index], among=masks.values())
    return unknown_elsewhere(mask) if index else mask


if __name__ == "__main__":
    run_main(main)

"""Propagate the objects of a mask through any video; write a mask for each frame and an overlay video.

    python propagate.py video.mp4 --mask first.png --savepath results/video
    python propagate.py frames/ --mask first.png 120=later.png --savepath results/frames

A mask is an indexed or grey image of the frames' size, 0 the background, 1 … 255 objects, or one in which every colour
is an object. N=FILE gives the mask of frame N, counted from 0; its objects are added there, or replaced by it.
"""

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dataloaders.frames import list_frames, read_frame, read_frames, require_size
from dataloaders.masks import describe_ids, read_mask
from dataloaders.names import some
from dataloaders.video import MAX_RATE, USUAL_RATE, Frame, Video, read_video
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
from utils.video_writer import VideoWriter
from utils.visualize import write_mask

OUTPUTS = ("masks", "overlay.mp4")
SAME_RUN = ("video", "max_side", "rate")  # with FeatureOptions and the masks, these identify a run
SHOWN = 8  # lost objects that are named
TELEVISION_ROUNDING = Fraction(1, 200)  # 29.97 and 23.98 are rounded from 30000/1001 and 24000/1001


class GivenMask(NamedTuple):
    """A mask file and the number of its frame."""

    frame: int
    path: Path


def given_mask(text: str) -> GivenMask:
    """Parse an argument of the form `first.png` or `120=later.png`; only digits before a `=` are a frame's number."""
    number, equals, path = text.partition("=")
    if equals and number.isascii() and number.isdecimal():
        return GivenMask(int(number), Path(path))
    if equals and not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text} is neither a file nor NUMBER=FILE")
    return GivenMask(0, Path(text))


def frame_rate(text: str) -> Fraction:
    """Parse frames per second, such as `25`, `29.97` or `30000/1001`; 29.97 is the 30000/1001 of television."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no frame rate; pass one as 25, 29.97 or 30000/1001") from error
    if not 1 <= rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and {MAX_RATE} frames per second")
    television = Fraction(round(rate) * 1000, 1001)
    is_television = rate.denominator > 1 and abs(rate - television) < TELEVISION_ROUNDING
    return television if is_television else rate.limit_denominator(1001)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, help="a video file, or a folder of frames")
    parser.add_argument(
        "--mask", type=given_mask, nargs="+", required=True, metavar="FILE|N=FILE", help="objects to propagate"
    )
    parser.add_argument("--max_side", type=at_least(16), help="downscale larger frames to this longer side")
    parser.add_argument(
        "--rate", type=frame_rate, help="frames per second of the overlay, without sound; default: as the video"
    )
    add_feature_options(parser)
    add_savepath_options(parser, default="results/video")
    arguments = parser.parse_args()
    numbers = [mask.frame for mask in arguments.mask]
    if len(set(numbers)) < len(numbers):
        parser.error("--mask: two masks are given for one frame; pass one mask per frame")
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
    video, files = open_video(arguments.video, masks)
    require_masks(masks, video.size)
    features = load_features(options, select_device(options.device, tf32=options.tf32))
    same = json_values({**vars(options), **{name: getattr(arguments, name) for name in SAME_RUN}})
    same |= {**features.identity, "mask": {str(frame): sha256(path) for frame, path in masks.items()}}
    savepath, inputs, objects = arguments.savepath, describe_inputs(files), features.objects(arguments.max_side)
    with open_savepath(savepath, same, outputs=OUTPUTS, overwrite=arguments.overwrite, inputs=inputs):
        try:
            count = propagate(video, masks, objects, savepath, arguments.rate)
        except NonFiniteFeaturesError as error:
            raise UserError(f"{error}; the checkpoint or the encoder is broken") from error
    for problem in video.problems:
        warn(f"{arguments.video}: {problem}")
    if objects.vanished:
        lost = [f"object {number} vanished in frame {frame}" for number, frame in objects.vanished.items()]
        warn(f"{arguments.video}: {some(lost, SHOWN)}; a later mask can bring it back")
    require_frames(masks, count)
    print(f"{count} frames: {savepath / 'masks'}, {savepath / 'overlay.mp4'}")


def require_masks(masks: dict[int, Path], size: tuple[int, int]) -> None:
    """Raise UserError unless every mask has the frames' size (height, width) and an object; print its objects."""
    for path in masks.values():
        mask = read_mask(path, among=masks.values())
        require_size(path, mask, size)
        if not mask.any():
            raise UserError(f"--mask {path}: contains no object; objects have the values 1 … 255")
        print(f"{path}: {describe_ids(mask)}")


def require_frames(masks: dict[int, Path], count: int) -> None:
    """Raise UserError unless the video has a frame for every mask."""
    if late := [frame for frame in masks if frame >= count]:
        raise UserError(f"--mask {late[0]}={masks[late[0]]}: the video has {count} frames, numbered from 0")


def open_video(path: Path, masks: dict[int, Path]) -> tuple[Video, Sequence[Path]]:
    """Open a video file, or a folder of frames, which may also contain the masks; return it and its files.

    masks: paths by frame number.
    """
    if not path.is_dir():
        video, files = read_video(path), [path]
    else:
        files = list_frames(path, but=masks.values())
        frames = (Frame(pixels) for pixels in read_frames(files))
        video = Video(frames, read_frame(files[0]).shape[:2], len(files), Fraction(USUAL_RATE))
    require_frames(masks, video.length)
    return video, files


def propagate(
    video: Video, masks: dict[int, Path], objects: ObjectPropagator, savepath: Path, rate: Fraction | None
) -> int:
    """Write SAVEPATH/masks/00000.png … and SAVEPATH/overlay.mp4; return the number of frames.

    rate: frames per second of the overlay; None: its frames have the times of the video's, and it has its sound.
    """
    count, path = 0, savepath / "overlay.mp4"
    time_base, sound = (None, None) if rate else (video.time_base, video.sound)
    writer = VideoWriter(path, rate or video.rate, time_base=time_base, aspect=video.aspect, sound=sound)
    with writer, in_background() as submit:
        frames = read_ahead((frame, objects.prepare(frame.pixels)) for frame in video.frames)
        for frame, prepared in tqdm(frames, total=video.length, unit="frame"):
            mask = objects.step(prepared, given_labels(masks, count, frame.pixels))
            submit(write_mask, savepath / "masks" / f"{count:05d}.png", mask)
            submit(writer.write_overlay, frame.pixels, mask, frame.time, frame.duration)
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

"""What every evaluation does: deal videos out to processes, propagate them, keep what is finished."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from encoders import add_features_options, encoder_sha256, load_features
from models.objects import ObjectPropagator
from utils.beside import read_ahead
from utils.checkpoint import sha256
from utils.device import describe_device, select_device
from utils.distributed import World, join_world
from utils.errors import UserError
from utils.options import ArgumentParser, json_values
from utils.report import REPORT
from utils.savepath import open_savepath, read_json, write_json

Record = dict[str, Any]  # of a finished video
Given = Callable[[int, np.ndarray], np.ndarray | None]
Finish = Callable[[dict[str, Any], dict[str, Record]], None]  # gets what makes the run, and all records by name


class Video(Protocol):
    """What an evaluation needs to know of a video."""

    name: str
    frames: tuple[Path, ...]


def add_evaluation_options(parser: ArgumentParser) -> None:
    """What is evaluated, and what is told about it."""
    add_features_options(parser)
    parser.add_argument("--report", action="store_true", help="also write report.html: scores over time, worst frames")


def evaluate(
    videos: list[Video],
    one: Callable[..., Record],
    finish: Finish,
    arguments: Namespace,
    *,
    soft: bool = False,
    **settings: Any,
) -> None:
    """Join the other processes, load features, propagate (`propagate_videos`); `one` also takes the features.

    soft: remember soft labels, whatever the protocol says.
    """
    with join_world(select_device(arguments.device, tf32=arguments.tf32)) as world:
        with world.agreed():
            features = load_features(arguments, world.device, soft=soft)
        propagate_videos(videos, partial(one, features=features), finish, arguments, world, features.encode, **settings)


def masks_of(
    objects: ObjectPropagator, frames: Iterable[np.ndarray], given: Given
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame, BGR uint8 [H, W, 3], with the ids found in it, uint8 [H, W]; frames are read ahead.

    given: the ids known of a frame, by its index, and the frame itself; None where none are.
    """
    prepared = ((frame, objects.prepare(frame)) for frame in frames)
    for index, (frame, tensor) in enumerate(read_ahead(prepared)):
        yield frame, objects.step(tensor, given(index, frame))


def propagate_videos(
    videos: list[Video],
    one: Callable[[Video, tqdm], Record],
    finish: Finish,
    arguments: Namespace,
    world: World,
    encode: Callable[[Tensor], Tensor],
    *,
    outputs: Iterable[str],
    holds: Iterable[str],
    unlike: Iterable[str] = (),
    progress: Callable[[dict[str, Record]], str] = lambda _: "",
) -> None:
    """Each process propagates its share of the videos that an earlier run has not finished; the leading one finishes.

    one: propagates a video and yields its record; holds: what a whole record has.
    unlike: options of which two runs may differ and still be the same one.
    """
    description = describe(arguments, world.device, encode, without={"savepath", "overwrite", *unlike})
    held = open_savepath(arguments.savepath, description, outputs=outputs, overwrite=arguments.overwrite)
    with world.led(held):
        left = [0 if record_path(arguments.savepath, video).exists() else len(video.frames) for video in videos]
        left = world.gather(torch.tensor(left, device=world.device))[
            : len(videos)
        ].tolist()  # as the first process sees it
        share = [videos[i] for i in world.share(left)]
        with world.agreed():
            records: dict[str, Record] = {}
            total = sum(len(video.frames) for video in share)
            with tqdm(total=total, unit="frame", disable=not world.leads) as bar:
                for video in share:
                    bar.set_description(video.name)
                    records[video.name] = finished(video, one, arguments.savepath, bar, holds)
                    bar.set_postfix_str(progress(records))
        if world.leads:
            (arguments.savepath / REPORT).unlink(missing_ok=True)  # an earlier one may show other scores
            finish(description, {video.name: read_record(arguments.savepath, video, holds) for video in videos})


def describe(
    arguments: Namespace, device: torch.device, encode: Callable[[Tensor], Tensor], *, without: set[str]
) -> dict[str, Any]:
    """What makes two evaluations the same one."""
    features = {"device": describe_device(device)}
    if arguments.encoder is None:
        features["checkpoint_sha256"] = sha256(arguments.resume)
    else:
        features["encoder_sha256"] = encoder_sha256(arguments.encoder, encode)
    return json_values(vars(arguments), without=without) | features


def finished(
    video: Video, one: Callable[[Video, tqdm], Record], savepath: Path, bar: tqdm, holds: Iterable[str]
) -> Record:
    """A video's record, as an earlier run left it, or as it is made now."""
    path = record_path(savepath, video)
    if path.exists():
        bar.update(len(video.frames))
    else:
        record = one(video, bar)
        write_json(path, record)
    return read_record(savepath, video, holds)


def record_path(savepath: Path, video: Video) -> Path:
    """Where a finished video's record is."""
    return savepath / "sequences" / f"{video.name}.json"


def read_record(savepath: Path, video: Video, holds: Iterable[str]) -> Record:
    """A finished video's record; UserError if it is damaged."""
    path = record_path(savepath, video)
    record = read_json(path)
    if not record.keys() >= {"frames", *holds}:
        raise UserError(f"{path}: damaged (not a sequence's record); pass --overwrite to start anew")
    return record

"""What every evaluation does: load features and a protocol, deal videos out to processes, keep what is finished."""

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from functional.color import normalised_lab
from functional.correlation import BACKENDS, correlate
from models.inference import InferenceEncoder
from models.liir import LIIR, TRAINING_ONLY
from models.objects import ObjectPropagator
from models.propagation import Propagator
from models.protocol import PROTOCOLS, REFERENCE_POLICIES, Propagation
from utils.beside import read_ahead
from utils.checkpoint import load_weights, read_state_dict, sha256
from utils.device import describe_device, select_device
from utils.distributed import World, join_world
from utils.errors import UserError, warn
from utils.options import ArgumentParser, add_model_options, json_values
from utils.savepath import open_savepath, read_json, write_json

Record = dict[str, Any]  # of a finished video
Given = Callable[[int, np.ndarray], np.ndarray | None]
Finish = Callable[[dict[str, Any], dict[str, Record]], None]  # gets what makes the run, and all records by name


class Video(Protocol):
    """What an evaluation needs to know of a video."""

    name: str
    frames: tuple[Path, ...]


class Features(NamedTuple):
    """An encoder and the protocol it is propagated by."""

    encode: Callable[[Tensor], Tensor]
    propagation: Propagation
    stride: int
    prepare: Callable[[np.ndarray], Tensor]
    backend: str
    device: torch.device

    def propagator(self) -> Propagator:
        """For one video."""
        return Propagator(self.encode, self.propagation, stride=self.stride, backend=self.backend)

    def objects(self, max_side: int | None = None) -> ObjectPropagator:
        """For the masks of one video."""
        return ObjectPropagator(self.propagator(), self.prepare, max_side=max_side, device=self.device)


def add_evaluation_options(parser: ArgumentParser) -> None:
    """What is evaluated, and what is told about it."""
    add_features_options(parser)
    parser.add_argument("--report", action="store_true", help="also write report.html: scores over time, worst frames")


def add_features_options(parser: ArgumentParser) -> None:
    """What is propagated with, and on what; the reference implementation's options keep their names and defaults."""
    add_model_options(parser, backends=BACKENDS, policies=REFERENCE_POLICIES, protocols=PROTOCOLS)


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
        propagate_videos(videos, partial(one, features=features), finish, arguments, world, **settings)


def load_features(arguments: Namespace, device: torch.device, *, soft: bool = False) -> Features:
    """What the options of `add_model_options` ask for; soft: remember soft labels, whatever the protocol says."""
    require_backend(arguments.backend, device)
    stride, propagation = PROTOCOLS["liir" if arguments.encoder is None else arguments.protocol]
    if propagation == Propagation():
        propagation = Propagation.released(momentum=arguments.usemomen, compact=arguments.compact, policy=arguments.ref)
    elif arguments.usemomen or arguments.compact or arguments.ref:
        raise UserError(f"--protocol {arguments.protocol}: has no --usemomen, --compact and --ref; they are liir's")
    if arguments.encoder is None:
        encode, prepare = load_encoder(arguments.resume, device, usemomen=arguments.usemomen, amp=arguments.amp), None
    elif arguments.amp:
        raise UserError("--amp: is for LIIR's own encoder; let that of --encoder choose its precision")
    else:
        encode = import_encoder(arguments.encoder)(device)
        stride, prepare = getattr(encode, "stride", stride), getattr(encode, "prepare", None)
    propagation = replace(propagation, soft=propagation.soft or soft)
    return Features(encode, propagation, stride, prepare or normalised_lab, arguments.backend, device)


def import_encoder(name: str) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    """The function that `--encoder module:function` names, from the current folder or an installed package."""
    module, _, function = name.partition(":")
    sys.path.insert(0, here := str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--encoder {name}: cannot be imported ({error}); name it module:function") from error
    finally:
        sys.path.remove(here)


def require_backend(name: str, device: torch.device) -> None:
    """UserError unless a backend can be used here."""
    try:
        if name == "triton":
            importlib.import_module("triton")
        correlate(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), radius=0, backend=name)
    except ImportError as error:
        install = "pip install triton" if name == "triton" else "run scripts/install_sampler.sh"
        raise UserError(f"--backend {name}: {error}; {install} or use native") from error
    if name == "triton" and device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise UserError(f"--backend triton: needs a CUDA device, not {device.type}; use native")


def load_encoder(path: Path, device: torch.device, *, usemomen: bool, amp: bool = False) -> InferenceEncoder:
    """The encoder and pixel head in a checkpoint, made fast; amp: in bfloat16."""
    dtype = torch.bfloat16 if amp else torch.float32
    return InferenceEncoder(load_model(path, usemomen=usemomen)).to(device, dtype)


def load_model(path: Path, *, usemomen: bool) -> LIIR:
    """The network in a checkpoint, without what only training needs."""
    state = read_state_dict(path)
    momentum = any(name.startswith("conv_semantic_k.") for name in state)
    if usemomen and not momentum:
        warn(f"--usemomen, but {path} holds no key head (conv_semantic_k): it may not be an inter-video model")
    if momentum and not usemomen:
        warn(f"{path} holds a key head (conv_semantic_k): if it is an inter-video model, it wants --usemomen")
    model = LIIR()
    load_weights(model, state, path, unused=TRAINING_ONLY)
    return model.eval().requires_grad_(False)


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
    *,
    outputs: Iterable[str],
    unlike: Iterable[str] = (),
    progress: Callable[[dict[str, Record]], str] = lambda _: "",
) -> None:
    """Each process propagates its share of the videos that an earlier run has not finished; the leading one finishes.

    one: propagates a video and yields its record.
    unlike: options of which two runs may differ and still be the same one.
    """
    description = describe(arguments, world.device, without={"savepath", "overwrite", *unlike})
    held = open_savepath(arguments.savepath, description, outputs=outputs, overwrite=arguments.overwrite)
    share = [videos[i] for i in world.share([len(video.frames) for video in videos])]
    with world.led(held):
        with world.agreed():
            records: dict[str, Record] = {}
            total = sum(len(video.frames) for video in share)
            with tqdm(total=total, unit="frame", disable=not world.leads) as bar:
                for video in share:
                    bar.set_description(video.name)
                    records[video.name] = finished(video, one, arguments.savepath, bar)
                    bar.set_postfix_str(progress(records))
        if world.leads:
            finish(description, {video.name: read_record(arguments.savepath, video) for video in videos})


def describe(arguments: Namespace, device: torch.device, *, without: set[str]) -> dict[str, Any]:
    """What makes two evaluations the same one."""
    features = {"device": describe_device(device)}
    if arguments.encoder is None:
        features["checkpoint_sha256"] = sha256(arguments.resume)
    return json_values(vars(arguments), without=without) | features


def finished(video: Video, one: Callable[[Video, tqdm], Record], savepath: Path, bar: tqdm) -> Record:
    """A video's record, as an earlier run left it, or as it is made now."""
    path = record_path(savepath, video)
    if path.exists():
        bar.update(len(video.frames))
    else:
        record = one(video, bar)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
    return read_record(savepath, video)


def record_path(savepath: Path, video: Video) -> Path:
    """Where a finished video's record is."""
    return savepath / "sequences" / f"{video.name}.json"


def read_record(savepath: Path, video: Video) -> Record:
    """A finished video's record; UserError if it is damaged."""
    path = record_path(savepath, video)
    record = read_json(path)
    if "frames" not in record:
        raise UserError(f"{path}: damaged (not a sequence's record); pass --overwrite to start anew")
    return record

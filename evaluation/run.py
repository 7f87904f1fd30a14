"""A run of an evaluation: its processes, features, results folder, progress and records; evaluate_*.py loop over it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from dataloaders.names import some
from evaluation.features import FeatureOptions, Features, load_features
from evaluation.report import REPORT
from models.propagation import NonFiniteFeaturesError
from utils.device import select_device
from utils.distributed import World, join_world, local_rank
from utils.errors import UserError, warn
from utils.inputs import Inputs, changes, describe_inputs
from utils.options import json_values
from utils.savepath import INPUTS, delete, open_savepath, read_json, write_json

SHOWN = 8  # vanished objects that are named
Records = dict[str, dict[str, Any]]  # the record of each finished video, by the video's name


def print_vanished(records: Records) -> None:
    """Print which objects the last masks of their videos lack, and since which frame (`ObjectPropagator.vanished`)."""
    vanished = [
        f"{name} {number} in {frame}"
        for name, record in records.items()
        for number, frame in record.get("vanished", {}).items()
    ]
    if vanished:
        print(f"objects that vanished: {some(vanished, SHOWN)}")


class Video(Protocol):
    """The attributes of a video that a run needs."""

    @property
    def name(self) -> str: ...

    @property
    def frames(self) -> Sequence[Path]: ...

    @property
    def inputs(self) -> Sequence[Path]: ...  # all files from which the video's record is computed


V = TypeVar("V", bound=Video)


class Run:
    """An evaluation run, opened by `open_run` in this process and possibly in others."""

    def __init__(
        self,
        savepath: Path,
        world: World,
        features: Features,
        description: dict,
        record_keys: Iterable[str],
        outputs: Iterable[str] = (),
    ) -> None:
        self.savepath = savepath
        self.features = features
        self.description = description  # identifies the run, JSON values
        self.bar: tqdm = tqdm(unit="frame", disable=True)  # counts the frames of this process
        self.finished: Records = {}  # records of this process's videos
        self._world = world
        self._record_keys = {"frames", *record_keys}
        self._outputs = tuple(outputs)
        self._inputs: dict[str, Inputs] = {}  # of videos that are being propagated

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes the results."""
        return self._world.leads

    def unfinished(self, videos: Sequence[V]) -> Iterator[V]:
        """Yield this process's share of the videos that have no record yet; the caller must `keep` a record of each.

        Waits for the other processes at the end, so it must be exhausted; a UserError in one process ends them all,
        such as that the input files of a finished video have changed.
        """
        frames = [0 if self._path(video).exists() else len(video.frames) for video in videos]
        costs = self._world.gather(torch.tensor(frames, device=self.features.device))[: len(videos)].tolist()
        share = [videos[i] for i in self._world.share(costs)]
        with self._world.agreed():
            finished = [video for video in share if self._path(video).exists()]
            self._require_same_inputs(finished)
            self.finished |= self.records(finished)
        total, done = (sum(len(video.frames) for video in some) for some in (share, finished))
        with tqdm(total=total, initial=done, unit="frame", disable=not self.is_main) as self.bar:
            for video in share:
                if video.name not in self.finished:
                    self.bar.set_description(video.name)
                    self._begin(video)
                    yield video
        with self._world.agreed():
            pass

    def keep(self, video: Video, record: dict[str, Any]) -> None:
        """Write a finished video's record (JSON values), so that the video is not propagated again."""
        write_json(self._path(video), record | {INPUTS: self._inputs.pop(video.name, {})})
        self.finished |= self.records([video])

    def records(self, videos: Iterable[Video]) -> Records:
        """Read the records of all videos, from all processes; UserError if one is damaged."""
        records = {video.name: self._read(video) for video in videos}
        for record in records.values():
            record.pop(INPUTS, None)
        return records

    def _begin(self, video: Video) -> None:
        """Note a video's input files; delete the masks that an interrupted run left, perhaps of other files."""
        self._inputs[video.name] = describe_inputs(video.inputs)
        for folder in (self.savepath / name for name in self._outputs):
            if (folder / video.name).is_dir():
                delete(folder / video.name)

    def _require_same_inputs(self, finished: list[V]) -> None:
        """Raise UserError if the input files of a finished video have changed since."""
        unknown = []
        for video in finished:
            before = self._read(video).get(INPUTS)
            if before is None:
                unknown.append(video.name)
            elif changed := changes(before, describe_inputs(video.inputs)):
                where = f"--savepath {self.savepath}: {video.name} is finished, but of other files"
                raise UserError(f"{where} ({changed}); choose another folder or pass --overwrite")
        if unknown:
            kept = f"--savepath {self.savepath}: an earlier version finished {', '.join(unknown)}; they are kept"
            warn(f"{kept}, but pass --overwrite if their files have changed since")

    def _path(self, video: Video) -> Path:
        return self.savepath / "sequences" / f"{video.name}.json"

    def _read(self, video: Video) -> dict[str, Any]:
        record = read_json(self._path(video))
        if not record.keys() >= self._record_keys:
            raise UserError(f"{self._path(video)}: damaged (not a sequence's record); pass --overwrite to start again")
        return record


@contextmanager
def open_run(
    options: FeatureOptions,
    savepath: Path,
    same: dict[str, Any],
    outputs: Iterable[str],
    record_keys: Iterable[str],
    *,
    overwrite: bool,
    soft: bool = False,
) -> Iterator[Run]:
    """Join the other processes, load the features and lock the results folder.

    A run in `savepath` is continued if its features and `same` (the script's options that affect its results) are
    equal, else UserError. outputs: glob patterns of the files a run writes, which `overwrite` deletes.
    record_keys: required in every record; soft: store soft labels in every protocol.
    """
    with join_world(select_device(options.device, tf32=options.tf32, local_rank=local_rank())) as world:
        with world.agreed():
            features = load_features(options, world.device, soft=soft)
        description = json_values({**vars(options), **same}) | features.identity
        lock = open_savepath(savepath, description, outputs=outputs, overwrite=overwrite)
        with world.led(lock), world.agreed():
            if world.leads:
                delete(savepath / REPORT)  # may show scores of an earlier run
            try:
                yield Run(savepath, world, features, description, record_keys, outputs)
            except NonFiniteFeaturesError as error:
                raise UserError(f"{error}; the checkpoint or the encoder is broken") from error
